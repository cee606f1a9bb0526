"""The trainer: it learns, resumes exactly, averages over processes, and what it exports codes."""

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from nic import codec, config, models  # noqa: E402
from nic.errors import InputError  # noqa: E402
from nic.picture import Picture
from nic.training import (
    command,  # noqa: E402
    loop,  # noqa: E402
)
from nic.training.config import TrainConfig  # noqa: E402
from nic.training.data import CropDataset  # noqa: E402
from nic.training.density import FactorizedDensity  # noqa: E402
from nic.training.export import export, export_model  # noqa: E402
from nic.training.loop import Run, launch, train  # noqa: E402
from nic.training.model import TrainableModel  # noqa: E402
from nic.training.muon import orthogonalize  # noqa: E402
from nic.training.restore import _fit  # noqa: E402

TINY = config.ModelConfig(
    "tiny", N=16, M=24, fine_blocks=1, coarse_blocks=1, z_channels=4, hyper_channels=8,
    psi_channels=12, phi_channels=12, entropy_channels=(16, 16), anchors=3,
)  # fmt: skip


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
    monkeypatch.setitem(config.CONFIGS, "tiny", TINY)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A few smooth random images with edges."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for k in range(4):
        small = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8))
        small.resize((150, 130), Image.Resampling.BICUBIC).save(folder / f"{k}.png")
    return folder


def settings(pictures, out, **changes):
    base = TrainConfig(
        data=str(pictures),
        out=str(out),
        model="tiny",
        steps=6,
        batch=2,
        crop=64,
        warmup=2,
        device="cpu",
    )
    return dataclasses.replace(base, **changes)


def test_training_lowers_the_loss_and_the_export_codes_images(pictures, tmp_path):
    options = {"steps": 100, "warmup": 5, "batch": 4, "lr": 1e-2}
    evaluation = {"eval_data": str(pictures), "eval_images": 1}
    checkpoint = train(settings(pictures, tmp_path, **options, **evaluation))
    losses = [float(row.split(",")[3]) for row in (tmp_path / "log.csv").read_text().split()[1:]]
    untrained = Run(settings(pictures, tmp_path / "fresh", **options), torch.device("cpu"))
    first = np.mean([untrained.train_step(progress=1.0)["loss"] for _ in range(20)])
    assert losses[-1] < first
    export(checkpoint, tmp_path / "tiny.safetensors")
    model = models.load(tmp_path / "tiny.safetensors")
    pixels = np.asarray(Image.open(pictures / "0.png"))
    data = codec.encode(Picture(pixels), 80, model=model)
    decoded = codec.decode(data, model=model).pixels
    assert decoded.shape == pixels.shape
    assert np.mean((decoded.astype(float) - pixels) ** 2) < pixels.var() / 4
    evaluated = (tmp_path / "eval.csv").read_text().splitlines()
    assert evaluated[0] == "step,quality,bpp,estimated_bpp,psnr" and len(evaluated) == 5


@pytest.mark.parametrize(
    "parts",
    [{}, {"phi_channels": 0}, {"phi_channels": 0, "means": False}],
    ids=["context", "no context", "scales alone"],
)
def test_the_papers_models_start_as_a_codec_and_learn(pictures, tmp_path, monkeypatch, parts):
    tiny = dataclasses.replace(TINY, transforms="gdn", lmbda_max=0.05, **parts)
    monkeypatch.setitem(config.CONFIGS, "tiny", tiny)
    options = settings(pictures, tmp_path, steps=40, batch=4, lr=4e-3, transform_lr=0.02)
    run = Run(options, torch.device("cpu"))
    start, losses = run.train_step(progress=1.0), []
    assert start["psnr"] > 20
    while run.progress() < 1:
        losses.append(run.train_step(run.progress())["loss"])
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    run.save()
    export(run.checkpoint, tmp_path / "tiny.safetensors")
    model = models.load(tmp_path / "tiny.safetensors")
    pixels = np.asarray(Image.open(pictures / "0.png"))
    decoded = codec.decode(codec.encode(Picture(pixels), 80, model=model), model=model).pixels
    assert np.mean((decoded.astype(float) - pixels) ** 2) < pixels.var() / 4


@pytest.mark.parametrize(
    "parts",
    [{}, {"transforms": "gdn", "phi_channels": 0, "means": False}],
    ids=["nic-1", "scales alone"],
)
def test_a_weight_file_can_be_trained_on(pictures, tmp_path, monkeypatch, parts):
    monkeypatch.setitem(config.CONFIGS, "tiny", dataclasses.replace(TINY, **parts))
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    trained = Run(settings(pictures, tmp_path / "a", steps=20, lr=1e-2), torch.device("cpu"))
    while trained.progress() < 1:
        trained.train_step(trained.progress())
    export_model(trained.model, first)
    restored = Run(settings(pictures, tmp_path / "b", weights=str(first)), torch.device("cpu"))
    export_model(restored.model, second)
    a, b = models.load(first), models.load(second)
    for name, value in a.tensors.items():
        assert np.array_equal(value, b.tensors[name]), name
    for x, y in zip([a.prior.context, *a.prior.hyper, *a.prior.entropy],
                    [b.prior.context, *b.prior.hyper, *b.prior.entropy]):  # fmt: skip
        assert np.array_equal(x.weight, y.weight) and np.array_equal(x.bias, y.bias)
    for name in ("gains", "scale_offsets", "quality_bias"):
        assert np.abs(getattr(a.prior, name) - getattr(b.prior, name)).max() <= 1, name
    for low, high, x, y in zip(a.prior.z_tables.lows, b.prior.z_tables.lows,
                               a.prior.z_tables.lists, b.prior.z_tables.lists):  # fmt: skip
        likely = {low + k: f for k, f in enumerate(np.diff(x)[:-1]) if f > 650}
        for k, frequency in likely.items():
            assert np.diff(y)[k - high] == pytest.approx(frequency, rel=0.2)


def test_densities_are_fitted_where_they_are(model, monkeypatch):
    # "meta" refuses the CPU's tensors as a GPU does; autocast does not know it.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    z_tables = model.prior.z_tables
    _fit(FactorizedDensity(len(z_tables.lows)).to("meta"), z_tables, steps=1)


def test_latents_are_decoded_serially_from_what_is_decoded(monkeypatch):
    monkeypatch.setattr("nic.training.model.fast_dtype", lambda device: torch.float32)
    model, s = TrainableModel(TINY), torch.tensor([0.2, 0.7])
    v, gain = 4 * torch.randn(2, TINY.M, 5, 7), 0.5 + torch.rand(2, TINY.M, 1, 1)
    psi = torch.randn(2, TINY.psi_channels, 5, 7)
    decoded = model.decode_serially(v, psi, gain, s)
    with torch.no_grad():
        features = torch.cat([psi, model.context(decoded / gain)], dim=1)
        residuals = decoded - model.entropy_parameters(features, s)[0] * gain
    assert (residuals - residuals.round()).abs().max() < 1e-4 < residuals.abs().max()
    assert (decoded - v).abs().max() < 0.5 + 1e-4
    # The indices are there already: a GPU would wait for others to come from the host.
    monkeypatch.setattr(torch, "from_numpy", None)
    assert torch.equal(model.decode_serially(v, psi, gain, s), decoded)


def test_another_model_starts_from_the_transforms_of_a_weight_file(pictures, tmp_path, monkeypatch):
    trained = Run(settings(pictures, tmp_path / "a", lr=1e-2), torch.device("cpu"))
    trained.train_step(0.0)
    export_model(trained.model, tmp_path / "first.safetensors")
    other = dataclasses.replace(TINY, phi_channels=0, entropy_channels=(7,))
    monkeypatch.setitem(config.CONFIGS, "tiny", other)
    weights = str(tmp_path / "first.safetensors")
    run = Run(settings(pictures, tmp_path / "b", weights=weights), torch.device("cpu"))
    export_model(run.model, tmp_path / "second.safetensors")
    first, second = (models.load(tmp_path / f"{n}.safetensors") for n in ("first", "second"))
    for name, value in first.tensors.items():
        assert np.array_equal(value, second.tensors[name]), name
    assert np.abs(first.prior.gains - second.prior.gains).max() <= 1


def test_weights_of_other_shapes_are_refused(pictures, tmp_path):
    with pytest.raises(InputError, match="transforms of other shapes"):
        launch(settings(pictures, tmp_path, weights=str(models.SHIPPED), processes=2))


def test_a_resumed_run_equals_an_unbroken_one(pictures, tmp_path):
    whole = Run(settings(pictures, tmp_path / "a"), torch.device("cpu"))
    for _ in range(4):
        whole.train_step(whole.progress())
    broken = Run(settings(pictures, tmp_path / "b"), torch.device("cpu"))
    for _ in range(2):
        broken.train_step(broken.progress())
    broken.save()
    resumed = Run(settings(pictures, tmp_path / "b"), torch.device("cpu"))
    assert resumed.step == 2
    for _ in range(2):
        resumed.train_step(resumed.progress())
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values()):
        assert torch.equal(a, b), name


def test_a_step_that_is_not_finite_changes_nothing(pictures, tmp_path, monkeypatch):
    run = Run(settings(pictures, tmp_path), torch.device("cpu"))
    run.train_step(0.0)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    monkeypatch.setattr(
        run.dataset, "batch", lambda n, rng: np.full((n, 3, 64, 64), np.nan, np.float32)
    )
    run.train_step(0.0)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_two_processes_train_one_model(pictures, tmp_path):
    options = settings(pictures, tmp_path, steps=2, processes=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_worker", worker_that_compares)
        launch(options)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def worker_that_compares(rank, options, port):
    """Runs in a spawned process: each trains on crops of its own, and keeps what it ends with."""

    def train_and_keep(options):
        run = Run(options, torch.device("cpu"))
        for _ in range(2):
            run.train_step(run.progress())
        torch.save(run.model.state_dict(), run.folder / f"{rank}.pt")

    config.CONFIGS["tiny"] = TINY
    loop.train = train_and_keep
    loop._worker(rank, options, port)


def test_wrong_folders_are_refused_before_processes_start(pictures, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        launch(settings(tmp_path / "none", tmp_path / "a", processes=2))
    with pytest.raises(InputError, match="no such folder"):
        launch(settings(pictures, tmp_path / "b", processes=2, eval_data=str(tmp_path / "none")))


def test_the_pixel_cache_follows_the_files(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for level in (10, 200):
        Image.new("RGB", (64, 64), (level,) * 3).save(folder / "a.png")
        dataset = CropDataset(folder, tmp_path / "cache", 64)
        crop = dataset.batch(1, np.random.default_rng(0))
        assert crop.mean() == pytest.approx(level / 255 - 0.5, abs=1e-6)


def test_orthogonalize_brings_singular_values_near_one():
    torch.manual_seed(0)
    for shape in [(20, 50), (50, 20)]:
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)).float())
        assert values.min() > 0.5 and values.max() < 1.5


@pytest.mark.parametrize("name", [name for name in config.CONFIGS if name != "nic-1"])
def test_settings_of_the_papers_models_are_sound(name):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    path = Path(__file__).parents[1] / "configs" / f"{name}.toml"
    parsed = command.parse(parser.parse_args(["--config", str(path), "--data", "here"]))
    assert (parsed.model, parsed.folder) == (name, Path("runs") / name)


def test_flags_override_the_config_file(tmp_path):
    import argparse

    (tmp_path / "run.toml").write_text('data = "here"\nlr = 0.5\nbatch = 3\n')
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    parsed = command.parse(
        parser.parse_args(["--config", str(tmp_path / "run.toml"), "--batch", "4"])
    )
    assert (parsed.data, parsed.lr, parsed.batch) == ("here", 0.5, 4)
    (tmp_path / "run.toml").write_text("speed = 9\n")
    with pytest.raises(InputError, match="no option 'speed'"):
        command.parse(parser.parse_args(["--config", str(tmp_path / "run.toml")]))


@pytest.mark.parametrize(
    "bad",
    [
        {"crop": 100},
        {"model": "x"},
        {"minutes": 0.0, "steps": 0},
        {"minutes": float("nan")},
        {"batch": 0},
        {"processes": 0},
        {"ema": 5.0},
        {"lr": "fast"},
        {"device": "abacus"},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(InputError):
        TrainConfig(data="x", **bad)


def test_a_gpu_that_is_not_here_is_refused(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("nic.device.driver_devices", lambda: 0)
    with pytest.raises(InputError, match="no CUDA device here"):
        train(dataclasses.replace(settings(pictures, tmp_path), device="cuda"))


def test_files_that_are_no_checkpoint_of_this_model_are_refused(pictures, tmp_path):
    (tmp_path / "text.pt").write_text("garbage")
    torch.save({"model": 1}, tmp_path / "other.pt")
    for name in ("text.pt", "other.pt", "none.pt"):
        with pytest.raises(InputError, match=name):
            export(tmp_path / name, tmp_path / "out.safetensors")
    train(settings(pictures, tmp_path, steps=1))
    config.CONFIGS["tiny"] = dataclasses.replace(TINY, N=8)
    with pytest.raises(InputError, match="another model"):
        Run(settings(pictures, tmp_path), torch.device("cpu"))


def test_a_folder_without_usable_images_is_refused(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="no image"):
        Run(settings(tmp_path, tmp_path / "run"), torch.device("cpu"))
    with pytest.raises(InputError, match="no such folder"):
        Run(settings(tmp_path / "none", tmp_path / "run"), torch.device("cpu"))
