"""Copies between orders in memory."""

import itertools

import numpy as np
import pytest

from scratchgan import kernels
from scratchgan.backend import empty_along
from scratchgan.kernels.formulas import FORMULAS
from scratchgan.kernels.numpy import activations, parallel
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


@pytest.mark.parametrize("name", ["leaky_relu_grad", "tanh_grad"])
def test_gradients_come_in_the_order_of_y(name, rng):
    numbers = (0.2,) if name == "leaky_relu_grad" else ()
    orders = list(itertools.permutations(range(3)))
    for before, after in itertools.product(orders, orders):
        dy, y = (empty_along((4, 5, 3), np.float64, order) for order in (before, after))
        dy[...], y[...] = rng.standard_normal((2, 4, 5, 3))
        got = getattr(kernels.of(y), name)(dy, y, *numbers)
        np.testing.assert_allclose(got, getattr(FORMULAS, name)(dy, y, *numbers), rtol=1e-14)
        assert got.strides == y.strides


@pytest.mark.parametrize("shape", [(3, 4, 1, 1), (3, 1, 5, 4)])
def test_axes_of_size_1_are_no_reason_to_copy(shape):
    """Images with the channels last in memory, whose strides along such axes are others than a new array's."""
    x, out = empty_along(shape, np.float32, (0, 2, 3, 1)), np.empty(shape, np.float32)
    assert x.strides != out.strides
    ordered = activations._in_order_of(out, x)
    assert ordered.strides == out.strides and np.shares_memory(ordered, x)
