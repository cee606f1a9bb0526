"""The parts of refinement: relaxed rounding, the quadratic error, the optimiser."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nic import refine  # noqa: E402
from nic.channel_adam import ChannelAdam  # noqa: E402
from nic.refine import Refinement  # noqa: E402


def test_draws_are_between_neighbours_and_as_expected_on_average():
    r = torch.linspace(-3, 3, 61).repeat(40000, 1)
    draws = refine._draw(r, torch.Generator().manual_seed(0))
    assert ((r.floor() <= draws) & (draws <= r.floor() + 1)).all()
    torch.testing.assert_close(draws.mean(0), refine._expected(r)[0], rtol=0, atol=0.02)
    whole = torch.arange(-3.0, 4)
    torch.testing.assert_close(refine._expected(whole), whole, rtol=0, atol=1e-4)
    torch.testing.assert_close(refine._expected(whole + 0.5), whole + 0.5)


def test_gradient_flows_through_draws():
    r = torch.tensor([0.5, 0.1], requires_grad=True)
    refine._draw(r, torch.Generator().manual_seed(0)).sum().backward()
    assert (r.grad > 0).all() and r.grad[0] > r.grad[1]


class Relaxed:
    """A prior whose hyperlatents cost nothing."""

    def __init__(self, parameters):
        self.parameters = parameters

    def __call__(self, v, z):
        return self.parameters(v, z)

    def z_bits(self, z):
        return 0 * z.sum()


@pytest.fixture
def quadratic():
    """A refinement of 3x4 latents among 4x6, of two channels, whose error is 3 a^2 + 5 b^2 + a b
    and whose bits are the residuals' squares."""

    def squared_error(x, v, post_filter):
        a, b = v[0]
        return (3 * a**2 + 5 * b**2 + a * b).sum()

    def bits(residuals, levels):
        return residuals.square().sum()

    def relaxed(v, z):
        return torch.zeros_like(v), torch.full_like(v, 20)

    objective = SimpleNamespace(
        device=torch.device("cpu"), lmbda=2.0, squared_error=squared_error, bits=bits,
        coded=lambda levels: levels > 0, relaxed=Relaxed(relaxed),
    )  # fmt: skip
    pixels, z = np.zeros((64, 96, 3), np.uint8), np.zeros((1, 1, 1), np.float32)
    v = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    core = slice(1, 4), slice(2, 6)
    return Refinement(objective, pixels, v, core, np.zeros((3, 4, 2), np.int32), z)


def test_gradient_and_curvature_of_the_error(quadratic):
    v = quadratic.v.detach()
    gradient = quadratic._error_gradient(v, ())
    a, b = v[0]
    torch.testing.assert_close(gradient[0], 2 * torch.stack([6 * a + b, 10 * b + a]))
    curvature = quadratic._curvature(v, gradient, ())
    # What lies beside the diagonal, 2 here, comes with random signs.
    torch.testing.assert_close(curvature.flatten(), torch.tensor([12.0, 20.0]), rtol=0, atol=1)


def test_a_step_takes_the_error_for_quadratic(quadratic, monkeypatch):
    seen = []
    monkeypatch.setattr(ChannelAdam, "step", lambda self, rate: seen.append(quadratic.v.grad))
    monkeypatch.setattr(refine, "_draw", lambda r, generator: r)  # nothing is rounded
    expected = torch.zeros_like(quadratic.v)
    quadratic.curvature = torch.tensor([12.0, 20.0]).view(1, 2, 1, 1)
    quadratic._step(expected, torch.full_like(expected, 0.5))
    v = quadratic.v.detach()
    torch.testing.assert_close(seen[0], 2 * v + 0.5 + quadratic.curvature * v)


def grids(*shapes):
    torch.manual_seed(0)
    return [torch.randn(1, *shape, requires_grad=True) for shape in shapes]


def test_with_their_own_moments_alone_grids_learn_by_adam(monkeypatch):
    monkeypatch.setattr("nic.channel_adam.OWN", 1.0)
    ours, theirs = grids((3, 4, 5), (2, 1, 1)), grids((3, 4, 5), (2, 1, 1))
    optimiser = ChannelAdam(list(zip(ours, (1, 4))))
    adam = torch.optim.Adam(
        [{"params": x, "lr": 0.01 * k} for x, k in zip(theirs, (1, 4))], betas=(0.9, 0.99)
    )
    for _ in range(10):
        for x in (*ours, *theirs):
            (x**4).sum().backward()
        optimiser.step(0.01)
        adam.step()
        adam.zero_grad()
    for x, y in zip(ours, theirs):
        torch.testing.assert_close(x, y)


def test_large_gradients_of_a_channel_take_long_steps(monkeypatch):
    monkeypatch.setattr("nic.channel_adam.OWN", 0.0)
    x = torch.zeros(1, 2, 1, 2, requires_grad=True)
    x.grad = torch.tensor([3.0, 4, 30, 40]).view(1, 2, 1, 2)
    ChannelAdam([(x, 2)]).step(0.1)
    steps = -0.2 * torch.tensor([3, 4]) / 12.5**0.5
    torch.testing.assert_close(x.detach().view(2, 2), steps.expand(2, 2))
    assert x.grad is None


def test_gradients_flow_whatever_the_caller_has_switched_off():
    deterministic = torch.backends.cudnn.deterministic
    with torch.inference_mode(), refine.refining():
        with refine.refining():
            pass
        assert torch.backends.cudnn.deterministic
        x = torch.ones(2, requires_grad=True)
        x.square().sum().backward()
    assert x.grad.tolist() == [2, 2]
    assert torch.backends.cudnn.deterministic == deterministic
