"""Coding on a device, in PyTorch; here on a CPU, by the way that a GPU without Triton takes too."""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from vectors.make import picture

import nic
from nic import codec, container, device, effort, models
from nic.errors import InputError
from nic.evaluation.bench import PHOTO
from nic.images import load_pixels
from nic.picture import Picture

cuda = pytest.mark.skipif(not device.driver_devices(), reason="no NVIDIA GPU here")


@pytest.fixture(params=["cpu:0", pytest.param("cuda", marks=cuda)])
def on_device(request, model):
    """The model on a device; "cpu:0" is the CPU by way of PyTorch."""
    pytest.importorskip("torch")
    return replace(model, device=request.param)


pytorch_only = pytest.mark.filterwarnings("ignore:.*the prior runs in PyTorch:RuntimeWarning")


@pytorch_only
@pytest.mark.parametrize("quality", [10, 60])
@pytest.mark.parametrize("gray", [False, True], ids=["rgb", "gray"])
def test_files_of_either_decode_on_the_other(model, on_device, quality, gray):
    pixels = picture(90, 70, gray)
    host = codec.encode(Picture(pixels), quality, model=model, lanes=4)
    other = codec.encode(Picture(pixels), quality, model=on_device, lanes=4)
    assert abs(len(host) - len(other)) < 0.02 * len(host)
    for data in (host, other):
        decoded = [codec.decode(data, model=m).pixels.astype(int) for m in (model, on_device)]
        assert np.abs(decoded[0] - decoded[1]).max() <= 1
        latents = [codec.decode_latents(*container.read(data), m) for m in (model, on_device)]
        np.testing.assert_array_equal(*latents)


@pytorch_only
def test_latents_are_refined_on_the_device(model, on_device):
    pixels = picture(48, 40, gray=False)
    worth = effort.lmbda(model.config, codec.quality_step(40))

    def cost(e: int) -> float:
        data = codec.encode(Picture(pixels), 40, effort=e, model=on_device)
        error = codec.decode(data, model=model).pixels.astype(float) - pixels
        return 8 * len(data) + worth * np.square(error).mean() * 48 * 40

    assert cost(6) < cost(4) <= cost(3)
    again = [codec.encode(Picture(pixels), 40, effort=4, model=on_device) for _ in range(2)]
    assert again[0] == again[1]


@pytorch_only
def test_whole_files_are_timed(on_device):
    from kernels.bench import TorchModel, file_row

    row = file_row(TorchModel.of(on_device), codec.encode(Picture(picture(30, 20))), 2)
    batch, latents, whole, rate = map(float, row.split())
    assert batch == 2 and 0 < latents and rate == pytest.approx(1000 / whole, rel=0.1)


@pytorch_only
def test_equality_is_found_and_the_lack_of_it(model, on_device, tmp_path, monkeypatch):
    from kernels import equality

    Image.fromarray(picture(30, 20)).save(tmp_path / "a.png")
    files, failed, levels = equality.compare([tmp_path / "a.png"], model, on_device)
    assert (files, failed) == (6, []) and levels <= 1
    other = replace(on_device, prior=replace(model.prior, gains=model.prior.gains + 999))
    files, failed, _ = equality.compare([tmp_path / "a.png"], model, other)
    assert files == 6 and "a.png at 20, made on the GPU" in failed[1]


def test_products_are_exact_and_leave_the_precision_as_it_was(monkeypatch):
    torch = pytest.importorskip("torch")
    from nic.inference.on_device import _exact

    def precisions():
        return convolutions.fp32_precision, products.fp32_precision

    def use(_):
        with _exact():
            before = precisions()
            time.sleep(0.002)
            return before, precisions()

    convolutions, products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    for precision in ("none", "tf32"):
        monkeypatch.setattr(torch.backends, "fp32_precision", precision)
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(use, range(16))) == {(("ieee", "ieee"), ("ieee", "ieee"))}
        assert precisions() == ("tf32", precision)  # the first is PyTorch's own default, too


def test_networks_and_coder_are_on_one_gpu(model, monkeypatch):
    torch = pytest.importorskip("torch")
    from kernels import device_prior
    from nic.inference import on_device

    def device_of(*arguments):
        return arguments[-1]

    monkeypatch.setattr(device_prior, "DevicePrior", device_of)
    monkeypatch.setattr(on_device, "DeviceNetworks", device_of)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    on_gpu = replace(model, device="cuda")
    assert on_gpu.coder == torch.device("cuda", 0)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    assert on_gpu.networks == torch.device("cuda", 0)


@pytorch_only
@pytest.mark.parametrize("part", ["networks", "coder"])
def test_too_little_memory_of_a_gpu_is_a_memory_error(model, monkeypatch, part):
    torch = pytest.importorskip("torch")

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    file = codec.encode(Picture(picture(30, 20)), model=model)
    on_device = replace(model, device="cpu:0")
    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(MemoryError):
        getattr(on_device, part)
    monkeypatch.undo()
    name = "g_s" if part == "networks" else "hyper_sums"
    monkeypatch.setattr(getattr(on_device, part), name, full)
    with pytest.raises(MemoryError):
        codec.decode(file, model=on_device)


def test_auto_leaves_little_work_to_the_cpu(monkeypatch):
    monkeypatch.setattr(device, "check_device", lambda name: None)
    assert device.choose("auto", 768 * 512) == "cpu"
    assert device.choose("auto", device.WORTHWHILE) == "cuda"
    assert device.choose("cuda", 1) == "cuda" and device.choose("cpu", 10**9) == "cpu"


def test_auto_counts_effort_as_work(monkeypatch):
    monkeypatch.setattr(device, "check_device", lambda name: None)
    chosen = []
    monkeypatch.setattr(models, "load", lambda path=None, device="cpu": chosen.append(device))
    monkeypatch.setattr(codec, "encode", lambda *_, **__: b"")
    monkeypatch.setattr(codec, "encode_batch", lambda *_, **__: [])
    for e in (3, 7):
        nic.encode(np.zeros((512, 768, 3), np.uint8), device="auto", effort=e)
    assert chosen == ["cuda"]  # at effort 7 alone; the default is the CPU's
    for e in (3, 7):
        nic.encode_batch([np.zeros((512, 384), np.uint8)] * 2, device="auto", effort=e)
    assert chosen == ["cuda"] * 2
    with pytest.raises(InputError, match="effort"):
        nic.encode(np.zeros((8, 8), np.uint8), device="auto", effort=10)


def test_auto_in_python_looks_at_as_much_work_as_it_needs(model, monkeypatch):
    monkeypatch.setattr(device, "check_device", lambda name: None)
    monkeypatch.setattr(device, "WORTHWHILE", 200)
    chosen, pixels = [], picture(12, 9)

    def load(path=None, device="cpu"):
        chosen.append(device)
        return model

    monkeypatch.setattr(models, "load", load)
    data = nic.encode(pixels, device="auto")
    assert np.asarray(nic.decode(data, device="auto")).shape == pixels.shape
    assert "cuda" not in chosen
    assert nic.encode_batch(iter([pixels] * 4), device="auto") == [data] * 4
    images = nic.decode_batch([b"bad", data, data], device="auto")
    assert isinstance(images[0], nic.FormatError) and images[1] == images[2]
    assert chosen.count("cuda") == 2


def test_a_device_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setattr(device, "driver_devices", lambda: 0)
    assert device.choose("auto", 10**9) == "cpu"
    with pytest.raises(InputError, match="no CUDA device here"):
        device.choose("cuda", 1)
    with pytest.raises(InputError, match="no CUDA device here"):
        models.load(device="cuda")
    with pytest.raises(InputError, match="no device 'abacus'"):
        models.load(device="abacus")
    for function in (nic.decode, nic.decode_batch, nic.encode_batch):
        with pytest.raises(InputError, match="no CUDA device here"):
            function(b"", device="cuda")
    with pytest.raises(InputError, match="no CUDA device here"):
        nic.encode(picture(8, 8), device="cuda")


def test_a_driver_without_pytorch_for_it(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(device, "driver_devices", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="PyTorch finds no CUDA device"):
        device.choose("cuda", 1)


def test_a_machine_without_a_driver(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert device.driver_devices.__wrapped__() == 0


@cuda
@pytest.mark.parametrize("lanes", [1, 64])
def test_a_whole_photo_on_a_gpu(model, lanes):
    on_gpu, pixels = models.load(device="cuda"), load_pixels(PHOTO)
    host = codec.encode(Picture(pixels), 50, model=model, lanes=lanes)
    other = codec.encode(Picture(pixels), 50, model=on_gpu, lanes=lanes)
    for data in (host, other):
        latents = [codec.decode_latents(*container.read(data), m) for m in (model, on_gpu)]
        np.testing.assert_array_equal(*latents)
    assert len(nic.decode_batch([host] * 70, model=on_gpu)) == 70
