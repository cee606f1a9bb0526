"""The encoder's side: pixels -> the latents that cost least -> streams.

The cost of a tile is bits + lmbda * squared error, of its real streams and 8-bit pixels. A higher
effort tries all that a lower one does and more, and keeps what costs least. Of several tiles, each
sees its neighbours' latents not yet rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nic import alpha, postfilter, postfilter_chunk, quantizer, regions, tiles
from nic.config import HYPER_STRIDE, LATENT_STRIDE
from nic.effort import FILTERED, lmbda, stops
from nic.errors import InputError
from nic.extras import require
from nic.models import Model
from nic.postfilter import PostFilter
from nic.postfilter_fit import fit
from nic.prior import LATENT_BITS, LatentCode
from nic.regions import Region
from nic.samples import grey_levels, pad, samples
from nic.streams import TileCode, hyper, in_groups, tile_code
from nic.symbols import VALUE_MAX
from nic.threads import workers
from nic.wavefront import Progress

if TYPE_CHECKING:
    from nic.refine import Objective


CHUNK_ENTRY = 2
"""Bytes that chunk `f` takes in the table of chunks."""


class Latents(NamedTuple):
    """What there is to code of an image."""

    v: np.ndarray
    """(h, w, M) float32 latents in quantiser steps, not yet rounded."""
    z: np.ndarray
    """(hz, wz, channels) float32 hyperlatents, not yet rounded."""

    def z_hat(self, region: Region) -> np.ndarray:
        """The hyperlatents of a region of latents, rounded."""
        return np.clip(quantizer.residual(self.z[hyper(region)], 0.0), -VALUE_MAX, VALUE_MAX)


class Encoder:
    """Codes one image with one model, effort and number of lanes.

    pixels: uint8 (H, W, 3) or (H, W); shown: (H, W) bool, False where a pixel is hidden and what
    costs least may stand in its place, or None; `progress` is called with (steps done, steps in
    all) as latents are refined, and again as they are coded.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        shown: np.ndarray | None,
        model: Model,
        effort: int,
        lanes: int,
        progress: Progress | None = None,
    ):
        self.pixels, self.shown, self.progress = pixels, shown, progress
        self.model, self.effort, self.lanes = model, effort, lanes
        self.grid = regions.latent_grid(*pixels.shape[:2])
        self.tiles = tiles.regions(*pixels.shape[:2])
        if stops(effort):
            require("train", "torch")
        self._recent: dict[int, Latents] = {}

    def code(
        self, step: int, dead_zone: float = 0.0, filtered: bool = True, estimate: bool = False
    ) -> list[TileCode]:
        """The streams of all tiles at a quality step.

        dead_zone: what rounding takes off residuals, in quantiser steps; filtered: whether there
        may be post-filters, if the effort has them; estimate: also count bits by the densities.
        """
        return code_tiles([self], step, dead_zone, filtered, estimate, self.progress)[0]

    def latents(self, step: int) -> Latents:
        """Latents at a quality step, refined where the effort asks for it.

        Those of the last two steps are kept: a search for a size comes back to them.
        """
        latents = self._recent.pop(step, None) or self._latents(step)
        self._recent = dict([*self._recent.items()][-1:]) | {step: latents}
        return latents

    def _latents(self, step: int) -> Latents:
        latents = self._analyse(step)
        if stops(self.effort):
            from nic.refine import refining

            with refining():
                self._refine(latents, step)
        return latents

    def _pixels(self, region: Region) -> np.ndarray:
        """The pixels to code on a region of latents."""
        area = regions.scaled(region, LATENT_STRIDE)
        if self.shown is None:
            return self.pixels[area]
        return alpha.fill(self.pixels[area], self.shown[area])

    @workers
    def _analyse(self, step: int) -> Latents:
        """Latents and hyperlatents as the networks give them."""
        (h, w), config, networks = self.grid, self.model.config, self.model.networks
        s, gain = config.s(step), self.model.gain(step)
        v = np.empty((h, w, config.M), np.float32)
        z = np.empty((*regions.size(hyper(regions.whole(h, w))), config.z_channels), np.float32)
        for region in self.tiles:
            window = regions.widened(region, networks.reach, h, w)
            u = networks.analyse(samples(self._pixels(window)), s)[regions.within(region, window)]
            z[hyper(region)] = networks.hyper_analyse(pad(u, HYPER_STRIDE), s)
            v[region] = u * gain
        if not (np.isfinite(v).all() and np.isfinite(z).all()):
            raise InputError("the model gives no finite latents for this picture")
        return Latents(v, z)

    @workers
    def finished(
        self, latents: Latents, step: int, region: Region, v_hat: np.ndarray
    ) -> tuple[PostFilter, float]:
        """The filter that a tile coded as v_hat is best shown with, and the squared error of its
        8-bit pixels, in grey levels, the mean of their channels, over those that are shown."""
        x_hat, at = self._synthesised(latents, step, region, v_hat)
        worth, original = lmbda(self.model.config, step), self._original(region)
        height, width = original.shape[:2]
        area = regions.scaled(region, LATENT_STRIDE)
        shown = np.ones((height, width), bool) if self.shown is None else self.shown[area]

        def squared(x: np.ndarray) -> float:
            error = np.square(grey_levels(x)[at].astype(np.float32) - original)
            return float(error[shown].sum(dtype=np.float64)) * height * width / error.size

        post_filter = fit(x_hat, original, at, shown, worth)
        plain, moved = squared(x_hat), squared(postfilter.filtered(x_hat, post_filter))
        # What the fit gained beyond white and black is nothing, and chunk f has an entry too.
        pays = worth * (plain - moved) > 8 * (
            len(postfilter_chunk.pack([post_filter])) + CHUNK_ENTRY
        )
        return (post_filter, moved) if pays else ((), plain)

    def _synthesised(
        self, latents: Latents, step: int, region: Region, v_hat: np.ndarray
    ) -> tuple[np.ndarray, Region]:
        """Samples of a tile as the decoder will have them before the filter, with what lies around
        it, and where in them its pixels are."""
        networks, config = self.model.networks, self.model.config
        window = regions.widened(region, networks.reach, *self.grid)
        v = latents.v[window].copy()
        v[regions.within(region, window)] = v_hat * np.float32(2.0**-LATENT_BITS)
        x_hat = networks.synthesise(v / self.model.gain(step), config.s(step))
        if self.pixels.ndim == 2:
            x_hat = x_hat.mean(axis=2)
        image = regions.whole(*self.pixels.shape[:2])
        area = regions.overlap(regions.scaled(region, LATENT_STRIDE), image)
        return x_hat, regions.within(area, regions.scaled(window, LATENT_STRIDE))

    def _original(self, region: Region) -> np.ndarray:
        """A tile's pixels as they were analysed."""
        window = regions.widened(region, self.model.networks.reach, *self.grid)
        return self._pixels(window)[regions.scaled(regions.within(region, window), LATENT_STRIDE)]

    def _cost(
        self, latents: Latents, step: int, region: Region, code: LatentCode
    ) -> tuple[float, PostFilter]:
        """bits + lmbda * squared error of a tile as the decoder will have it, see `effort.lmbda`;
        and its filter."""
        post_filter, squared = self.finished(latents, step, region, code.v_hat)
        size = len(code.stream) + len(self.model.prior.encode_z(latents.z_hat(region)))
        if post_filter:
            size += len(postfilter_chunk.pack([post_filter])) + CHUNK_ENTRY
        return 8 * size + lmbda(self.model.config, step) * squared, post_filter

    def _refine(self, latents: Latents, step: int) -> None:
        """Move latents on, in place, tile by tile."""
        from nic.refine import Objective

        objective = Objective(self.model, step, lmbda(self.model.config, step))
        total = stops(self.effort)[-1]
        for n, region in enumerate(self.tiles):

            def count(iterations: int, before: int = n * total) -> None:
                if self.progress:
                    self.progress(before + iterations, len(self.tiles) * total)

            self._refine_tile(latents, step, region, objective, count)

    def _refine_tile(
        self,
        latents: Latents,
        step: int,
        region: Region,
        objective: Objective,
        count: Callable[[int], None],
    ) -> None:
        """Move a tile's latents on, in place, to where its cost is least.

        `count` is called with the iterations done.
        """
        from nic.refine import Refinement

        window, at = regions.widened(region, self.model.networks.reach, *self.grid), hyper(region)
        [code] = _code([(latents, region, self.lanes)], step, self.model)
        least, post_filter = self._cost(latents, step, region, code)
        best = latents.v[region].copy(), latents.z[at].copy()
        refinement = Refinement(
            objective,
            self._pixels(window),
            latents.v[window],
            regions.within(region, window),
            code.v_hat,
            latents.z[at],
        )
        for stop in stops(self.effort):
            refined = refinement.advance(stop, post_filter, count)
            if refined is None:
                break
            latents.v[region], latents.z[at] = refined
            [code] = _code([(latents, region, self.lanes)], step, self.model)
            cost, post_filter = self._cost(latents, step, region, code)
            if cost < least:
                least, best = cost, refined
        latents.v[region], latents.z[at] = best


@workers
def code_tiles(
    encoders: Sequence[Encoder],
    step: int,
    dead_zone: float = 0.0,
    filtered: bool = True,
    estimate: bool = False,
    progress: Progress | None = None,
) -> list[list[TileCode]]:
    """All tiles of several images at a quality step, in lockstep; see `Encoder.code`."""
    if not encoders:
        return []
    parts = [(n, r) for n, e in enumerate(encoders) for r in e.tiles]
    latents = [encoder.latents(step) for encoder in encoders]
    codes: list[list[TileCode]] = [[] for _ in encoders]
    model = encoders[0].model
    for at, share in in_groups([region for _, region in parts], model.lockstep, progress):
        grids = [(latents[n], region, encoders[n].lanes) for n, region in parts[at]]
        group = _code(grids, step, model, dead_zone, share)
        for (n, region), code in zip(parts[at], group):
            own, post_filter = latents[n], ()
            if filtered and encoders[n].effort in FILTERED:
                post_filter, _ = encoders[n].finished(own, step, region, code.v_hat)
            codes[n].append(tile_code(own.z_hat(region), code, post_filter, model, estimate))
    return codes


@workers
def _code(
    grids: Sequence[tuple[Latents, Region, int]],
    step: int,
    model: Model,
    dead_zone: float = 0.0,
    progress: Progress | None = None,
) -> list[LatentCode]:
    """Tiles, each with its number of lanes, coded in lockstep."""
    return model.coder.encode_grids(
        [latents.v[region] for latents, region, _ in grids],
        [latents.z_hat(region) for latents, region, _ in grids],
        [step] * len(grids),
        [lanes for *_, lanes in grids],
        dead_zone,
        progress,
    )
