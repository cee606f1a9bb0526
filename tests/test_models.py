"""Every named model, made small: what is exported codes alike in nic and by the document."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import reference_decoder
import safetensors.numpy
from vectors.make import picture

import cli
from nic import codec, container, models
from nic.architecture import complexity
from nic.config import CONFIGS, ModelConfig
from nic.errors import InputError
from nic.picture import Picture

torch = pytest.importorskip("torch")

from nic.training.export import export_model  # noqa: E402
from nic.training.model import TrainableModel  # noqa: E402


def small(name: str) -> ModelConfig:
    """A named model with few channels and blocks."""
    config = CONFIGS[name]
    return dataclasses.replace(
        config, N=8, M=12, z_channels=4, hyper_channels=6, psi_channels=10, anchors=3,
        fine_blocks=min(config.fine_blocks, 1), coarse_blocks=min(config.coarse_blocks, 1),
        detail_channels=6,
        phi_channels=min(config.phi_channels, 8), entropy_channels=(16,),
    )  # fmt: skip


@pytest.fixture(scope="module", params=CONFIGS)
def lively(request) -> TrainableModel:
    """Random weights, lively enough that means and scales differ everywhere."""
    torch.manual_seed(0)
    model = TrainableModel(small(request.param))
    for p in model.entropy_parameters.parameters():
        p.data = torch.randn_like(p) * 0.4
    for p in model.g_s.parameters():
        p.data += torch.randn_like(p) * 0.1
    model.std.uniform_(10, 100)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def weights(lively, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    export_model(lively, path)
    return path


@pytest.mark.parametrize("gray, lanes", [(False, 1), (True, 4)])
def test_the_documents_decoder_decodes_alike(weights, gray, lanes):
    model = models.read(weights)
    pixels = picture(75, 50, gray)
    data = codec.encode(Picture(pixels), 70, effort=4, model=model, lanes=lanes)
    v_hat, decoded, *_ = reference_decoder.decode(data, weights.read_bytes())
    found = codec.decode_latents(*container.read(data), model)
    np.testing.assert_array_equal(v_hat, found)
    if not model.config.means:
        assert not (found % 64).any()
    expected = codec.decode(data, model=model).pixels
    assert decoded.shape == expected.shape == pixels.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 1
    assert expected.std() > 0.5


def test_counted_are_the_weights_and_biases_of_the_file(weights):
    model = models.read(weights)
    tensors = safetensors.numpy.load_file(weights)
    ends = ("weight", "bias", "gamma", "beta")
    size = sum(t.size for name, t in tensors.items() if name.split(".")[-1] in ends)
    assert complexity(model.config).parameters == size


def test_cost_of_a_model_is_as_counted_by_hand():
    counted = complexity(CONFIGS["bmshj2018-hyperprior"])
    g_a = 3 * 128 * 25 / 4 + 128**2 * 25 / 16 + 128**2 * 25 / 64 + 128 * 192 * 25 / 256
    gdn = 128**2 * (1 / 4 + 1 / 16 + 1 / 64)
    h_a = 192 * 128 * 9 / 256 + 128**2 * 25 / 1024 + 128**2 * 25 / 4096
    h_s = 128 * 512 * 9 / 4096 + 128 * 512 * 9 / 1024 + 128 * 192 * 9 / 256
    entropy = (192 * 192 + 192 * 384) / 256
    assert counted.encode_macs == pytest.approx(g_a + gdn + h_a + h_s + entropy)


def altered(weights, tmp_path, fields=(), **changes):
    """The weight file with other fields of its configuration and other tensors; None: without."""
    data = weights.read_bytes()
    tensors = safetensors.numpy.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    config = json.loads(header["__metadata__"]["config"]) | dict(fields)
    for name, change in changes.items():
        tensors[name] = change(tensors[name])
    tensors = {name: value for name, value in tensors.items() if value is not None}
    path = tmp_path / "altered.safetensors"
    safetensors.numpy.save_file(tensors, path, {"config": json.dumps(config)})
    return path


@pytest.mark.parametrize(
    "fields",
    [
        {"transforms": "dct"},
        {"transforms": ["gdn"]},
        {"N": 9},
        {"N": 8.0},
        {"N": 10**9},
        {"fine_blocks": 10**9},
        {"fine_blocks": -1},
        {"phi_channels": 7},
        {"psi_channels": 9},
        {"entropy_channels": []},
        {"entropy_channels": [16, 16]},
        {"anchors": 1},
        {"s_max": float("nan")},
        {"s_max": 1000},
        {"lmbda_min": 5e-324},
        {"unheard_of": 1},
    ],
    ids=str,
)
def test_a_configuration_that_is_not_the_tensors_is_refused(weights, tmp_path, fields):
    with pytest.raises(InputError, match="not a sound weight file"):
        models.read(altered(weights, tmp_path, fields))


def test_tensors_that_are_not_the_configurations_are_refused(weights, tmp_path):
    gdn = "g_s.gdn.1.gamma" in safetensors.numpy.load_file(weights)
    for name in ["g_s.gdn.1.gamma", "g_a.conv.0.weight"] if gdn else ["g_s.up.weight"]:
        for change in (
            lambda t: None,
            lambda t: t[:-1],
            lambda t: t * np.float16(np.nan),
            lambda t: t.astype(np.float64),
            lambda t: t > 0,
        ):
            with pytest.raises(InputError, match=name):
                models.read(altered(weights, tmp_path, **{name: change}))


@pytest.mark.parametrize(
    "tensor, change",
    [
        ("hyper.0.bias", lambda t: t * 0 + np.iinfo(t.dtype).min),  # whose magnitude is no int64
        ("context.settings", lambda t: t + np.float32(0.5)),
        ("context.settings", lambda t: t + np.array([0, 2, 0], t.dtype)),
        ("skip_below", lambda t: t + np.float32(np.inf)),
        ("skip_below", lambda t: np.repeat(t, 2)),
        ("z_tables.cdfs", lambda t: np.where(t % 65536, np.float32(np.nan), t)),
        ("z_tables.cdfs", lambda t: t[::-1].astype(np.uint32)),
        ("z_tables.starts", lambda t: -t),
        ("z_tables.lows", lambda t: t * 0 + np.iinfo(t.dtype).max),
        ("residual_tables.lows", lambda t: t - 32767),
        ("residual_tables.starts", lambda t: t[:1]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_prior_that_is_not_exact_is_refused(weights, tmp_path, tensor, change):
    with pytest.raises(InputError, match="altered.safetensors: not a sound weight file"):
        models.read(altered(weights, tmp_path, **{f"prior.{tensor}": change}))


def test_a_tensor_that_nothing_reads_is_refused(weights, tmp_path):
    data = weights.read_bytes()
    tensors = safetensors.numpy.load(data) | {"prior.more": np.zeros(1, np.int32)}
    config = {"config": json.dumps(dataclasses.asdict(models.read(weights).config))}
    path = tmp_path / "more.safetensors"
    safetensors.numpy.save_file(tensors, path, config)
    with pytest.raises(InputError, match="unknown tensor prior.more"):
        models.read(path)


def test_weights_that_give_no_finite_latents_are_an_error(weights, tmp_path):
    path = altered(weights, tmp_path, std=np.zeros_like)
    with pytest.raises(InputError, match="no finite latents"), np.errstate(all="ignore"):
        codec.encode(Picture(picture(9, 7)), 50, effort=0, model=models.read(path))


def test_weights_whose_gradients_overflow_are_no_error(weights, tmp_path):
    model = models.read(weights)
    names = [n for n in model.tensors if n in ("g_s.fine_gain.values", "g_s.gdn.2.beta")]
    huge = dict.fromkeys(names, lambda t: t * 0 + np.float16(65504))
    model = models.read(altered(weights, tmp_path, **huge))
    source = Picture(picture(9, 7))
    with np.errstate(all="ignore"):
        data = codec.encode(source, 50, effort=4, model=model)
        assert codec.decode(data, model=model).pixels.shape == (7, 9, 3)


@pytest.mark.parametrize("part", ["g_a", "h_s"])
def test_weights_that_a_file_cannot_hold_are_not_exported(lively, tmp_path, part):
    before = lively.state_dict()
    huge = {k: v * 1e9 if k.startswith(part) and "weight" in k else v for k, v in before.items()}
    model = TrainableModel(lively.config)
    model.load_state_dict(huge)
    with pytest.raises(InputError, match="too large"):
        export_model(model, tmp_path / "out.safetensors")
    assert not list(tmp_path.iterdir())


def test_listing_names_all_models_without_pytorch(capsys):
    program = "import cli, sys; cli.main(['models', '--json']); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", program]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["model"] for row in rows] == list(CONFIGS)
    shipped = {row["model"]: row["fingerprint"] for row in rows if row["fingerprint"]}
    assert shipped == {"nic-1": models.load().fingerprint.hex()}
    assert all(10 < row["decode_kmac_per_pixel"] < 100 for row in rows)
    assert cli.main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in CONFIGS) and text.count("not shipped") == 3
