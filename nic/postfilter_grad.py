"""The post-filter as the encoder's refinement sees it: with gradients, of the samples alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nic.postfilter import (
    POWER,
    TERMS,
    Component,
    PostFilter,
    Term,
    bands,
    components,
    ends,
    filtered,
    moved,
)


class Filtered(torch.autograd.Function):
    """`Filtered.apply(x, post_filter)`: `filtered`, without its thousands of steps in the graph.

    Gradients flow as samples do, from one neighbour to the other; and colours go back into
    components by the transpose of how these make colours, which is `components` times POWER.
    """

    @staticmethod
    def forward(ctx, x: Tensor, post_filter: PostFilter) -> Tensor:
        ctx.save_for_backward(x)
        ctx.post_filter = post_filter
        return filtered(x, post_filter)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        planes = components(x)
        backs = [torch.zeros_like(plane) for plane in planes]
        of_moves = [plane * power for plane, power in zip(components(grad), POWER)]
        for own, terms, of_move in zip(ctx.post_filter, TERMS, of_moves):
            if own:
                _flow_back(backs, planes, terms, own, of_move)
        return moved(grad, [back / power for back, power in zip(backs, POWER)]), None


def _flow_back(
    backs: Sequence[Tensor],
    planes: Sequence[Tensor],
    terms: Sequence[Term],
    own: Component,
    of_move: Tensor,
) -> None:
    """Add to `backs`, the planes' gradients, what comes of a component's move."""
    for top, bottom in bands(of_move):
        for term, slope, within in own.slopes(terms):
            p, q = ends(of_move.shape, term.neighbour, top, bottom)
            back = of_move[p] - of_move[q]
            if within:
                difference = planes[term.source][q] - planes[term.source][p]
                back *= (difference.abs() <= own.threshold) * within + slope
            else:
                back *= slope
            backs[term.source][q] += back
            backs[term.source][p] -= back
