"""The exact prior: encoder and decoder agree, in any order, against an oracle in int64."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

torch = pytest.importorskip("torch")

from nic.config import ModelConfig  # noqa: E402
from nic.errors import NicError  # noqa: E402
from nic.training.export import integer_prior  # noqa: E402
from nic.training.model import TrainableModel  # noqa: E402
from nic.wavefront import TAPS, wavefronts  # noqa: E402

SMALL = ModelConfig(
    "small", N=8, M=12, z_channels=4, hyper_channels=8, psi_channels=10, phi_channels=6,
    entropy_channels=(16, 16), anchors=3,
)  # fmt: skip


def lively_prior(config):
    """A prior of random weights, lively enough that means and scales differ everywhere."""
    torch.manual_seed(0)
    model = TrainableModel(config)
    parts = [model.entropy_parameters, model.context] if config.phi_channels else [model.h_s]
    for p in [p for part in parts for p in part.parameters()]:
        p.data = torch.randn_like(p) * 0.4
    model.std.uniform_(0.3, 30)
    return integer_prior(model)


@pytest.fixture(scope="module")
def prior():
    return lively_prior(SMALL)


@pytest.fixture(scope="module")
def scale_prior():
    """Without a context and without means."""
    return lively_prior(dataclasses.replace(SMALL, phi_channels=0, means=False))


def latents(h, w, scale=20.0, seed=0):
    rng = np.random.default_rng(seed)
    v = (rng.laplace(size=(h, w, SMALL.M)) * scale).astype(np.float32)
    z_hat = rng.integers(-4, 5, (-(-h // 4), -(-w // 4), SMALL.z_channels)).astype(np.float64)
    return v, z_hat


def raster(h, w):
    """Positions one by one: not the order of the format, but it must give the same integers."""
    for k in range(h * w):
        yield np.array([k // w]), np.array([k % w])


def oracle(prior, v, z_hat, step):
    """Encode position by position with int64 alone, straight from the definitions."""

    def finish(acc, layer):
        value = (acc + (1 << layer.shift - 1)) >> layer.shift if layer.shift else acc
        value = np.clip(value, -layer.limit, layer.limit)
        return np.where(value < 0, value >> 3, value) if layer.leaky else value

    def convolve(x, layer):
        h, w, _ = x.shape
        k = layer.weight.shape[2] // 2
        padded = np.pad(x, ((k, k), (k, k), (0, 0)))
        weight = layer.weight.astype(np.int64)
        out = np.empty((h, w, len(weight)), np.int64)
        for i in range(h):
            for j in range(w):
                window = padded[i : i + 2 * k + 1, j : j + 2 * k + 1].transpose(2, 0, 1)
                out[i, j] = finish((weight * window).sum((1, 2, 3)) + layer.bias, layer)
        return out

    def shuffle(x):
        h, w, c = x.shape
        out = np.empty((2 * h, 2 * w, c // 4), np.int64)
        for dy in (0, 1):
            for dx in (0, 1):
                out[dy::2, dx::2] = x[:, :, 2 * dy + dx :: 4]
        return out

    h, w, M = v.shape
    x = z_hat.astype(np.int64)
    for layer in prior.hyper[:-1]:
        x = shuffle(convolve(x, layer))
    psi = convolve(x, prior.hyper[-1])
    v_hat = np.zeros((h, w, M), np.int64)
    u_hat = np.zeros((h, w, M), np.int64)
    gain, inverse = prior.gains[step].astype(np.int64), prior.inverses[step].astype(np.int64)
    for i in range(h):
        for j in range(w):
            acc = prior.context.bias.copy()
            for k, (dy, dx) in enumerate(TAPS):
                if 0 <= i + dy and 0 <= j + dx < w:
                    tap = prior.context.weight[:, :, 0, k].astype(np.int64)
                    acc += tap @ u_hat[i + dy, j + dx]
            features = np.concatenate([psi[i, j], finish(acc, prior.context)])
            for n, layer in enumerate(prior.entropy):
                acc = layer.weight[:, :, 0, 0].astype(np.int64) @ features + layer.bias
                acc = acc + prior.quality_bias[step] if n == 0 else acc
                features = finish(acc, layer)
            means = (features[:M] * gain + (1 << 21)) >> 22
            levels = np.clip((features[M:] + prior.scale_offsets[step] + 128) >> 8, 0, 63)
            residuals = np.floor(v[i, j] - means / 64 + 0.5).astype(np.int64)
            residuals[levels < prior.skip_below] = 0
            v_hat[i, j] = 64 * residuals + means
            u_hat[i, j] = np.clip((v_hat[i, j] * inverse + (1 << 20)) >> 21, -32767, 32767)
    return v_hat


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (5, 9), (9, 4)])
@pytest.mark.parametrize("step", [0, 100, 255])
def test_decoder_encoder_and_oracle_agree(prior, size, step):
    v, z_hat = latents(*size)
    stream, v_hat, *_ = prior.encode_y(v, z_hat, step)
    np.testing.assert_array_equal(v_hat, oracle(prior, v, z_hat, step))
    np.testing.assert_array_equal(prior.decode_y(stream, z_hat, step, *size), v_hat)


def test_a_prior_of_scales_alone_does_the_same(scale_prior):
    v, z_hat = latents(5, 9)
    code = scale_prior.encode_y(v, z_hat, 100)
    assert not (code.v_hat % 64).any() and len(np.unique(code.levels)) > 20
    np.testing.assert_array_equal(code.v_hat, oracle(scale_prior, v, z_hat, 100))
    np.testing.assert_array_equal(scale_prior.decode_y(code.stream, z_hat, 100, 5, 9), code.v_hat)


def test_position_by_position_gives_the_same_latents(prior):
    v, z_hat = latents(8, 11)
    v_hat = prior.encode_y(v, z_hat, 128).v_hat

    def residuals(at, means, levels):
        rounded = np.floor(v[at] - means / 64 + 0.5)
        return np.where(levels < prior.skip_below, 0, rounded).astype(np.int64)

    sums = prior.hyper_sums(z_hat, 128, 8, 11)
    np.testing.assert_array_equal(prior.run(sums, np.full(8, 128), raster(8, 11), residuals), v_hat)


@pytest.mark.parametrize("lanes", [2, 8, 128])
def test_lanes_change_the_bytes_but_not_the_latents(prior, lanes):
    v, z_hat = latents(7, 6)
    expected = prior.encode_y(v, z_hat, 128).v_hat
    stream, v_hat, *_ = prior.encode_y(v, z_hat, 128, lanes)
    np.testing.assert_array_equal(v_hat, expected)
    np.testing.assert_array_equal(prior.decode_y(stream, z_hat, 128, 7, 6, lanes), expected)


def test_values_far_outside_the_tables_survive_by_escape(prior):
    v, z_hat = latents(3, 3)
    v[1, 1] = 30000
    v[2, 0] = -30000
    stream, v_hat, _, levels = prior.encode_y(v, z_hat, 200)
    np.testing.assert_array_equal(prior.decode_y(stream, z_hat, 200, 3, 3), v_hat)
    coded = levels >= prior.skip_below
    assert np.abs(v_hat / 64 - v)[coded].max() <= 0.5 + 1e-3


def test_hyperlatents_round_trip_with_escapes(prior):
    z_hat = latents(9, 13)[1]
    z_hat[0, 0] = [250, -250, 32767, -32767]
    stream = prior.encode_z(z_hat)
    np.testing.assert_array_equal(prior.decode_z(stream, 9, 13), z_hat)


def test_a_cut_stream_is_an_error(prior):
    v, z_hat = latents(6, 6)
    stream = prior.encode_y(v, z_hat, 255).stream
    with pytest.raises(NicError):
        prior.decode_y(stream[: len(stream) // 2], z_hat, 255, 6, 6)


@pytest.mark.parametrize("h,w", [(1, 1), (1, 5), (5, 1), (2, 2), (7, 12)])
def test_wavefronts_visit_every_position_once_after_its_context(h, w):
    seen = np.zeros((h, w), bool)
    for rows, columns in wavefronts(h, w):
        for i, j in zip(rows, columns):
            assert not seen[i, j]
            for dy, dx in TAPS:
                if i + dy >= 0 and 0 <= j + dx < w:
                    assert seen[i + dy, j + dx]
        seen[rows, columns] = True
    assert seen.all()


def test_overlapping_loops_leave_the_threads_as_they_were(prior):
    def blas_threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    v, z_hat = latents(8, 8)
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: prior.encode_y(v, z_hat, 128).stream, range(8)))
        assert blas_threads() == before
    assert len(set(results)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"gains": lambda p: p.gains * 0},
        {"gains": lambda p: p.gains.astype(np.int64)},
        {"inverses": lambda p: p.inverses[:, :5]},
        {"hyper": lambda p: p.hyper[1:]},
        {"entropy": lambda p: p.entropy[:-1]},
        {"skip_below": lambda p: 65},
        {"z_tables": lambda p: p.residual_tables},
        {"context": lambda p: dataclasses.replace(p.context, limit=2**20)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_prior_whose_parts_do_not_fit_is_refused(prior, change):
    with pytest.raises(ValueError):
        dataclasses.replace(prior, **{name: make(prior) for name, make in change.items()})
