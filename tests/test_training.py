"""The trainer: it learns, resumes exactly, averages over processes, and what it exports codes."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

import cli  # noqa: E402
from nic import codec, config, extras, files, models  # noqa: E402
from nic.errors import InputError, OutputError  # noqa: E402
from nic.picture import Picture
from nic.training import (
    command,  # noqa: E402
    loop,  # noqa: E402
)
from nic.training.capture import Captured  # noqa: E402
from nic.training.config import TrainConfig  # noqa: E402
from nic.training.data import CropDataset  # noqa: E402
from nic.training.density import FactorizedDensity  # noqa: E402
from nic.training.export import export, export_model  # noqa: E402
from nic.training.loop import Run, launch, train  # noqa: E402
from nic.training.loss import MEASURES  # noqa: E402
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


def measures(run, progress):
    """Of one more step."""
    return dict(zip(MEASURES, run.train_step(progress).tolist()))


def test_training_lowers_the_loss_and_the_export_codes_images(pictures, tmp_path):
    options = {"steps": 100, "warmup": 5, "batch": 4, "lr": 1e-2}
    evaluation = {"eval_data": str(pictures), "eval_images": 1}
    checkpoint = train(settings(pictures, tmp_path, **options, **evaluation))
    with open(tmp_path / "log.csv", newline="") as log:
        losses = [float(row["loss"]) for row in csv.DictReader(log)]
    untrained = Run(settings(pictures, tmp_path / "fresh", **options), torch.device("cpu"))
    first = np.mean([measures(untrained, 1.0)["loss"] for _ in range(20)])
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
    start, losses = measures(run, 1.0), []
    assert start["psnr"] > 20
    while run.progress() < 1:
        losses.append(measures(run, run.progress())["loss"])
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
        found, expected = getattr(b.prior, name), getattr(a.prior, name)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1, err_msg=name)
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


def test_blocks_that_a_weight_file_lacks_start_silent(pictures, tmp_path, monkeypatch):
    torch.manual_seed(0)
    small = TrainableModel(TINY)
    for p in small.parameters():
        p.data += 0.1 * torch.randn_like(p)
    export_model(small, tmp_path / "small.safetensors")
    larger = dataclasses.replace(TINY, fine_blocks=2, detail_blocks=1, detail_channels=8)
    monkeypatch.setitem(config.CONFIGS, "tiny", larger)
    weights = str(tmp_path / "small.safetensors")
    run = Run(settings(pictures, tmp_path / "run", weights=weights), torch.device("cpu"))
    x, s = torch.rand(1, 3, 64, 64) - 0.5, torch.tensor([0.4])
    y = run.model.g_a(x, s)
    with torch.no_grad():
        expected = small.g_a(x, s)
        size = expected.abs().max()
        assert (y - expected).abs().max() < 1e-2 * size  # float16, in the file
        u = expected / 3
        close = run.model.g_s(expected, u, s), small.g_s(expected, u, s)
        assert (close[0] - close[1]).abs().max() < 1e-2 * close[1].abs().max()
    export_model(run.model, tmp_path / "larger.safetensors")
    old, new = (models.load(tmp_path / f"{name}.safetensors") for name in ("small", "larger"))
    for a, b in zip(old.prior.entropy, new.prior.entropy):
        assert np.array_equal(a.weight, b.weight)
    before = run.model.g_s.detail[0].layers[0].weight.clone()
    for _ in range(3):
        run.train_step(0.0)
    assert not torch.equal(before, run.model.g_s.detail[0].layers[0].weight)


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


def test_a_resumed_run_may_have_another_rate_for_the_transforms(pictures, tmp_path):
    first = Run(settings(pictures, tmp_path), torch.device("cpu"))
    first.train_step(0.0)
    first.save()
    resumed = Run(settings(pictures, tmp_path, transform_lr=0.0), torch.device("cpu"))
    resumed.train_step(0.0)
    changed = {
        name.split(".")[0]
        for (name, a), b in zip(first.model.named_parameters(), resumed.model.parameters())
        if not torch.equal(a, b)
    }
    assert "context" in changed and not changed & {"g_a", "g_s"}


def test_a_step_that_is_not_finite_leaves_weights_and_averages(pictures, tmp_path, monkeypatch):
    run = Run(settings(pictures, tmp_path), torch.device("cpu"))
    run.train_step(0.0)
    before, average = (
        {k: v.clone() for k, v in model.state_dict().items()} for model in (run.model, run.average)
    )
    monkeypatch.setattr(run.dataset, "crops", lambda _: torch.full((2, 3, 64, 64), torch.nan))
    assert np.isnan(measures(run, 0.0)["loss"])
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in run.average.state_dict().items():
        assert torch.equal(value, average[name]), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU")
def test_a_recorded_step_is_the_step(pictures, tmp_path):
    losses = []
    for recorded in (True, False):
        options = settings(pictures, tmp_path / str(recorded), device="cuda", lr=1e-2)
        run = Run(options, torch.device("cuda"))
        if not recorded:
            run.update = run._update
        losses.append([measures(run, 0.0)["loss"] for _ in range(12)])
        weights = [p.clone() for p in run.model.parameters()]
        measures(run, 1.0)  # at a rate of zero
        assert all(map(torch.equal, weights, run.model.parameters()))
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0][-1] != losses[0][-2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU")
def test_what_is_recorded_reads_its_inputs_and_draws_anew():
    x = torch.zeros(4, device="cuda")
    recorded = Captured(lambda: x + torch.rand(4, device="cuda"))
    for k in range(8):
        x.fill_(k)
        torch.manual_seed(k)
        found = recorded().clone()
        torch.manual_seed(k)
        assert torch.equal(found, x + torch.rand(4, device="cuda"))


def test_a_run_goes_on_from_a_checkpoint_of_another_device(pictures, tmp_path):
    train(settings(pictures, tmp_path, steps=1))
    state = torch.load(tmp_path / "checkpoint.pt")
    for group in state["optimizers"][1]["param_groups"]:
        group["capturable"] = True  # as on a GPU
    torch.save(state, tmp_path / "checkpoint.pt")
    run = Run(settings(pictures, tmp_path), torch.device("cpu"))
    assert not any(group["capturable"] for group in run.optimizers[1].param_groups)
    run.train_step(0.0)


def test_two_processes_train_one_model(pictures, tmp_path):
    options = settings(pictures, tmp_path, steps=2, processes=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_worker", worker_that_compares)
        launch(options)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def worker_that_compares(rank, options, *rest):
    """Runs in a spawned process: each trains on crops of its own, and keeps what it ends with."""

    def train_and_keep(options):
        run = Run(options, torch.device("cpu"))
        for _ in range(2):
            run.train_step(run.progress())
        torch.save(run.model.state_dict(), run.folder / f"{rank}.pt")

    loop.train = train_and_keep
    worker_of_tiny(rank, options, *rest)


def worker_of_tiny(rank, *rest):
    """Runs in a spawned process, which has to be told of the model."""
    config.CONFIGS["tiny"] = TINY
    loop._worker(rank, *rest)


def worker_that_fails(rank, *rest):
    def fail(options):
        raise OutputError("full")

    loop.train = fail if rank == 0 else lambda options: loop.dist.barrier()
    worker_of_tiny(rank, *rest)


def test_an_error_in_a_process_is_that_of_the_whole(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_worker", worker_that_fails)
    with pytest.raises(OutputError, match="^full$"):
        launch(settings(pictures, tmp_path, processes=2))


TRAINING = """
import sys, cli, test_training
from nic import config
from nic.training import loop
config.CONFIGS["tiny"], loop._worker = test_training.TINY, test_training.worker_of_tiny
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_processes_end_with_the_one_that_started_them(pictures, tmp_path, number, code):
    options = {"data": pictures, "out": tmp_path, "model": "tiny", "processes": 2, "crop": 64}
    flags = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    command = [sys.executable, "-c", TRAINING, *flags, "--batch", "1", "--device", "cpu"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=env, start_new_session=True)
    try:
        end = time.monotonic() + 100
        while not (tmp_path / "log.csv").exists() and time.monotonic() < end:
            time.sleep(0.1)
        # As a terminal does, and as a service manager does.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=60)  # until all have closed standard error
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == code and err.count(b"\n") == 1
    assert (tmp_path / "log.csv").exists()


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


def test_crops_are_of_the_image_mirrored_and_transposed(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (66, 69, 3), np.uint8)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(pixels).save(tmp_path / "pictures" / "a.png")
    dataset = CropDataset(tmp_path / "pictures", tmp_path / "cache", 64)
    places = [pixels[top : top + 64, left : left + 64] for top in range(3) for left in range(6)]
    known = {}
    for place in places:
        for k, crop in enumerate((place, np.fliplr(place))):
            known |= {crop.tobytes(): k, crop.swapaxes(0, 1).tobytes(): 2 + k}
    crops = dataset.batch(400, np.random.default_rng(1))
    assert crops.shape == (400, 3, 64, 64) and crops.dtype == torch.float32
    assert crops.is_contiguous(memory_format=torch.channels_last)
    levels = ((crops + 0.5) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    found = [level.tobytes() for level in levels]
    assert len(set(found)) > 60  # of 72
    shares = np.bincount([known[crop] for crop in found], minlength=4) / len(found)
    assert shares == pytest.approx([0.375, 0.375, 0.125, 0.125], abs=0.1)


@pytest.mark.parametrize("name", ["pixels.u8", "index.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 0)])
def test_a_damaged_pixel_cache_is_made_anew(pictures, tmp_path, name, damage):
    crops = []
    for _ in range(2):
        dataset = CropDataset(pictures, tmp_path, 64)
        crops.append(dataset.batch(2, np.random.default_rng(0)))
        damage(tmp_path / name)
    assert torch.equal(*crops)
    (tmp_path / "index.json").write_text(json.dumps({"files": []}))
    assert len(CropDataset(pictures, tmp_path, 64).images) == 4


def test_orthogonalize_brings_singular_values_near_one():
    torch.manual_seed(0)
    for shape in [(1, 20, 50), (3, 50, 20)]:
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
        {"seed": -1},
        {"seed": 2**64},
        {"seed": "x"},
        {"batch": 2.5},
        {"crop": 64.0},
        {"processes": True},
        {"model": ["x"]},
        {"weights": 3},
        {"data": 5},
        {"wandb_offline": "no"},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        TrainConfig(**{"data": "x"} | bad)


def test_whole_numbers_will_do_for_others_and_large_ones_for_a_seed(pictures, tmp_path):
    Run(settings(pictures, tmp_path, minutes=5, seed=2**64 - 1), torch.device("cpu")).train_step(0)


def test_a_gpu_that_is_not_here_is_refused(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("nic.device.driver_devices", lambda: 0)
    with pytest.raises(InputError, match="no CUDA device here"):
        train(dataclasses.replace(settings(pictures, tmp_path), device="cuda"))


def test_files_that_are_no_checkpoint_of_this_model_are_refused(pictures, tmp_path):
    (tmp_path / "text.pt").write_text("garbage")
    torch.save({"model": 1}, tmp_path / "other.pt")
    checkpoint = train(settings(pictures, tmp_path, steps=1))
    whole = checkpoint.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 10):
        (tmp_path / f"cut{size}.pt").write_bytes(whole[:size])
    for path in [*tmp_path.glob("cut*.pt"), *(tmp_path / f"{n}.pt" for n in ("text", "other"))]:
        with pytest.raises(InputError, match=f"{path.name}: not a checkpoint of nic"):
            export(path, tmp_path / "out.safetensors")
    with pytest.raises(InputError, match="none.pt: No such file"):
        export(tmp_path / "none.pt", tmp_path / "out.safetensors")
    config.CONFIGS["tiny"] = dataclasses.replace(TINY, N=8)
    for processes in (1, 2):
        with pytest.raises(InputError, match="another model"):
            launch(settings(pictures, tmp_path, processes=processes))


def test_a_checkpoint_of_other_groups_of_parameters_is_refused(pictures, tmp_path):
    checkpoint = train(settings(pictures, tmp_path, steps=1))
    state = torch.load(checkpoint)
    for saved in state["optimizers"]:
        first, second = saved["param_groups"]
        saved["param_groups"] = [first | {"params": first["params"] + second["params"]}]
    torch.save(state, checkpoint)
    with pytest.raises(InputError, match="another version"):
        Run(settings(pictures, tmp_path), torch.device("cpu"))


def test_train_and_export_as_commands(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / files.PARTIAL.format("0" * 16)).write_bytes(b"what a killed process leaves")
    small = ["--model", "tiny", "--steps", "1", "--batch", "2", "--crop", "64", "--device", "cpu"]
    assert cli.main(["train", "--data", str(pictures), "--out", ".", *small]) == 0
    assert not list(tmp_path.glob(".*"))
    assert cli.main(["export", "checkpoint.pt"]) == 0
    assert models.load(Path("checkpoint.safetensors")).config == TINY
    whole = Path("checkpoint.pt").read_bytes()
    assert cli.main(["export", "checkpoint.pt", "-o", "checkpoint.pt", "-f"]) == 8
    assert Path("checkpoint.pt").read_bytes() == whole
    assert cli.main(["export", "."]) == 2
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert cli.main(["export", "checkpoint.pt", "-f"]) == 2
    *_, same, folder, absent = capsys.readouterr().err.splitlines()
    assert same == "nic: checkpoint.pt: is the input"
    assert folder == "nic: .: no such file" and "nic[train]" in absent


def test_a_folder_without_usable_images_is_refused(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="no image"):
        Run(settings(tmp_path, tmp_path / "run"), torch.device("cpu"))
    with pytest.raises(InputError, match="no such folder"):
        Run(settings(tmp_path / "none", tmp_path / "run"), torch.device("cpu"))
