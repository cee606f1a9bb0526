"""Fixed-point layers against plain int64 arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nic.integer import ACTIVATION_MAX, Layer, leaky_relu, rounding_shift


@given(st.integers(-(2**48), 2**48), st.integers(1, 40))
def test_rounding_shift_is_an_arithmetic_shift(value, shift):
    assert rounding_shift(np.float64(value), shift) == (value + (1 << shift - 1)) >> shift


@given(st.integers(-ACTIVATION_MAX, ACTIVATION_MAX))
def test_leaky_relu_is_a_shift_of_negative_values(value):
    assert leaky_relu(np.float64(value)) == (value if value >= 0 else value >> 3)


def convolve_int64(x, layer):
    """The layer by its definition, one output at a time."""
    out, _, kh, kw = layer.weight.shape
    h, w, _ = x.shape
    padded = np.pad(x, ((kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    result = np.empty((h, w, out), np.int64)
    for i in range(h):
        for j in range(w):
            window = padded[i : i + kh, j : j + kw].transpose(2, 0, 1)
            acc = (layer.weight.astype(np.int64) * window).sum((1, 2, 3)) + layer.bias
            value = np.clip(
                (acc + (1 << layer.shift - 1)) >> layer.shift, -layer.limit, layer.limit
            )
            result[i, j] = np.where(value < 0, value >> 3, value) if layer.leaky else value
    return result


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("leaky", [False, True])
def test_layer_equals_int64_at_full_range(kernel, leaky):
    rng = np.random.default_rng(kernel)
    weight = rng.integers(-32767, 32768, (5, 7, kernel, kernel)).astype(np.int16)
    bias = rng.integers(-(2**40), 2**40, 5)
    layer = Layer(weight, bias, shift=19, leaky=leaky)
    x = rng.integers(-ACTIVATION_MAX, ACTIVATION_MAX + 1, (6, 4, 7))
    np.testing.assert_array_equal(layer.grid(x.astype(np.float64)), convolve_int64(x, layer))


def test_layer_refuses_sums_beyond_exact_float64():
    weight = np.full((1, 1, 1, 1), 32767, np.int16)
    with pytest.raises(ValueError, match="out of bounds"):
        Layer(weight, np.array([2**52]), shift=10, leaky=False)
