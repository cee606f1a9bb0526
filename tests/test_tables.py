"""Frequency tables: sound, symmetric, and close to the densities they stand for."""

import math

import numpy as np
import pytest

from nic.tables import SKIP_PROBABILITY, FrequencyTables, gaussian_tables, scale_levels


def test_every_table_runs_from_0_to_65536_without_empty_symbols():
    tables, _ = gaussian_tables()
    assert len(tables.lists) == 64
    for cdf in tables.lists:
        assert cdf[0] == 0 and cdf[-1] == 65536
        assert all(a < b for a, b in zip(cdf, cdf[1:]))


def test_gaussian_tables_are_symmetric_about_zero():
    tables, _ = gaussian_tables()
    for cdf, low, size in zip(tables.lists, tables.lows, tables.sizes):
        frequencies = np.diff(cdf)[:-1]
        assert size == 1 - 2 * low
        assert np.abs(frequencies - frequencies[::-1]).max() <= 1


def test_skipped_levels_are_those_almost_surely_zero():
    _, skip_below = gaussian_tables()
    zero = [math.erf(0.5 / scale / math.sqrt(2)) for scale in scale_levels()]
    assert skip_below == sum(p > SKIP_PROBABILITY for p in zero) > 0


def test_coding_with_the_tables_costs_under_a_thousandth_more_than_the_density():
    tables, skip_below = gaussian_tables()
    for level in range(skip_below, 64):
        scale = scale_levels()[level]
        edges = (np.arange(tables.sizes[level] + 1) + tables.lows[level] - 0.5) / scale
        p = np.diff([0.5 * math.erfc(-e / math.sqrt(2)) for e in edges])
        q = np.diff(tables.lists[level])[:-1] / 65536
        assert np.sum(p * np.log2(p / q)) < 1e-3 * max(1.0, -np.sum(p * np.log2(p)))


def test_a_table_that_does_not_increase_is_refused():
    with pytest.raises(ValueError, match="frequency table"):
        FrequencyTables(np.array([0, 5, 5, 65536]), np.array([0, 4]), np.array([0]))
