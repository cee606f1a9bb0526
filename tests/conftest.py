"""Shared fixtures. What needs trained weights or the image sets skips where they are absent."""

from __future__ import annotations

import dataclasses
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports NumPy or PyTorch

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# Times on a busy machine say nothing about a test.
settings.register_profile("nic", deadline=None, print_blob=True)
settings.load_profile("nic")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the image sets kodak/ and clic/."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the image sets of ../shared/data are not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def model():
    """The shipped model."""
    from nic import models

    shipped = models.WEIGHTS / "nic-1.safetensors"
    if not shipped.exists():
        pytest.skip("no trained weights in nic/weights")
    return models.load(shipped)


@pytest.fixture(scope="module")
def golden_model():
    """The model of the golden files, in place of the shipped one."""
    from vectors.make import NIC_1

    from nic import models

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "SHIPPED", NIC_1)
        yield models.load()


@pytest.fixture
def photo() -> np.ndarray:
    """(40, 56, 3) uint8: smooth colours with some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :56]
    smooth = np.stack([4 * x, 6 * y, 2 * (x + y)], axis=-1)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """An empty folder `in`, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def folder(tmp_path, monkeypatch, photo) -> Path:
    """The working folder of a test: holds photo.png; the codec is the stand-in."""
    import lossless_codec
    from PIL import Image

    import nic

    monkeypatch.setitem(sys.modules, "nic.codec", lossless_codec)
    monkeypatch.setattr(nic, "codec", lossless_codec, raising=False)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.png")
    return tmp_path


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail: returns its exit code and the one line it prints."""
    import cli

    def run(*argv: str) -> tuple[int, str]:
        code = cli.main(list(argv))
        out, err = capsys.readouterr()
        assert code != 0 and out == ""
        assert err.startswith("nic: ") and err.count("\n") == 1 and "Traceback" not in err
        return code, err

    return run


@pytest.fixture(scope="session")
def prior():
    """A small prior of random weights."""
    from small_priors import SMALL, lively_prior

    return lively_prior(SMALL)


@pytest.fixture(scope="session")
def scale_prior():
    """The same without a context and without means."""
    from small_priors import SMALL, lively_prior

    return lively_prior(dataclasses.replace(SMALL, phi_channels=0, means=False))
