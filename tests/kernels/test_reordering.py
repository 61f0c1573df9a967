"""Copies between orders in memory."""

import itertools

import numpy as np
import pytest

from scratchgan.backend import empty_along
from scratchgan.kernels.numpy import parallel
from scratchgan.kernels.numpy.reordering import reordered


@pytest.mark.parametrize("shape", [(3, 4, 2, 5), (2, 1, 3, 1), (4, 3), (6,), (), (0, 2, 3), (2, 3, 4, 2, 2)])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_order_to_every_other(shape, workers, rng, monkeypatch):
    monkeypatch.setattr(parallel, "workers", lambda: workers)
    monkeypatch.setattr(parallel, "SHARED_FROM", 1)
    values = rng.standard_normal(shape)
    orders = list(itertools.permutations(range(len(shape))))
    for before, after in itertools.product(orders, orders) if len(shape) < 5 else zip(orders, reversed(orders)):
        x, out = (empty_along(shape, np.float64, order) for order in (before, after))
        x[...], out[...] = values, np.nan
        assert reordered(out, x) is out
        np.testing.assert_array_equal(out, values)
