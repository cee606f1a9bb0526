# Everything runs from .venv, made on first use.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = .venv/bin

.PHONY: venv test newer fuzz demo

venv: .venv/installed

.venv/installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

# One thread: the tests' arrays are small, and more threads only wait for each other.
test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# Files mean the same under every newer Python that is here, without PyTorch.
NEWER ?= python3.12 python3.13 python3.14
newer:
	for python in $(NEWER); do \
		$$python -c "" 2>/dev/null || continue; \
		$$python -m venv .venv/$$python && .venv/$$python/bin/python -m pip install --quiet \
			-c constraints.txt . pytest pytest-cov hypothesis && \
		OMP_NUM_THREADS=1 .venv/$$python/bin/python -m pytest \
			tests/test_determinism.py tests/test_codec.py || exit 1; \
	done

# Coverage-guided fuzzing of each target for so many seconds; what was learned is kept in FUZZ.
SECONDS ?= 60
TARGETS ?= container symbols decode commands pillow weights
FUZZ ?= runs/fuzz
fuzz: venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[fuzz]'
	for target in $(TARGETS); do \
		PYTHONPATH=.:tests OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m fuzz \
			$$target $(FUZZ) -max_total_time=$(SECONDS) -print_final_stats=1 || exit 1; \
	done

# What the demo needs: neither PyTorch nor anything for tests.
demo:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[eval]'
	$(BIN)/python -m nic.evaluation.demo
