"""The parts of refinement: relaxed rounding, and the error's curvature."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nic import refine  # noqa: E402
from nic.refine import Refinement  # noqa: E402


def test_draws_are_between_neighbours_and_as_expected_on_average():
    r = torch.linspace(-3, 3, 61).repeat(4000, 1)
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


@pytest.fixture
def quadratic():
    """A refinement of 3x4 latents of two channels whose error is 3 a^2 + 5 b^2 + a b."""

    def squared_error(x, v, post_filter):
        a, b = v[0]
        return (3 * a**2 + 5 * b**2 + a * b).sum()

    def relaxed(v, z):
        return torch.zeros_like(v), torch.full_like(v, 20)

    objective = SimpleNamespace(
        device=torch.device("cpu"), lmbda=2.0, relaxed=relaxed, squared_error=squared_error
    )
    pixels, z = np.zeros((48, 64, 3), np.uint8), np.zeros((1, 1, 1), np.float32)
    v = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    core = slice(0, 3), slice(0, 4)
    return Refinement(objective, pixels, v, core, np.zeros(v.shape, np.int32), z)


def test_gradient_and_curvature_of_the_error(quadratic):
    v = quadratic.v.detach()
    gradient = quadratic._error_gradient(v, ())
    a, b = v[0]
    torch.testing.assert_close(gradient[0], 2 * torch.stack([6 * a + b, 10 * b + a]))
    curvature = quadratic._curvature(v, gradient, ())
    # What lies beside the diagonal, 2 here, comes with random signs.
    torch.testing.assert_close(curvature.flatten(), torch.tensor([12.0, 20.0]), rtol=0, atol=2)
