"""Regions of grids: pairs of slices, rows and columns, of an image's latents or of its pixels."""

from __future__ import annotations

from collections.abc import Iterator

from nic.config import LATENT_STRIDE

Region = tuple[slice, slice]


def latent_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of latents of an image of that many pixels."""
    return -(-height // LATENT_STRIDE), -(-width // LATENT_STRIDE)


def whole(h: int, w: int) -> Region:
    """All of h rows and w columns."""
    return slice(0, h), slice(0, w)


def squares(h: int, w: int, side: int) -> list[Region]:
    """An h x w grid in squares, row by row; those at its end may be smaller."""
    return [
        (slice(top, min(top + side, h)), slice(left, min(left + side, w)))
        for top in range(0, h, side)
        for left in range(0, w, side)
    ]


def windows(h: int, w: int, side: int, margin: int) -> Iterator[tuple[Region, Region, Region]]:
    """The squares of a grid, computed one at a time to bound memory: each one, the window to
    compute it from, `margin` wider where the grid goes on, and its place within the window."""
    for core in squares(h, w, side):
        window = widened(core, margin, h, w)
        yield core, window, within(core, window)


def widened(region: Region, margin: int, h: int, w: int) -> Region:
    """A region and what lies up to `margin` around it within an h x w grid."""
    rows, columns = region
    return (
        slice(max(0, rows.start - margin), min(rows.stop + margin, h)),
        slice(max(0, columns.start - margin), min(columns.stop + margin, w)),
    )


def overlap(a: Region, b: Region) -> Region:
    """What two regions share; its sides are 0 or negative where that is nothing."""
    rows, columns = zip(a, b)
    return _common(*rows), _common(*columns)


def _common(a: slice, b: slice) -> slice:
    return slice(max(a.start, b.start), min(a.stop, b.stop))


def size(region: Region) -> tuple[int, int]:
    """Rows and columns."""
    rows, columns = region
    return rows.stop - rows.start, columns.stop - columns.start


def is_empty(region: Region) -> bool:
    """Whether there is nothing in it."""
    return min(size(region)) <= 0


def within(region: Region, outer: Region) -> Region:
    """A region counted from the corner of one that contains it."""
    (rows, columns), (top, left) = region, (r.start for r in outer)
    return (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )


def scaled(region: Region, factor: int) -> Region:
    """A region of a grid that is so many times finer: of latents in pixels, for instance."""
    rows, columns = region
    return (
        slice(rows.start * factor, rows.stop * factor),
        slice(columns.start * factor, columns.stop * factor),
    )


def covering(region: Region, stride: int) -> Region:
    """The region of a grid so many times coarser that holds all of one: of pixels in latents."""
    rows, columns = region
    return (
        slice(rows.start // stride, -(-rows.stop // stride)),
        slice(columns.start // stride, -(-columns.stop // stride)),
    )
