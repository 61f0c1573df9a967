"""CuPy's kernels of activations, against their formulas."""

import numpy as np
import pytest

from scratchgan import backend, kernels
from scratchgan.backend import to_device, to_host
from scratchgan.kernels import FORMULAS

ENDS = [0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 90, -90, 800, -800]
CALLS = [("leaky_relu", "x", (0.2,)), ("leaky_relu", "x", (0.0,)), ("leaky_relu", "x", (-1.5,)),
         ("leaky_relu_grad", "dy y", (0.2,)), ("leaky_relu_grad", "dy y", (0.0,)), ("tanh", "x", ()),
         ("tanh_grad", "dy y", ()), ("sigmoid", "x", ()), ("sigmoid_grad", "dy x y", ()), ("softplus", "x", ()),
         ("softplus", "x", (0.5, 3.0)), ("softplus_grad", "dy x", ()), ("softplus_grad", "dy x", (0.5, 3.0))]


def arranged(rng, dtype, order, device):
    """(4, 5, 6) numbers, some of them ends, in a memory order."""
    x = (8 * rng.standard_normal(120)).astype(dtype)
    x[::12] = ENDS
    x = x.reshape(4, 5, 6)
    if order == "gaps":
        return to_device(np.repeat(x, 2, axis=2), device)[..., ::2]
    axes = {"C": (0, 1, 2), "F": (2, 1, 0), "turned": (2, 0, 1)}[order]
    return to_device(np.ascontiguousarray(x.transpose(axes)), device).transpose(np.argsort(axes))


@pytest.mark.parametrize("name, arrays, numbers", CALLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_is_its_formula_in_one_kernel(cuda, rng, launches, name, arrays, numbers, dtype):
    for order in ("C", "F", "turned", "gaps"):
        x = arranged(rng, dtype, order, cuda)
        given = {"x": x, "y": FORMULAS.sigmoid(x) if "sigmoid" in name else x, "dy": arranged(rng, dtype, "C", cuda)}
        given = [given[array] for array in arrays.split()]
        got = getattr(kernels.of(x), name)(*given, *numbers)
        expected = getattr(FORMULAS, name)(*given, *numbers)
        eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
        np.testing.assert_allclose(to_host(got), to_host(expected), rtol=6 * eps, atol=4 * tiny)
        assert got.dtype == dtype and backend.memory_order(got) == backend.memory_order(given[0])
        assert launches(getattr(kernels.of(x), name), *given, *numbers) == 1, order


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_maxout_takes_the_first_of_equals_and_of_nan(cuda, rng, launches, dtype):
    z = rng.integers(-2, 3, (6, 7, 3)).astype(dtype)  # many are equal
    z[0, 0, 1] = z[1, 1, 0] = z[1, 1, 2] = z[2, 2, 2] = np.nan
    z[3, 3], z[4, 4, 1] = -np.inf, np.inf
    dy = rng.standard_normal((6, 7)).astype(dtype)
    y, won = FORMULAS.maxout(z)
    for stored in (to_device(z, cuda), to_device(np.ascontiguousarray(z.T), cuda).T):
        got_y, got_won = kernels.of(stored).maxout(stored)
        np.testing.assert_array_equal(to_host(got_y), y)
        np.testing.assert_array_equal(to_host(got_won), won)
        moved = to_device(dy, cuda)
        dz = kernels.of(stored).maxout_grad(moved, got_won)
        np.testing.assert_array_equal(to_host(dz), FORMULAS.maxout_grad(dy, won))
        assert launches(kernels.of(stored).maxout, stored) == 1
        assert launches(kernels.of(stored).maxout_grad, moved, got_won) == 1
