"""The parts of refinement: relaxed rounding, the quadratic error, the optimiser."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nic import refine  # noqa: E402
from nic.channel_adam import ChannelAdam  # noqa: E402
from nic.rate import gaussian_bits, gaussian_bits_slope  # noqa: E402
from nic.refine import Refinement  # noqa: E402


def test_draws_are_between_neighbours_and_as_expected_on_average():
    r = torch.linspace(-3, 3, 61).repeat(40000, 1)
    draws, _ = refine._draw(r, torch.Generator().manual_seed(0))
    assert ((r.floor() <= draws) & (draws <= r.floor() + 1)).all()
    torch.testing.assert_close(draws.mean(0), refine._expected(r)[0], rtol=0, atol=0.02)
    whole = torch.arange(-3.0, 4)
    torch.testing.assert_close(refine._expected(whole), whole, rtol=0, atol=1e-4)
    torch.testing.assert_close(refine._expected(whole + 0.5), whole + 0.5)


def test_slopes_of_draws_are_their_derivatives():
    r = torch.linspace(-1.985, 1.985, 400, dtype=torch.float64)
    (low, _), (_, slope), (high, _) = (
        refine._draw(x, torch.Generator().manual_seed(0)) for x in (r - 1e-6, r, r + 1e-6)
    )
    torch.testing.assert_close(slope, (high - low) / 2e-6, rtol=1e-4, atol=1e-6)


def test_slopes_of_bits_are_their_derivatives():
    residuals = torch.linspace(-9, 9, 301, dtype=torch.float64, requires_grad=True)
    for scale in (refine.SCALE_MIN, 0.5, 3.0, refine.SCALE_MAX):
        scales = torch.full_like(residuals, scale)
        [slope] = torch.autograd.grad(gaussian_bits(residuals, scales).sum(), residuals)
        torch.testing.assert_close(gaussian_bits_slope(residuals.detach(), scales), slope)


class Relaxed:
    """A prior in which a latent's mean and level come from the latent on its left and from the
    hyperlatent, whose own bits are its square. Levels are 20, or less in the first two columns."""

    def __call__(self, v, z):
        left = torch.nn.functional.pad(v, (1, 0))[..., :-1]
        columns = torch.tensor([-20.0, -20, 0, 0])
        return left / 2 + z / 4, 20 + left.tanh() + z + columns

    def z_bits(self, z):
        return z.square().sum()


class WithoutContext(Relaxed):
    """The same without the latents."""

    def __call__(self, v, z):
        return super().__call__(torch.zeros(v.shape), z)


@pytest.fixture
def quadratic():
    """A refinement of 3x4 latents among 4x6, of two channels, whose error is 3 a^2 + 5 b^2 + a b,
    and whose first two columns are skipped."""

    def squared_error(x, v, post_filter):
        a, b = v[0]
        return (3 * a**2 + 5 * b**2 + a * b).sum()

    objective = SimpleNamespace(
        device=torch.device("cpu"), lmbda=2.0, squared_error=squared_error, relaxed=Relaxed(),
        scales=lambda levels: levels.abs() / 10 + 0.2, coded=lambda levels: levels > 10,
    )  # fmt: skip
    pixels, z = np.zeros((64, 96, 3), np.uint8), np.full((1, 1, 1), 0.3, np.float32)
    v = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    core = slice(1, 4), slice(2, 6)
    return Refinement(objective, pixels, v, core, np.zeros((3, 4, 2), np.int32), z)


SLOPE = 3.0


@pytest.fixture
def moves(monkeypatch):
    """Gradients that the optimiser is given, none of which it follows. What is drawn is what was
    there, and is said to change three times as fast."""
    seen = []
    monkeypatch.setattr(ChannelAdam, "step", lambda self, gradient, rate: seen.append(gradient))
    monkeypatch.setattr(refine, "_draw", lambda r, _: (r.clone(), torch.full_like(r, SLOPE)))
    return seen


def test_gradient_and_curvature_of_the_error(quadratic):
    v = quadratic.v.detach()
    gradient = quadratic._error_gradient(v, ())
    a, b = v[0]
    torch.testing.assert_close(gradient[0], 2 * torch.stack([6 * a + b, 10 * b + a]))
    curvature = quadratic._curvature(v, gradient, ())
    # What lies beside the diagonal, 2 here, comes with random signs.
    torch.testing.assert_close(curvature.flatten(), torch.tensor([12.0, 20.0]), rtol=0, atol=1)


@pytest.mark.parametrize("prior", [Relaxed, WithoutContext])
def test_a_look_gives_the_bits_of_others_and_moves_hyperlatents(quadratic, moves, prior):
    quadratic.objective.relaxed = prior()
    v = quadratic._decoded(quadratic.v - quadratic.means).requires_grad_()
    others = quadratic._look()
    z = quadratic.z.clone().requires_grad_()
    means, levels = prior()(v, z)
    bits = gaussian_bits(v.detach() - means, levels.abs() / 10 + 0.2)[..., 2:].sum()
    (bits + z.square().sum()).backward()
    assert (v.grad is None) == (prior is WithoutContext)
    torch.testing.assert_close(others, torch.zeros(v.shape) if v.grad is None else v.grad)
    torch.testing.assert_close(moves, [SLOPE * z.grad])
    torch.testing.assert_close(quadratic.means, means.detach())


def test_a_step_takes_the_error_for_quadratic_and_means_for_fixed(quadratic, moves):
    quadratic._look()
    expected = torch.full_like(quadratic.v, 0.25)
    quadratic.curvature = torch.tensor([12.0, 20.0]).view(1, 2, 1, 1)
    quadratic._step(expected, torch.full_like(expected, 0.5))
    v = quadratic.v.clone().requires_grad_()
    error = 0.5 * v + quadratic.curvature / 2 * (v - expected).square()
    (error + gaussian_bits(v - quadratic.means, quadratic.scales)).sum().backward()
    torch.testing.assert_close(moves[-1][..., 2:], SLOPE * v.grad[..., 2:])
    assert not moves[-1][..., :2].any()


def test_an_iteration_asks_each_network_as_often_as_it_should(quadratic, monkeypatch):
    seen = []
    monkeypatch.setattr(quadratic, "_error_gradient", lambda v, _: torch.full_like(v, 5))
    monkeypatch.setattr(quadratic, "_look", lambda: seen.append("look") or 2)
    monkeypatch.setattr(quadratic, "_step", lambda _, linear: seen.append(linear.mean().item()))
    monkeypatch.setattr(quadratic, "_curvature", lambda *_: seen.append("curvature") or 1)
    quadratic.advance(2, (), lambda iterations: seen.append(iterations))
    looks = refine.LOOKS * ["look", *refine.STEPS * [7]]
    assert seen == ["curvature", *looks, 1, *looks, 2]


def test_skipped_latents_are_their_means(quadratic):
    latents = quadratic._decoded(torch.ones_like(quadratic.v))
    torch.testing.assert_close(latents[..., :2], quadratic.means[..., :2])
    torch.testing.assert_close(latents[..., 2:], quadratic.means[..., 2:] + 1)


def test_with_its_own_moments_alone_a_grid_learns_by_adam(monkeypatch):
    monkeypatch.setattr("nic.channel_adam.OWN", 1.0)
    ours = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    theirs = ours.clone().requires_grad_()
    optimiser, adam = ChannelAdam(ours), torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99))
    for _ in range(10):
        optimiser.step(4 * ours**3, 0.01)
        adam.zero_grad()
        (theirs**4).sum().backward()
        adam.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_large_gradients_of_a_channel_take_long_steps(monkeypatch):
    monkeypatch.setattr("nic.channel_adam.OWN", 0.0)
    x = torch.zeros(1, 2, 1, 2)
    ChannelAdam(x).step(torch.tensor([3.0, 4, 30, 40]).view(1, 2, 1, 2), 0.2)
    steps = -0.2 * torch.tensor([3, 4]) / 12.5**0.5
    torch.testing.assert_close(x.view(2, 2), steps.expand(2, 2))


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
