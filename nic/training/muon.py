"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al. 2024).

Works on convolution weights, each taken as the matrix (out, in * kh * kw), which torch's own Muon
refuses; takes matrices of one shape together; and shares the orthogonalisation, the costly part,
between the processes of a run.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from nic.precision import fast_dtype


def orthogonalize(matrices: Tensor) -> Tensor:
    """(n, rows, columns): five Newton-Schulz steps of each towards the nearest semi-orthogonal
    matrix."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(fast_dtype(matrices.device))
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    tall = x.size(1) > x.size(2)
    x = x.mT if tall else x
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum 0.95, updates scaled to the size of Adam's (Liu et al. 2025, sec. 2.2).

    A group's `lr`, to be set before the first step, is a tensor of no dimensions: a recorded step
    reads it anew each time.
    """

    def __init__(self, params, momentum: float = 0.95):
        super().__init__(params, {"lr": None, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        world = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if dist.is_initialized() else 0
        for group in self.param_groups:
            params = group["params"]
            updates = [torch.zeros_like(p, dtype=torch.bfloat16) for p in params]
            owners = _balance([p.numel() for p in params], world)
            nesterov = self._nesterov(params, group["momentum"])
            own: dict[tuple[int, int], list[int]] = {}
            for k, p in enumerate(params):
                if owners[k] == rank:
                    own.setdefault((p.shape[0], p[0].numel()), []).append(k)
            for (rows, columns), members in own.items():
                stacked = torch.stack([nesterov[k].reshape(rows, columns) for k in members])
                scaled = orthogonalize(stacked) * (0.2 * max(rows, columns) ** 0.5)
                for k, update in zip(members, scaled):
                    updates[k].copy_(update.reshape(params[k].shape))
            if world > 1:
                flat = torch.cat([update.reshape(-1) for update in updates])
                dist.all_reduce(flat)
                parts = flat.split([p.numel() for p in params])
                updates = [part.view(p.shape) for part, p in zip(parts, params)]
            steps = [update.float() for update in updates]
            torch._foreach_mul_(steps, group["lr"])
            torch._foreach_sub_(params, steps)

    def _nesterov(self, params: list[Tensor], momentum: float) -> list[Tensor]:
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        grads, momenta = [p.grad for p in params], [self.state[p]["momentum"] for p in params]
        torch._foreach_mul_(momenta, momentum)
        torch._foreach_add_(momenta, grads)
        return torch._foreach_add(grads, momenta, alpha=momentum)


def _balance(sizes: list[int], world: int) -> list[int]:
    """Owner of each matrix: the largest first, each to the least loaded process."""
    loads, owners = [0] * world, [0] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[i] = loads.index(min(loads))
        loads[owners[i]] += sizes[i]
    return owners
