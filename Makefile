# Everything runs from .venv, made on first use.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = .venv/bin

.PHONY: venv test demo

venv: .venv/installed

.venv/installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

# One thread: the tests' arrays are small, and more threads only wait for each other.
test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# What the demo needs: neither PyTorch nor anything for tests.
demo:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[eval]'
	$(BIN)/python -m nic.evaluation.demo
