"""The same file gives the same latents everywhere: golden hashes, over all that a machine may vary.

Position by position in int64, `test_reference_decoder.py` decodes them too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from vectors.make import VECTORS, picture

from nic import codec, container, models, regions, tiles
from nic.picture import Picture

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "vectors"
HASHES = {
    name: entry["latents_crc"]
    for name, entry in json.loads((FOLDER / "manifest.json").read_text()).items()
}

ENVIRONMENTS = [
    {"OPENBLAS_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
    {
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    },
]

NUMPY = """
import os, sys, zlib
from pathlib import Path
from numpy._core._multiarray_umath import __cpu_features__ as features
from nic import codec, container, models

disabled = os.environ.get("NPY_DISABLE_CPU_FEATURES", "").split()
assert not any(features.get(name) for name in disabled)
for name, weights in zip(sys.argv[1::2], sys.argv[2::2]):
    v_hat = codec.decode_latents(*container.read(Path(name).read_bytes()), models.load(weights))
    print(f"{zlib.crc32(v_hat.astype('<i4').tobytes()):08x}")
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: ",".join(e.values()))
def test_numpy(environment, model, tmp_path):
    paths = [path for name in HASHES for path in (FOLDER / f"{name}.nic", VECTORS[name].weights)]
    # And one of the shipped model, which has more channels.
    data = codec.encode(Picture(picture(100, 70)), 60, model=model)
    (tmp_path / "own.nic").write_bytes(data)
    paths += [tmp_path / "own.nic", models.SHIPPED]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NUMPY, *paths], cwd=ROOT,
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    own = f"{container.read_header(data).latents_crc:08x}"
    assert result.stdout.split() == [*HASHES.values(), own]


def device_hash(name: str, triton: bool) -> str:
    """Of a golden file of one tile, by the implementation for GPUs on this CPU."""
    from kernels.device_prior import DevicePrior

    model = models.load(VECTORS[name].weights)
    header, chunks = container.read((FOLDER / f"{name}.nic").read_bytes())
    [tile] = tiles.unpack(header, chunks)
    size = regions.size(tile.region)
    z_hat = model.prior.decode_z(tile.streams["H"], *size)
    device_prior = DevicePrior(model.prior, "cpu", triton=triton)
    streams, steps, lanes = [tile.streams["L"]], [header.quality_step], [header.lanes]
    [v_hat] = device_prior.decode_grids(streams, [z_hat], steps, [size], lanes)
    return f"{zlib.crc32(v_hat.astype('<i4').tobytes()):08x}"


@pytest.mark.parametrize("name", ["rgb-48x33-q0", "lanes-100x70-q80", "escapes-19x17-q100"])
def test_pytorch(name):
    pytest.importorskip("torch")
    assert device_hash(name, triton=False) == HASHES[name]


def test_triton_interpreted():
    pytest.importorskip("triton")
    program = "import test_determinism as t; print(t.device_hash('one-pixel-q50', triton=True))"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True,
        env=os.environ | {
            "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        },
    )  # fmt: skip
    assert result.stdout.strip() == HASHES["one-pixel-q50"]
