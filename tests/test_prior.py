"""The exact prior: encoder and decoder agree, in any order, against an oracle in int64."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

torch = pytest.importorskip("torch")

from small_priors import latents, oracle, raster  # noqa: E402

from nic.errors import NicError  # noqa: E402
from nic.wavefront import NEWEST, TAPS, lockstep  # noqa: E402


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


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(prior, threads):
    v, z_hat = latents(19, 23)
    expected = prior.encode_y(v, z_hat, 128)
    with threadpool_limits(threads, "blas"):
        code = prior.encode_y(v, z_hat, 128)
        decoded = prior.decode_y(code.stream, z_hat, 128, 19, 23)
    assert code.stream == expected.stream
    np.testing.assert_array_equal(decoded, expected.v_hat)


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


@pytest.mark.parametrize("h,w", [(1, 1), (1, 5), (5, 1), (2, 2), (9, 3), (7, 12)])
def test_wavefronts_visit_every_position_once_after_its_context(h, w):
    seen, before = np.zeros((h, w), bool), np.zeros((h, w), bool)
    for rows, columns in lockstep([(h, w)], [0]):
        for i, j in zip(rows, columns):
            assert not seen[i, j]
            for dy, dx in TAPS:
                if i + dy >= 0 and 0 <= j + dx < w:
                    assert (seen if (dy, dx) in NEWEST else before)[i + dy, j + dx]
        before[:] = seen
        seen[rows, columns] = True
    assert seen.all()


def test_loops_of_several_threads_at_once(prior):
    v, z_hat = latents(8, 8)
    expected = prior.encode_y(v, z_hat, 128).stream
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: prior.encode_y(v, z_hat, 128).stream, range(8)))
    assert set(results) == {expected}


def test_progress_counts_steps_that_are_done(prior):
    v, z_hat = latents(2, 5)
    told = []
    steps = prior.encode_grids([v], [z_hat], [128], [1], progress=lambda *both: told.append(both))
    assert steps and told == [(k, 8) for k in range(1, 9)]


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
