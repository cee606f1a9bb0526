"""The GPU's prior gives the integers of `nic.prior`: in PyTorch, in Triton's interpreter, on a GPU.

Tests that take `device` run kernels. Without a GPU they are skipped here, and run in a process of
their own, in which Triton interprets them; what only a compiler finds, compilation ahead of time
finds. Neither sees races between threads.
"""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_priors import latents, oracle  # noqa: E402

from kernels import bench, launch, range_decoder, wavefront  # noqa: E402
from kernels.decode_loop import DecodeLoop  # noqa: E402
from kernels.device_prior import DevicePrior  # noqa: E402
from kernels.lockstep import Lockstep  # noqa: E402
from kernels.wavefront import DenseLayer, Network  # noqa: E402
from nic.errors import FormatError  # noqa: E402
from nic.integer import Layer  # noqa: E402
from nic.symbols import SymbolReader, SymbolWriter  # noqa: E402
from nic.tables import gaussian_tables  # noqa: E402
from nic.wavefront import TAPS, step_count, wavefronts  # noqa: E402

CPU = torch.device("cpu")
HAS_GPU = torch.cuda.is_available()
SIZES, STEPS, LANES = [(5, 6), (1, 4), (3, 2)], [0, 100, 255], [16, 8, 1]

needs_triton = pytest.mark.skipif(launch.triton is None, reason="Triton is not installed")
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="PyTorch finds no CUDA GPU")
compiled_only = pytest.mark.skipif(launch.INTERPRETED, reason="Triton is interpreting kernels")


@pytest.fixture
def device():
    """Where Triton kernels run in this process."""
    if launch.INTERPRETED:
        return CPU
    if launch.triton is None:
        pytest.skip("Triton is not installed")
    if not HAS_GPU:
        pytest.skip("no CUDA GPU: run in the interpreter by test_in_the_interpreter")
    return torch.device("cuda", 0)


def version(module):
    return tuple(map(int, module.__version__.split(".")[:2]))


@compiled_only
@needs_triton
@pytest.mark.skipif(HAS_GPU, reason="there is a GPU, on which the tests run compiled kernels")
@pytest.mark.skipif(
    launch.triton is not None and version(launch.triton) < (3, 7) and version(np) >= (2, 4),
    reason="the interpreter of Triton before 3.7 fails with NumPy 2.4 and newer",
)
def test_in_the_interpreter():
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=Path(__file__).parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def random_network(M, phi, hidden, device, rng):
    """Weights over the whole of int16, shifts that keep activations large but mostly unclipped."""

    def layer(outputs, inputs, taps, shift, leaky, limit=32767):
        weight = rng.integers(-32768, 32768, (outputs, inputs, 1, taps)).astype(np.int16)
        weight[0], weight[-1] = 32767, -32768
        bias = rng.integers(-(2 ** (shift + 12)), 2 ** (shift + 12), outputs)
        return DenseLayer.of(Layer(weight, bias, shift, leaky, limit), device)

    first = layer(hidden, phi, 1, 17, True)
    return Network(
        layer(phi, M, len(TAPS), 19, False),
        [first, layer(hidden, hidden, 1, 16, True), layer(2 * M, hidden, 1, 15, False, 2**18 - 1)],
        torch.from_numpy(
            np.concatenate(
                [rng.integers(1, 2**26, (256, M)), rng.integers(-(2**13), 2**13, (256, M))], 1
            )
        ).int().to(device),
        torch.from_numpy(rng.integers(1, 2**29, (256, M))).int().to(device),
    )  # fmt: skip


def int64_parameters(network, cells, sums, u_hat):
    """Entropy parameters position by position, with int64 alone, from the format's definitions."""

    def finish(acc, layer):
        value = (acc + ((1 << layer.shift) >> 1)) >> layer.shift
        value = np.clip(value, -layer.limit, layer.limit)
        return np.where(value < 0, value >> 3, value) if layer.leaky else value

    def product(x, layer):
        return x @ layer.weight.cpu().numpy().astype(np.int64)

    u_hat, sums = (a.cpu().numpy().astype(np.int64) for a in (u_hat, sums))
    M = network.M
    result = []
    for corner, width, latent, quality in cells.T.tolist():
        window = [u_hat[corner + (dy + 2) * width + dx + 2] for dy, dx in TAPS]
        context, (first, *rest) = network.context, network.entropy
        bias = context.bias.cpu().numpy().astype(np.int64)
        phi = finish(product(np.concatenate(window), context) + bias, context)
        x = finish(product(phi, first) + sums[latent], first)
        for layer in rest:
            x = finish(product(x, layer) + layer.bias.cpu().numpy().astype(np.int64), layer)
        gain, offset = network.modifiers[quality].cpu().numpy().astype(np.int64).reshape(2, M)
        levels = np.clip((x[M:] + offset + 128) >> 8, 0, 63)
        result.append([(x[:M] * gain + (1 << 21)) >> 22, levels])
    return np.array(result).transpose(1, 0, 2)


def random_step(network, sizes, device, rng):
    """Inputs of the fullest step: cells, sums and u_hat."""
    qualities = rng.integers(0, 256, len(sizes)).tolist()
    lockstep = Lockstep.of(sizes, qualities, device)
    cells = max((cells for _, cells in lockstep.steps()), key=lambda c: c.shape[1])
    hidden = network.entropy[0].weight.shape[1]
    positions = lockstep.cells.shape[1]
    sums = torch.from_numpy(rng.integers(-(2**29), 2**29, (positions, hidden))).double()
    u_hat = torch.from_numpy(rng.integers(-32767, 32768, (lockstep.padded, network.M))).int()
    return cells, sums.to(device), u_hat.to(device)


@pytest.mark.parametrize("M,phi,hidden", [(16, 16, 32), (12, 6, 40)])
def test_one_step_equals_int64_arithmetic(M, phi, hidden, device):
    rng = np.random.default_rng(M)
    network = random_network(M, phi, hidden, device, rng)
    # 19 positions: more than one block, and the second not full.
    cells, sums, u_hat = random_step(network, [(7, 40), (12, 60)], device, rng)
    expected = int64_parameters(network, cells, sums, u_hat)
    assert cells.shape[1] == 19 and np.abs(expected[0]).max() > 2**16
    assert len(np.unique(expected[1])) > 30
    result = wavefront.parameters(network, cells, sums, u_hat)
    np.testing.assert_array_equal(result.cpu().numpy(), expected)


def test_reference_equals_int64_arithmetic():
    rng = np.random.default_rng(1)
    network = random_network(16, 24, 32, CPU, rng)
    cells, sums, u_hat = random_step(network, [(7, 40), (12, 60)], CPU, rng)
    result = wavefront.parameters_reference(network, cells, sums, u_hat)
    np.testing.assert_array_equal(result, int64_parameters(network, cells, sums, u_hat))


def test_a_step_at_full_width(device):
    rng = np.random.default_rng(2)
    network = random_network(320, 192, 384, device, rng)
    cells, sums, u_hat = random_step(network, [(32, 48)], device, rng)
    expected = wavefront.parameters_reference(network, cells, sums, u_hat)
    assert torch.equal(wavefront.parameters(network, cells, sums, u_hat), expected)


def test_update_equals_its_reference(device):
    rng = np.random.default_rng(3)
    network = random_network(12, 8, 8, device, rng)
    cells, _, u_hat = random_step(network, [(7, 5), (4, 9)], device, rng)
    n, positions = cells.shape[1], 7 * 5 + 4 * 9
    means = torch.from_numpy(rng.integers(-(2**22), 2**22, (n, 12))).int().to(device)
    residuals = torch.from_numpy(rng.integers(-32767, 32768, (n, 12))).int().to(device)
    results = []
    for update in (wavefront.update, wavefront.update_reference):
        u, v = u_hat.clone(), torch.zeros(positions, 12, dtype=torch.int32, device=device)
        update(network, cells, means, residuals, u, v)
        results.append((u, v))
    assert all(map(torch.equal, *results))
    assert not torch.equal(results[0][0], u_hat)


@pytest.mark.parametrize("change,error", [
    (lambda cells, sums, u_hat: (cells, sums.float(), u_hat), TypeError),
    (lambda cells, sums, u_hat: (cells, sums, u_hat.short()), TypeError),
    (lambda cells, sums, u_hat: (cells.long(), sums, u_hat), TypeError),
    (lambda cells, sums, u_hat: (cells, sums[:, 1:], u_hat), ValueError),
    (lambda cells, sums, u_hat: (cells, sums, u_hat[:, :8]), ValueError),
    (lambda cells, sums, u_hat: (cells, sums.T.contiguous().T, u_hat), ValueError),
    (lambda cells, sums, u_hat: (cells.T.contiguous().T, sums, u_hat), ValueError),
    (lambda cells, sums, u_hat: (cells, sums.to("meta"), u_hat), ValueError),
])  # fmt: skip
def test_launchers_refuse_unfit_tensors(change, error, device):
    rng = np.random.default_rng(4)
    network = random_network(12, 8, 8, device, rng)
    with pytest.raises(error):
        wavefront.parameters(network, *change(*random_step(network, [(3, 9)], device, rng)))


@compiled_only
@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_kernels_need_a_gpu():
    with pytest.raises(RuntimeError, match="CUDA|Triton"):
        launch.require(CPU)
    with pytest.raises(RuntimeError, match="no CUDA device"):
        DevicePrior(None, "cuda")


def coded_steps(counts, M, lanes, seed):
    """Random levels of some steps of one grid, their residuals, and the stream of these."""
    rng = np.random.default_rng(seed)
    tables, skip_below = gaussian_tables()
    writer, steps = SymbolWriter(lanes), []
    for n in counts:
        levels = rng.integers(0, 64, (n, M))
        residuals = np.where(levels < skip_below, 0, rng.integers(-9, 10, (n, M)))
        escaped = (levels >= skip_below) & (rng.random((n, M)) < 0.1)
        extremes = [-32767, 32767, 3000, -3000]
        residuals[escaped] = rng.choice(extremes, escaped.sum())
        coded = levels >= skip_below
        writer.write(tables, levels[coded], residuals[coded])
        steps.append((levels, residuals))
    return writer.finish(), steps


def test_range_decoder_equals_the_symbols_written(device):
    """Streams of different lanes side by side; escapes; a step in which one grid has nothing."""
    M, lanes, counts = 12, [1, 4, 32], [[1, 2, 1], [0, 3, 2], [2, 1, 4]]
    coded = [coded_steps(c, M, n, seed=n) for c, n in zip(counts, lanes)]
    starts = np.cumsum([0, *np.transpose(counts).flatten()])
    tables, skip_below = gaussian_tables()
    streams = [stream for stream, _ in coded]
    room = sum(map(len, streams))
    reader = range_decoder.DeviceReader(3, max(lanes), room, tables, skip_below, starts, device)
    reader.load(streams, lanes)
    for step in range(3):
        levels, residuals = (
            np.concatenate([steps[step][k] for _, steps in coded]) for k in range(2)
        )
        result = reader.read(step, torch.from_numpy(levels).int().to(device))
        np.testing.assert_array_equal(result.cpu().numpy(), residuals)
    reader.finish()


def test_damage_is_found_where_the_cpu_finds_it(device):
    tables, skip_below = gaussian_tables()
    stream, [(levels, _)] = coded_steps([1], 10, lanes=1, seed=5)
    rng = np.random.default_rng(0)
    damaged = [stream, stream + b"\0", stream + b"\1", stream[:-1], stream[:3], b"", b"\xff" * 9]
    for bit in rng.choice(8 * len(stream), 9, replace=False):
        flipped = bytearray(stream)
        flipped[bit >> 3] ^= 1 << (bit & 7)
        damaged.append(bytes(flipped))

    def on_cpu(data):
        reader = SymbolReader(data)
        values = reader.read_coded(tables, levels, skip_below)
        reader.finish()
        return values

    def on_device(data):
        room = len(data)
        reader = range_decoder.DeviceReader(1, 1, room, tables, skip_below, [0, 1], device)
        reader.load([data], [1])
        values = reader.read(0, torch.from_numpy(levels).int().to(device))
        reader.finish()
        return values.cpu().numpy()

    errors = 0
    for data in damaged:
        try:
            expected = on_cpu(data)
        except FormatError as error:
            errors += 1
            with pytest.raises(FormatError, match=re.escape(str(error))):
                on_device(data)
        else:
            np.testing.assert_array_equal(on_device(data), expected)
    assert errors > 6


@pytest.fixture(scope="module")
def coded(prior):
    """(latents, z_hat, code) of a batch of grids, coded by the CPU."""
    grids = [latents(*size, seed=k) for k, size in enumerate(SIZES)]
    grids[0][0][2, 3] = 30000
    codes = [prior.encode_y(v, z, q, n) for (v, z), q, n in zip(grids, STEPS, LANES)]
    return [(v, z, code) for (v, z), code in zip(grids, codes)]


def decode(device_prior, coded):
    streams, z_hats = [code.stream for *_, code in coded], [z for _, z, _ in coded]
    return device_prior.decode_grids(streams, z_hats, STEPS, SIZES, LANES)


def assert_decoded(v_hats, coded):
    for v_hat, (*_, code) in zip(v_hats, coded, strict=True):
        assert v_hat.dtype == np.int32
        np.testing.assert_array_equal(v_hat, code.v_hat)


def test_triton_decodes_a_batch_and_then_others_like_it(prior, coded, device):
    device_prior = DevicePrior(prior, device)
    assert_decoded(decode(device_prior, coded), coded)
    with pytest.raises(FormatError):
        decode(
            device_prior, [(v, z, code._replace(stream=code.stream[:-2])) for v, z, code in coded]
        )
    # The third time, on a GPU, in what was recorded the second time: in another order as well.
    steps, sizes, lanes = [255 - q for q in STEPS], SIZES[::-1], [2, 1, 16]
    grids = [latents(*size, seed=9 + k) for k, size in enumerate(sizes)]
    codes = [prior.encode_y(v, z, q, n) for (v, z), q, n in zip(grids, steps, lanes)]
    streams, z_hats = [code.stream for code in codes], [z for _, z in grids]
    v_hats = device_prior.decode_grids(streams, z_hats, steps, sizes, lanes)
    assert_decoded(v_hats, [(*grid, code) for grid, code in zip(grids, codes)])
    assert device_prior._loop.cache_info().hits == 2


def test_threads_take_turns_in_a_loop(prior, monkeypatch):
    monkeypatch.setattr(range_decoder, "require", lambda device: None)
    network = Network.of(prior, CPU)
    loop = DecodeLoop(prior, network, ((1, 2),), lanes=1, capacity=9, device=CPU)
    hidden = network.entropy[0].weight.shape[1]

    def launch():
        time.sleep(0.01)
        loop.v_hat = loop.sums[:, :1].int()

    def decode(number):
        sums = torch.full((1, 2, hidden), number, dtype=torch.float64)
        return loop.decode([b""], [1], [0], [sums])[0]

    monkeypatch.setattr(loop, "_launch", launch)
    monkeypatch.setattr(loop.reader, "finish", lambda: None)
    with ThreadPoolExecutor(4) as pool:
        for number, v_hat in enumerate(pool.map(decode, range(8))):
            assert (v_hat == number).all()


def test_pytorch_decodes_a_batch_and_the_oracle_agrees(prior, coded):
    v_hats = decode(DevicePrior(prior, "cpu", triton=False), coded)
    assert_decoded(v_hats, coded)
    v, z_hat, _ = coded[0]
    np.testing.assert_array_equal(v_hats[0], oracle(prior, v, z_hat, STEPS[0]))


def test_a_prior_without_context_decodes_too(scale_prior, device):
    v, z_hat = latents(5, 6)
    code = scale_prior.encode_y(v, z_hat, 100, 8)
    for triton in (True, False):
        device_prior = DevicePrior(scale_prior, device, triton)
        [v_hat] = device_prior.decode_grids([code.stream], [z_hat], [100], [(5, 6)], [8])
        np.testing.assert_array_equal(v_hat, code.v_hat)


def test_a_damaged_stream_is_an_error(prior, coded):
    (v, z, code), *rest = coded
    broken = [(v, z, code._replace(stream=code.stream[:-2])), *rest]
    with pytest.raises(FormatError):
        decode(DevicePrior(prior, "cpu", triton=False), broken)


@compiled_only
def test_without_triton_pytorch_takes_over_and_says_why(prior, coded):
    with pytest.warns(RuntimeWarning, match="the prior runs in PyTorch"):
        device_prior = DevicePrior(prior, "cpu")
    assert not device_prior.triton


def test_kernels_import_without_triton():
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch, kernels.bench, kernels.launch as launch\n"
        "assert 'not installed' in launch.obstacle(torch.device('cpu'))\n"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)


def test_an_old_triton_is_as_none():
    program = (
        "import sys, types\n"
        "for name in ('triton', 'triton.language'):\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "sys.modules['triton'].__version__ = '3.5.1'\n"
        "sys.modules['triton'].language = sys.modules['triton.language']\n"
        "import torch, kernels.bench, kernels.launch as launch\n"
        "assert 'Triton 3.5.1 is too old' in launch.obstacle(torch.device('cpu'))\n"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)


def test_a_triton_that_cannot_launch_says_why(monkeypatch):
    def launcher(out):
        raise RuntimeError("Failed to find C compiler.\nSet CC")

    monkeypatch.setattr(launch, "_trial_kernel", {(1,): launcher})
    assert launch._failure(CPU) == "Triton fails here (RuntimeError: Failed to find C compiler.)"


def test_many_hyperlatents_beside_each_other_equal_the_cpu(prior, device):
    sizes = [(5, 6), (1, 4), (3, 9)] * 3
    z_hats = [latents(*size, seed=k)[1] for k, size in enumerate(sizes)]
    streams = [prior.encode_z(z_hat) for z_hat in z_hats]
    device_prior = DevicePrior(prior, device)
    for z_hat, decoded in zip(z_hats, device_prior.decode_zs(streams, sizes), strict=True):
        np.testing.assert_array_equal(decoded, z_hat)
    with pytest.raises(FormatError):
        device_prior.decode_zs([*streams[1:], streams[0] + b"\1\1"], [*sizes[1:], sizes[0]])


def test_hyper_sums_equal_the_cpu(prior):
    device_prior = DevicePrior(prior, "cpu", triton=False)
    z_hat = latents(7, 9)[1]
    sums = device_prior.hyper_sums(z_hat, 77, 7, 9)
    np.testing.assert_array_equal(sums, prior.hyper_sums(z_hat, 77, 7, 9))


def test_too_little_memory_is_a_memory_error(prior, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    device_prior = DevicePrior(prior, "cpu", triton=False)
    monkeypatch.setattr(device_prior, "hyper_sums", full)
    v, z_hat = latents(5, 6)
    for call in (
        lambda: device_prior.encode_grids([v], [z_hat], [0], [1]),
        lambda: device_prior.decode_grids([b""], [z_hat], [0], [(5, 6)], [1]),
    ):
        monkeypatch.setattr(device_prior, "_loop", lru_cache(lambda: None))
        device_prior._loop()
        with pytest.raises(MemoryError):
            call()
        assert device_prior._loop.cache_info().currsize == 0


def test_coders_on_the_host_see_what_the_cpu_shows_them(prior, coded):
    """`run` with coders that give the residuals again: the order of positions included."""
    device_prior = DevicePrior(prior, "cpu", triton=False)
    sums = [device_prior.hyper_sums(z, q, *s) for (_, z, _), q, s in zip(coded, STEPS, SIZES)]
    expected = [iter(wavefronts(*size)) for size in SIZES]

    def coder(code, steps):
        def residuals(at, means, levels):
            np.testing.assert_array_equal(at, next(steps))
            np.testing.assert_array_equal(levels, code.levels[at])
            np.testing.assert_array_equal(means, (code.v_hat - 64 * code.residuals)[at])
            return code.residuals[at]

        return residuals

    coders = [coder(code, steps) for (*_, code), steps in zip(coded, expected)]
    assert_decoded(device_prior.run_grids(sums, STEPS, coders), coded)
    assert all(next(steps, None) is None for steps in expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (3, 2), (6, 11)])
def test_lockstep_of_one_grid_is_its_wavefronts(size):
    lockstep = Lockstep.of([size], [0], CPU)
    steps = [cells[2].numpy() for _, cells in lockstep.steps()]
    expected = [rows * size[1] + columns for rows, columns in wavefronts(*size)]
    assert len(steps) == len(expected)
    assert lockstep.count == step_count(*size)
    assert all(map(np.array_equal, steps, expected))


@needs_gpu
@pytest.mark.parametrize("triton", [True, False], ids=["triton", "torch"])
@pytest.mark.parametrize("lanes", [1, 128])
def test_gpu_decodes_full_size_latents_of_the_shipped_model(model, lanes, triton):
    rng = np.random.default_rng(lanes)
    sizes, steps = [(32, 48), (16, 16), (5, 90)], [20, 128, 255]
    M, z_channels = model.prior.gains.shape[1], len(model.prior.z_tables.lows)
    vs = [(rng.laplace(size=(*size, M)) * 5).astype(np.float32) for size in sizes]
    z_hats = [
        rng.integers(-4, 5, (-(-h // 4), -(-w // 4), z_channels)).astype(np.float64)
        for h, w in sizes
    ]
    codes = [model.prior.encode_y(v, z, q, lanes) for v, z, q in zip(vs, z_hats, steps)]
    device_prior = DevicePrior(model.prior, "cuda", triton=triton)
    streams = [code.stream for code in codes]
    for _ in range(3):  # races show now and then
        v_hats = device_prior.decode_grids(streams, z_hats, steps, sizes, [lanes] * 3)
        for v_hat, code in zip(v_hats, codes):
            np.testing.assert_array_equal(v_hat, code.v_hat)


@needs_gpu
def test_gpu_runs_coders_on_the_host(prior):
    v, z_hat = latents(20, 31)
    code = prior.encode_y(v, z_hat, 128)
    device_prior = DevicePrior(prior, "cuda")
    sums = device_prior.hyper_sums(z_hat, 128, 20, 31)
    coder = lambda at, means, levels: code.residuals[at]  # noqa: E731
    [v_hat] = device_prior.run_grids([sums], [128], [coder])
    np.testing.assert_array_equal(v_hat, code.v_hat)


@compiled_only
@pytest.mark.skipif(HAS_GPU, reason="there is a GPU to measure")
def test_bench_says_that_it_needs_a_gpu(capsys):
    assert bench.main() == 1
    assert "needs a CUDA GPU" in capsys.readouterr().out


def test_bench_times_steps_alone(prior, monkeypatch):
    assert bench.seconds(lambda: None, before=lambda: time.sleep(0.05)) < 0.05
    monkeypatch.setattr(Lockstep, "grids", None)  # copies to the host are not of the loop
    row = bench.network_row(prior, 3, 5, 2, "torch", CPU, (1e12, 1e12)).split()
    assert row[:3] == ["3x5", "2", "torch"] and float(row[3]) > 0


def test_bench_times_the_range_decoder_and_checks_it(prior, device, monkeypatch):
    row = bench.decoder_row(prior, 2, 4, device, steps=2, n=1).split()
    assert row[:2] == ["2", "4"] and float(row[2]) > 0
    zeros = lambda reader, step, levels: torch.zeros_like(levels)  # noqa: E731
    monkeypatch.setattr(range_decoder.DeviceReader, "read", zeros)
    with pytest.raises(ValueError, match="other values"):
        bench.decoder_row(prior, 2, 4, device, steps=2, n=1)


INT32, INT64 = "*i32", "*i64"
LAYER = dict(
    x_ptr=INT32, weight_ptr=INT32, sums_ptr="*fp64", cells_ptr=INT32, modifiers_ptr=INT32,
    out_ptr=INT32, count="i32", cells_stride="i32",
)  # fmt: skip
BLOCKS = dict(BLOCK_POSITIONS=16, BLOCK_IN=64, BLOCK_OUT=32)
INNER = dict(BLOCKS, modifiers_ptr=None, HEAD=False, LIMIT=32767)
UPDATE = dict.fromkeys(
    ["cells_ptr", "inverses_ptr", "means_ptr", "residuals_ptr", "u_hat_ptr", "v_hat_ptr"], INT32
) | dict(cells_stride="i32")
DECODE = (
    dict.fromkeys(["ends_ptr", "codes_ptr", "ranges_ptr", "positions_ptr"], INT64)
    | dict.fromkeys(["errors_ptr", "lanes_ptr", "starts_ptr", "levels_ptr", "residuals_ptr"], INT32)
    | dict.fromkeys(["order_ptr", "cdfs_ptr", "tables_ptr", "lows_ptr"], INT32)
    | dict(data_ptr="*u8", step="i32", grids="i32", skip_below="i32")
)
COMPILED = {
    "context": ("layer_kernel", LAYER, dict(
        INNER, IN=320, OUT=192, TAPS=12, OWN_SUMS=False, SHIFT=14, LEAKY=False)),
    "first": ("layer_kernel", LAYER, dict(
        INNER, IN=192, OUT=384, TAPS=1, OWN_SUMS=True, SHIFT=16, LEAKY=True)),
    "hidden": ("layer_kernel", LAYER, dict(
        INNER, IN=384, OUT=384, TAPS=1, OWN_SUMS=False, SHIFT=16, LEAKY=True)),
    "head": ("layer_kernel", LAYER, dict(
        BLOCKS, IN=384, OUT=640, TAPS=1, OWN_SUMS=False, HEAD=True, SHIFT=13, LEAKY=False,
        LIMIT=2**18 - 1)),
    "update": ("update_kernel", UPDATE, dict(M=320, BLOCK=512)),
    "decode": ("decode_kernel", DECODE, dict(M=320, LANES=1, BLOCK=1024, SEARCH=12)),
    "decode128": ("decode_kernel", DECODE, dict(M=320, LANES=128, BLOCK=1024, SEARCH=12)),
}  # fmt: skip


@compiled_only
@needs_triton
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", COMPILED)
def test_kernels_compile_ahead_of_time(name, capability, tmp_path, monkeypatch):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel_name, types, constants = COMPILED[name]
    kernel = getattr(wavefront, kernel_name, None) or getattr(range_decoder, kernel_name)
    signature = {n: "constexpr" if n in constants else types[n] for n in kernel.arg_names}
    # As for tensors where PyTorch puts them, which other loads are made for; cells are a slice.
    attributes = {
        (at,): [["tt.divisibility", 16]]
        for at, n in enumerate(kernel.arg_names)
        if signature[n].startswith("*") and n != "cells_ptr"
    }
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = launch.triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared < 48 * 1024  # what any program may have without asking
    if kernel_name == "layer_kernel":
        products = [line for line in compiled.asm["ptx"].splitlines() if "mma.sync" in line]
        assert products and all(".f64.f64.f64.f64" in line for line in products)
