"""Times of the kernels on the GPU at hand, against PyTorch and against what the card can do.

    python -m kernels.bench [FOLDER]

First, whether files that CPU and GPU make of a folder's images, or of the bundled photograph, mean
the same on both. Then the network of the shipped model, residuals zero: a step is its four layers
and the update, launched one by one; the range decoder alone, at a mix of scale levels; and whole
files, from bytes to pixels, their launches recorded. About five minutes with a few small images.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cached_property

import numpy as np
import torch

from kernels.device_prior import DevicePrior
from kernels.equality import compare
from kernels.launch import obstacle
from kernels.lockstep import Lockstep
from kernels.range_decoder import DeviceReader
from kernels.wavefront import Network
from nic import codec, container, images, models
from nic.evaluation.bench import PHOTO
from nic.models import Model
from nic.picture import Picture
from nic.prior import IntegerPrior
from nic.streams import decode_tiles
from nic.symbols import SymbolWriter
from nic.tiles import unpack

GRIDS = [(16, 16), (32, 48), (86, 128)]
"""(h, w) of latents: 256x256, 768x512 and 2048x1376 pixels."""
BATCHES = [1, 8, 64]
QUALITY_STEP = 128


def main(arguments: Sequence[str] = ()) -> int:
    """Print the tables; 1 where there is no GPU to measure, or its latents are not the CPU's."""
    if not torch.cuda.is_available():
        print("kernels.bench needs a CUDA GPU of compute capability 8.0, and PyTorch finds none")
        return 1
    paths = images.find(arguments[0]) if arguments else [PHOTO]
    host, gpu = models.load(), models.load(device="cuda")
    files, failed, levels = compare(paths, host, gpu)
    print(f"{files} files of CPU or GPU, each decoded on both: latents differ in {len(failed)}")
    print(f"(pixels by at most {levels} of 255)", *failed, "", sep="\n", flush=True)
    network_table(host.prior)
    if reason := obstacle(torch.device("cuda", 0)):
        print(f"\nno Triton: {reason}")
    else:
        decoder_table(host.prior)
    file_table({"triton": gpu, "torch": TorchModel.of(gpu), "cpu": host})
    return 1 if failed else 0


class TorchModel(Model):
    """A model on a GPU whose kernels are PyTorch's."""

    @staticmethod
    def of(model: Model) -> TorchModel:
        return TorchModel(**{field.name: getattr(model, field.name) for field in fields(model)})

    @cached_property
    def coder(self) -> DevicePrior:
        return DevicePrior(self.prior, self.place, triton=False)


def network_table(prior: IntegerPrior) -> None:
    """Steps of the network, by Triton and PyTorch."""
    device = torch.device("cuda", 0)
    flops, bandwidth = limits = measured_limits(device)
    print(f"{torch.cuda.get_device_name()}: {flops / 1e12:.1f} TFLOP/s in float64, ", end="")
    print(f"{bandwidth / 1e9:.0f} GB/s, both as measured here\n")
    paths = ["torch"] if obstacle(device) else ["triton", "torch"]
    print("grid     batch path      us/step  ms/grids  grids/s  GFLOP/s (of card)   GB/s (of card)")
    for h, w in GRIDS:
        for batch in BATCHES:
            for path in paths:
                print(network_row(prior, h, w, batch, path, device, limits), flush=True)


def decoder_table(prior: IntegerPrior) -> None:
    """The range decoder alone."""
    print("\nstreams lanes  us/step  ns/symbol")
    for streams in BATCHES:
        for lanes in (1, 16, 128):
            row = decoder_row(prior, streams, lanes, torch.device("cuda", 0))
            print(row, flush=True)


def file_table(paths: dict[str, Model]) -> None:
    """Whole files, by each model."""
    picture = Picture(images.load_pixels(PHOTO))
    print("\n768x512 path   lanes  batch  latents, ms/image  whole, ms/image  images/s")
    for lanes in (1, "auto"):
        data = codec.encode(picture, lanes=lanes)
        for name, model in paths.items():
            # Where the host decodes symbols, an image of many takes as long as one of few.
            batches, repeats = (BATCHES, 3) if name == "triton" else (BATCHES[:2], 1)
            for batch in batches:
                row = file_row(model, data, batch, repeats)
                print(f"{'':7} {name:6} {lanes!s:5} {row}", flush=True)


def seconds(
    run: Callable[[], object], repeats: int = 5, before: Callable[[], object] = lambda: None
) -> float:
    """Median time of a call, its work on the GPU included; of `before`, called each time, not."""
    times = []
    for _ in range(repeats + 1):
        before()
        _wait()
        start = time.perf_counter()
        run()
        _wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first compiles


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measured_limits(device: torch.device) -> tuple[float, float]:
    """Operations a second of a large float64 product, bytes a second of a large copy."""
    a = torch.ones(4096, 4096, dtype=torch.float64, device=device)
    b = torch.empty(2**28, dtype=torch.float32, device=device)
    c = torch.empty_like(b)
    return 2 * 4096**3 / seconds(lambda: a @ a), 2 * 4 * 2**28 / seconds(lambda: c.copy_(b))


def step_costs(network: Network) -> tuple[int, int, int]:
    """Operations of a position, bytes of a position, bytes of a step's weights."""
    layers = [network.context, *network.entropy]
    products = sum(layer.weight.numel() for layer in layers)
    window, M = network.context.weight.shape[0], network.M
    hidden = sum(layer.weight.shape[0] for layer in network.entropy)
    own_sums = 8 * network.entropy[0].weight.shape[1]
    # Parameters are written and read, activations likewise; residuals read, v_hat, u_hat written.
    moved = 4 * window + own_sums + 2 * 4 * 2 * M + 2 * 4 * hidden + 3 * 4 * M
    return 2 * products, moved, 4 * products


def network_row(
    prior: IntegerPrior,
    h: int,
    w: int,
    batch: int,
    path: str,
    device: torch.device,
    limits: tuple[float, float],
) -> str:
    """Time the serial loop of `batch` grids of h x w."""
    device_prior = DevicePrior(prior, device, triton=path == "triton")
    rng = np.random.default_rng(0)
    shape = -(-h // 4), -(-w // 4), len(prior.z_tables.lows)
    z_hat = rng.integers(-4, 5, shape).astype(np.float64)
    sums = device_prior.hyper_sums(z_hat, QUALITY_STEP, h, w).flatten(0, 1).repeat(batch, 1)
    lockstep = Lockstep.of([(h, w)] * batch, [QUALITY_STEP] * batch, device)
    counts = [cells.shape[1] for _, cells in lockstep.steps()]
    M = device_prior.network.M
    zeros = torch.zeros(max(counts), M, dtype=torch.int32, device=device)
    elapsed = seconds(
        lambda: device_prior.advance(lockstep, sums, lambda _, both: zeros[: both.shape[1]])
    )
    (flops, bandwidth), (work, moved, weights) = limits, step_costs(device_prior.network)
    rate = work * sum(counts) / elapsed
    traffic = (moved * sum(counts) + weights * len(counts)) / elapsed
    return (
        f"{h:3}x{w:<4} {batch:5} {path:7} {1e6 * elapsed / len(counts):9.1f}"
        f" {1e3 * elapsed:9.1f} {batch / elapsed:8.1f}"
        f" {rate / 1e9:8.0f} ({rate / flops:5.1%})"
        f" {traffic / 1e9:10.1f} ({traffic / bandwidth:5.1%})"
    )


def decoder_row(
    prior: IntegerPrior, streams: int, lanes: int, device: torch.device, steps: int = 8, n: int = 16
) -> str:
    """Time the range decoder: steps of n positions of each stream, a third of the symbols coded.

    ValueError where it decodes other values than were written.
    """
    rng, M = np.random.default_rng(0), prior.gains.shape[1]
    tables, skip_below = prior.residual_tables, prior.skip_below
    levels = rng.integers(skip_below, 40, (n, M))
    levels[rng.random((n, M)) > 1 / 3] = 0
    coded = levels >= skip_below
    values = np.where(coded, rng.integers(-1, 2, levels.shape), 0)
    writer = SymbolWriter(lanes)
    for _ in range(steps):
        writer.write(tables, levels[coded], values[coded])
    data = [writer.finish()] * streams
    starts = n * np.arange(steps * streams + 1)
    tiled, expected = (
        torch.from_numpy(np.tile(each, (streams, 1))).int().to(device) for each in (levels, values)
    )
    room = sum(map(len, data))
    reader = DeviceReader(streams, lanes, room, tables, skip_below, starts, device)

    def load() -> None:
        reader.load(data, [lanes] * streams)

    def decode() -> list[torch.Tensor]:
        return [reader.read(step, tiled) for step in range(steps)]

    elapsed = seconds(decode, before=load) / steps
    load()
    if not all(torch.equal(read, expected) for read in decode()):
        raise ValueError("the range decoder gives other values than were written")
    reader.finish()
    per_symbol = 1e9 * elapsed / (coded.sum() * streams)
    return f"{streams:7} {lanes:5} {1e6 * elapsed:8.1f} {per_symbol:10.1f}"


def file_row(model: Model, data: bytes, batch: int, repeats: int = 3) -> str:
    """Time the decoding of so many copies of a file: of its latents, and of the whole."""
    tiles = unpack(*container.read(data)) * batch
    latents = seconds(lambda: list(decode_tiles(tiles, model)), repeats)
    elapsed = seconds(lambda: list(codec.decode_batch([data] * batch, model=model)), repeats)
    return (
        f"{batch:6} {1e3 * latents / batch:18.1f} {1e3 * elapsed / batch:16.1f}"
        f" {batch / elapsed:9.1f}"
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
