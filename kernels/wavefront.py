"""One step of the exact prior: entropy parameters of all positions that can be decoded together.

Integers as in `nic.prior`; products and sums float64: each partial sum is an integer below 2**52
(`nic.integer.Layer` checks it), hence exact in any order. In float32, let alone the tensor cores'
shortened one, it would not be. Weights and activations are of 16 bits but stand in int32: Triton
before 3.9 does not compile float64 products of int16.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kernels.launch import check, constexpr, jit, require, tl, triton
from kernels.lockstep import CORNER, LATENT, QUALITY, WIDTH
from nic.integer import ACTIVATION_MAX, LEAKY_SHIFT, Layer
from nic.prior import (
    CONTEXT_BITS,
    GAIN_BITS,
    INVERSE_BITS,
    LATENT_BITS,
    MEAN_BITS,
    SCALE_BITS,
    IntegerPrior,
)
from nic.tables import SCALES
from nic.wavefront import TAPS

MEAN_SHIFT = MEAN_BITS + GAIN_BITS - LATENT_BITS
CONTEXT_SHIFT = LATENT_BITS + INVERSE_BITS - CONTEXT_BITS


@dataclass(frozen=True)
class DenseLayer:
    """A fixed-point layer as a matrix on a device; see `nic.integer.Layer`.

    weight: (in, out) int32, a window's channels varying fastest; bias: (out,) float64 integers.
    """

    weight: Tensor
    bias: Tensor
    shift: int
    leaky: bool
    limit: int

    @staticmethod
    def of(layer: Layer, device: torch.device, skip: int = 0) -> DenseLayer:
        """`skip`: leave out so many inputs, the first ones."""
        matrix = torch.from_numpy(layer.matrix()[skip:]).int()
        bias = torch.from_numpy(layer.bias).double()
        return DenseLayer(
            matrix.contiguous().to(device), bias.to(device), layer.shift, layer.leaky, layer.limit
        )

    @cached_property
    def exact(self) -> Tensor:
        """The weights in float64."""
        return self.weight.double()

    def finish(self, acc: Tensor) -> Tensor:
        """Sums (bias included) as float64 integers -> output activations, likewise."""
        out = rounding_shift(acc.long(), self.shift).clamp(-self.limit, self.limit)
        return (torch.where(out < 0, out >> LEAKY_SHIFT, out) if self.leaky else out).double()


@dataclass(frozen=True)
class Network:
    """The serial part of an `IntegerPrior` on a device."""

    context: DenseLayer
    entropy: list[DenseLayer]
    """The first takes phi alone: its sums start from what psi, bias and quality give to them."""
    modifiers: Tensor
    """(steps, 2 M) int32: gains, then scale offsets, as the head's outputs stand."""
    inverses: Tensor
    """(steps, M) int32"""

    @staticmethod
    def of(prior: IntegerPrior, device: torch.device) -> Network:
        first, *rest = prior.entropy

        def table(*arrays) -> Tensor:
            return torch.cat([torch.from_numpy(a).int() for a in arrays], 1).to(device)

        return Network(
            DenseLayer.of(prior.context, device),
            [
                DenseLayer.of(first, device, skip=len(prior.hyper[-1].weight)),
                *(DenseLayer.of(layer, device) for layer in rest),
            ],
            table(prior.gains, prior.scale_offsets),
            table(prior.inverses),
        )

    @property
    def M(self) -> int:
        """Channels of the latents."""
        return self.inverses.shape[1]


# With n positions, M = 320 channels, 192 context features and 384 hidden units, a step multiplies
#     context 12 M x 192, then 192 x 384, 384 x 384, 384 x 2 M: 1.2 million multiply-adds each,
# and moves, beside 4.7 MB of int32 weights (which a GPU's L2 cache keeps from step to step),
#     per position 12 M int32 of u_hat, 384 float64 of sums, 2 M int32 of parameters: 21 kB.
# 16 positions, a whole step of a 768x512 image, are 37 MFLOP: under a microsecond's work, so that
# launches and latency set the pace until dozens of images go together.


def rounding_shift(values: Tensor, shift: int) -> Tensor:
    """floor(values / 2**shift + 1/2) on int64."""
    return (values + ((1 << shift) >> 1)) >> shift


def parameters_reference(network: Network, cells: Tensor, sums: Tensor, u_hat: Tensor) -> Tensor:
    """Entropy parameters of one step, on any device.

    cells: (4, n) int32, see `Lockstep`; sums: (positions, hidden) float64, what is known beforehand
    of the first entropy layer's sums; u_hat: (padded, M) int32. Returns (2, n, M) int32: means in
    LATENT_BITS, then scale levels.
    """
    corner, width, latent, quality = cells.long()
    offsets = torch.stack([(dy + 2) * width + dx + 2 for dy, dx in TAPS], 1)
    window = u_hat[corner[:, None] + offsets].flatten(1).double()
    phi = network.context.finish(window @ network.context.exact + network.context.bias)
    first, *rest = network.entropy
    x = first.finish(phi @ first.exact + sums[latent])
    for layer in rest:
        x = layer.finish(x @ layer.exact + layer.bias)
    head, scale_indices = x.long().chunk(2, 1)
    gain, offset = network.modifiers[quality].long().chunk(2, 1)
    means = rounding_shift(head * gain, MEAN_SHIFT)
    levels = rounding_shift(scale_indices + offset, SCALE_BITS).clamp(0, SCALES - 1)
    return torch.stack([means, levels]).int()


def update_reference(
    network: Network,
    cells: Tensor,
    means: Tensor,
    residuals: Tensor,
    u_hat: Tensor,
    v_hat: Tensor,
) -> None:
    """Write one step's decoded latents, and what later steps' windows see of them.

    means, residuals: (n, M) int32; u_hat: (padded, M) int32; v_hat: (positions, M) int32.
    """
    corner, width, latent, quality = cells.long()
    values = (residuals << LATENT_BITS) + means
    v_hat[latent] = values
    scaled = rounding_shift(values.long() * network.inverses[quality], CONTEXT_SHIFT)
    u_hat[corner + 2 * width + 2] = scaled.clamp(-ACTIVATION_MAX, ACTIVATION_MAX).int()


_CORNER, _WIDTH, _LATENT, _QUALITY = map(constexpr, (CORNER, WIDTH, LATENT, QUALITY))
_MEAN_SHIFT, _CONTEXT_SHIFT = constexpr(MEAN_SHIFT), constexpr(CONTEXT_SHIFT)
_SCALE_BITS, _LATENT_BITS = constexpr(SCALE_BITS), constexpr(LATENT_BITS)
_LEAKY_SHIFT, _MAX_LEVEL = constexpr(LEAKY_SHIFT), constexpr(SCALES - 1)
_ACTIVATION_MAX = constexpr(ACTIVATION_MAX)


@jit()
def _rounding_shift(values, SHIFT: tl.constexpr):
    one = tl.full((), 1, tl.int64)
    return (values + ((one << SHIFT) >> 1)) >> SHIFT


@jit()
def _clip(values, low, high):
    return tl.minimum(tl.maximum(values, low), high)


@jit()
def _entropy_parameter(value, modifier, is_mean):
    mean = _rounding_shift(value * modifier, _MEAN_SHIFT)
    level = _clip(_rounding_shift(value + modifier, _SCALE_BITS), 0, _MAX_LEVEL)
    return tl.where(is_mean, mean, level)


@jit(
    do_not_specialize=["count", "cells_stride"],
    do_not_specialize_on_alignment=["cells_ptr"],
)
def layer_kernel(
    x_ptr,
    weight_ptr,
    sums_ptr,
    cells_ptr,
    modifiers_ptr,
    out_ptr,
    count,
    cells_stride,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    TAPS: tl.constexpr,
    OWN_SUMS: tl.constexpr,
    HEAD: tl.constexpr,
    SHIFT: tl.constexpr,
    LEAKY: tl.constexpr,
    LIMIT: tl.constexpr,
    BLOCK_POSITIONS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """One layer at a block of positions, for a block of its outputs.

    TAPS > 1 gathers x from windows of u_hat; OWN_SUMS starts from each position's own sums in place
    of a bias; HEAD turns the outputs into entropy parameters, (2, count, OUT / 2).
    """
    slots = tl.program_id(0) * BLOCK_POSITIONS + tl.arange(0, BLOCK_POSITIONS)
    outs = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    in_step, in_layer = slots < count, outs < OUT
    in_both = in_step[:, None] & in_layer[None, :]

    # The sums start from the bias, in which all that no activation changes is contained.
    if OWN_SUMS:
        row = tl.load(cells_ptr + _LATENT * cells_stride + slots, mask=in_step, other=0)
        at = row.to(tl.int64)[:, None] * OUT + outs[None, :]
        acc = tl.load(sums_ptr + at, mask=in_both, other=0.0)
    else:
        bias = tl.load(sums_ptr + outs, mask=in_layer, other=0.0)
        acc = tl.zeros((BLOCK_POSITIONS, BLOCK_OUT), tl.float64) + bias[None, :]

    # Where each position's inputs are: a row of x of its own, or windows with TAPS rows.
    if TAPS > 1:
        row = tl.load(cells_ptr + _CORNER * cells_stride + slots, mask=in_step, other=0)
        row = row.to(tl.int64)
        width = tl.load(cells_ptr + _WIDTH * cells_stride + slots, mask=in_step, other=0)
    else:
        row = slots.to(tl.int64)

    # Products of integers in float64, tap by tap: windows are five columns wide.
    for tap in range(TAPS):
        x_row = row
        if TAPS > 1:
            dy = tap * 13 >> 6  # tap / 5, rounded down
            x_row = row + dy * width + (tap - 5 * dy)
        for begin in range(0, IN, BLOCK_IN):
            ins = begin + tl.arange(0, BLOCK_IN)
            x_at = x_ptr + x_row[:, None] * IN + ins[None, :]
            x = tl.load(x_at, mask=in_step[:, None] & (ins < IN)[None, :], other=0)
            weight_at = weight_ptr + (tap * IN + ins)[:, None] * OUT + outs[None, :]
            weight = tl.load(weight_at, mask=(ins < IN)[:, None] & in_layer[None, :], other=0)
            x, weight = x.to(tl.float64), weight.to(tl.float64)
            acc = tl.dot(x, weight, acc, input_precision="ieee", out_dtype=tl.float64)

    # Back to integers, with shifts that round down for either sign.
    value = _clip(_rounding_shift(acc.to(tl.int64), SHIFT), -LIMIT, LIMIT)
    if LEAKY:
        value = tl.where(value < 0, value >> _LEAKY_SHIFT, value)
    if HEAD:
        M: tl.constexpr = OUT >> 1
        quality = tl.load(cells_ptr + _QUALITY * cells_stride + slots, mask=in_step, other=0)
        at = modifiers_ptr + quality[:, None] * OUT + outs[None, :]
        modifier = tl.load(at, mask=in_both, other=0).to(tl.int64)
        value = _entropy_parameter(value, modifier, (outs < M)[None, :])
        # Means of all positions come first, then levels.
        plane = tl.where(outs < M, 0, count * M - M)
        out_at = slots[:, None] * M + (plane + outs)[None, :]
    else:
        out_at = slots[:, None] * OUT + outs[None, :]
    tl.store(out_ptr + out_at, value.to(out_ptr.dtype.element_ty), mask=in_both)


@jit(do_not_specialize=["cells_stride"], do_not_specialize_on_alignment=["cells_ptr"])
def update_kernel(
    cells_ptr,
    inverses_ptr,
    means_ptr,
    residuals_ptr,
    u_hat_ptr,
    v_hat_ptr,
    cells_stride,
    M: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All channels of one position."""
    slot = tl.program_id(0)
    channels = tl.arange(0, BLOCK)
    valid = channels < M

    # Where the position stands, in each array.
    corner = tl.load(cells_ptr + _CORNER * cells_stride + slot).to(tl.int64)
    width = tl.load(cells_ptr + _WIDTH * cells_stride + slot)
    latent = tl.load(cells_ptr + _LATENT * cells_stride + slot).to(tl.int64)
    quality = tl.load(cells_ptr + _QUALITY * cells_stride + slot)

    # The decoded latent.
    mean = tl.load(means_ptr + slot * M + channels, mask=valid, other=0)
    residual = tl.load(residuals_ptr + slot * M + channels, mask=valid, other=0)
    value = (residual << _LATENT_BITS) + mean
    tl.store(v_hat_ptr + latent * M + channels, value, mask=valid)

    # The same without its gain, for the windows of later steps.
    inverse = tl.load(inverses_ptr + quality * M + channels, mask=valid, other=0)
    scaled = _rounding_shift(value.to(tl.int64) * inverse, _CONTEXT_SHIFT)
    scaled = _clip(scaled, -_ACTIVATION_MAX, _ACTIVATION_MAX).to(tl.int32)
    tl.store(u_hat_ptr + (corner + 2 * width + 2) * M + channels, scaled, mask=valid)


BLOCK_POSITIONS, BLOCK_IN, BLOCK_OUT = 16, 64, 32
"""Small blocks: a step of one image has few positions, and should still fill the GPU."""


def parameters(network: Network, cells: Tensor, sums: Tensor, u_hat: Tensor) -> Tensor:
    """`parameters_reference` by Triton: a launch for each layer."""
    device, n = u_hat.device, cells.shape[1]
    require(device)
    _check_cells(cells, device)
    first, *rest = network.entropy
    check("u_hat", u_hat, torch.int32, (len(u_hat), network.M), device)
    check("sums", sums, torch.float64, (len(sums), first.weight.shape[1]), device)
    x = torch.empty(n, network.context.weight.shape[1], dtype=torch.int32, device=device)
    if x.numel():  # a model without a context has no features of it
        _launch_layer(network.context, u_hat, x, cells, network.context.bias, taps=len(TAPS))
    for layer in network.entropy[:-1]:
        out = torch.empty(n, layer.weight.shape[1], dtype=torch.int32, device=device)
        _launch_layer(layer, x, out, cells, sums if layer is first else layer.bias)
        x = out
    out = torch.empty(2, n, network.M, dtype=torch.int32, device=device)
    _launch_layer(rest[-1], x, out, cells, rest[-1].bias, modifiers=network.modifiers)
    return out


def _launch_layer(
    layer: DenseLayer,
    x: Tensor,
    out: Tensor,
    cells: Tensor,
    sums: Tensor,
    taps: int = 1,
    modifiers: Tensor | None = None,
) -> None:
    inputs, outputs = layer.weight.shape
    check("weight", layer.weight, torch.int32, (taps * x.shape[1], outputs), x.device)
    count = cells.shape[1]
    programs = triton.cdiv(count, BLOCK_POSITIONS), triton.cdiv(outputs, BLOCK_OUT)
    layer_kernel[programs](
        x,
        layer.weight,
        sums,
        cells,
        modifiers,
        out,
        count,
        cells.stride(0),
        IN=inputs // taps,
        OUT=outputs,
        TAPS=taps,
        OWN_SUMS=sums.ndim == 2,
        HEAD=modifiers is not None,
        SHIFT=layer.shift,
        LEAKY=layer.leaky,
        LIMIT=layer.limit,
        BLOCK_POSITIONS=BLOCK_POSITIONS,
        BLOCK_IN=min(BLOCK_IN, max(16, triton.next_power_of_2(inputs // taps))),
        BLOCK_OUT=BLOCK_OUT,
    )


def update(
    network: Network,
    cells: Tensor,
    means: Tensor,
    residuals: Tensor,
    u_hat: Tensor,
    v_hat: Tensor,
) -> None:
    """`update_reference` by Triton, in one launch."""
    device, n, M = u_hat.device, cells.shape[1], network.M
    require(device)
    _check_cells(cells, device)
    check("means", means, torch.int32, (n, M), device)
    check("residuals", residuals, torch.int32, (n, M), device)
    check("u_hat", u_hat, torch.int32, (len(u_hat), M), device)
    check("v_hat", v_hat, torch.int32, (len(v_hat), M), device)
    update_kernel[(n,)](
        cells,
        network.inverses,
        means,
        residuals,
        u_hat,
        v_hat,
        cells.stride(0),
        M=M,
        BLOCK=triton.next_power_of_2(M),
    )


def _check_cells(cells: Tensor, device: torch.device) -> None:
    """Cells are a slice of a wider table: each of the four rows is contiguous."""
    if cells.ndim != 2 or len(cells) != 4 or cells.stride(1) != 1:
        raise ValueError(f"cells must be four contiguous rows, not of shape {tuple(cells.shape)}")
    check("cells", cells[0], torch.int32, (cells.shape[1],), device)
