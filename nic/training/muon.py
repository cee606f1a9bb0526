"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al. 2024).

Works on convolution weights, each taken as the matrix (out, in * kh * kw), which torch's own Muon
refuses; and shares the orthogonalisation, the costly part, between the processes of a run.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from nic.precision import fast_dtype


def orthogonalize(matrix: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the nearest semi-orthogonal matrix."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(fast_dtype(matrix.device))
    x = x / (x.norm() + 1e-7)
    tall = x.size(0) > x.size(1)
    x = x.T if tall else x
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum 0.95, updates scaled to the size of Adam's (Liu et al. 2025, sec. 2.2)."""

    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        world = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if dist.is_initialized() else 0
        for group in self.param_groups:
            params = group["params"]
            updates = torch.zeros(
                sum(p.numel() for p in params), dtype=torch.bfloat16, device=params[0].device
            )
            owners = _balance([p.numel() for p in params], world)
            at = 0
            for p, owner in zip(params, owners):
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].mul_(group["momentum"]).add_(p.grad)
                if owner == rank:
                    nesterov = p.grad + group["momentum"] * state["momentum"]
                    updates[at : at + p.numel()] = orthogonalize(nesterov.flatten(1)).reshape(-1)
                at += p.numel()
            if world > 1:
                dist.all_reduce(updates)
            at = 0
            for p in params:
                rows, columns = p.shape[0], p[0].numel()
                update = updates[at : at + p.numel()].view(p.shape)
                p.add_(update, alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)
                at += p.numel()


def _balance(sizes: list[int], world: int) -> list[int]:
    """Owner of each matrix: the largest first, each to the least loaded process."""
    loads, owners = [0] * world, [0] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[i] = loads.index(min(loads))
        loads[owners[i]] += sizes[i]
    return owners
