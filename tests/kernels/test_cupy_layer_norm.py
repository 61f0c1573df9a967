import numpy as np
import pytest

from scratchgan import kernels
from scratchgan.backend import to_device, to_host
from scratchgan.kernels import FORMULAS


@pytest.mark.parametrize("shape, axes", [((3, 5), 1), ((4, 3, 6, 7), 3), ((2, 3, 300), 1), ((2, 3, 4), 3), ((1, 1), 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_norm_is_its_formula_in_one_kernel(cuda, rng, launches, shape, axes, dtype):
    x, g = (to_device((3 + rng.standard_normal(shape)).astype(dtype), cuda) for _ in range(2))
    for turned in (lambda a: a, lambda a: a.swapaxes(-1, -2).copy().swapaxes(-1, -2), lambda a: a.T.copy().T):
        x, ops = turned(x), kernels.of(x)
        (xhat, r), (expected_xhat, expected_r) = ops.layer_norm(x, 1e-3, axes), FORMULAS.layer_norm(x, 1e-3, axes)
        dx, expected_dx = ops.layer_norm_grad(g, xhat, r, axes), FORMULAS.layer_norm_grad(g, xhat, r, axes)
        close = {"rtol": 20 * np.finfo(dtype).eps, "atol": 20 * np.finfo(dtype).eps}
        for got, expected in ((xhat, expected_xhat), (r, expected_r), (dx, expected_dx / r)):
            got = got / r if got is dx else got
            assert got.shape == expected.shape and got.dtype == dtype
            np.testing.assert_allclose(to_host(got), to_host(expected), **close)
    x = to_device(to_host(x).copy(), cuda)
    assert launches(ops.layer_norm, x, 1e-3, axes) == launches(ops.layer_norm_grad, x, x, r, axes) == 1


def test_a_large_mean_costs_no_digits(cuda, rng):
    x = to_device((1e4 + rng.standard_normal((3, 500))).astype("float32"), cuda)
    xhat, _ = kernels.of(x).layer_norm(x, 0.0, 1)
    wide = to_host(x).astype("float64")
    expected = (wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True)
    np.testing.assert_allclose(to_host(xhat), expected, atol=1e-5)


@pytest.mark.parametrize("order", "CF")
def test_sums_of_rows_in_one_kernel(cuda, rng, launches, order):
    dy = to_device(np.asarray(rng.standard_normal((7, 5)), "float32", order=order), cuda)
    out = to_device(np.zeros(5, "float32"), cuda)
    assert launches(kernels.of(dy).row_sums, dy, out) == 1
    for got in (out, kernels.of(dy).row_sums(dy)):
        np.testing.assert_allclose(to_host(got), to_host(dy).sum(axis=0), rtol=1e-5, atol=1e-6)
