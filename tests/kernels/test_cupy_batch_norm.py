"""CUDA's batch normalisation and sums of channels against the formulas."""

import numpy as np
import pytest

from scratchgan import kernels
from scratchgan.backend import memory_order, to_device, to_host
from scratchgan.kernels import FORMULAS

ORDERS = {"channels first": lambda n: range(n), "channels last": lambda n: (0, 1, *range(3, n), 2),
          "batches inside": lambda n: reversed(range(n))}
SHAPES = [(1, 4, 3), (2, 3, 1, 2), (1, 300, 40, 2), (3, 1, 2, 3, 5), (2, 2, 33, 7, 9), (2, 700, 3, 4, 2),
          (1, 2, 5, 40, 60)]


def stored(array, order, device):
    """The same values in memory of this order."""
    axes = list(ORDERS[order](array.ndim))
    return to_device(np.ascontiguousarray(array.transpose(axes)), device).transpose(np.argsort(axes).tolist())


def passes(functions, x, dy, eps, mean, r, weight, bias, dbias, dweight):
    return [*functions.batch_moments(x), *functions.batch_statistics(x, eps),
            functions.batch_norm(x, mean, r, weight, bias), *functions.batch_norm_sums(dy, x, mean, r),
            functions.batch_norm_grad(dy, x, mean, r, weight, dbias, dweight), functions.channel_sums(dy[0])]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-5)])
def test_like_the_formulas(cuda, rng, order, shape, dtype, tolerance):
    x, dy = rng.normal(2, 1, (2, *shape)).astype(dtype)
    mean, r, dbias, dweight = rng.uniform(1, 2, (4, shape[0], shape[2]))
    weight, bias = rng.normal(size=(2, shape[2])).astype(dtype)
    if len(shape) == 4:
        weight, bias, mean, r = 1.0, 0.0, mean[:1], r[:1]
    x, dy = (array.reshape(*shape, *[1] * (5 - len(shape))) for array in (x, dy))  # channel_sums takes images
    given = [mean, r, weight, bias, dbias, dweight]
    moved = [array if isinstance(array, float) else to_device(array, cuda) for array in given]
    on_device = stored(x, order, cuda)
    for dy_order in ORDERS:
        got = passes(kernels.of(on_device), on_device, stored(dy, dy_order, cuda), 0.1, *moved)
        for value, expected in zip(got, passes(FORMULAS, x, dy, 0.1, *given), strict=True):
            assert value.shape == expected.shape and value.dtype == expected.dtype
            np.testing.assert_allclose(to_host(value), expected, rtol=tolerance, atol=tolerance * max(shape))


@pytest.mark.parametrize("order", ["channels first", "channels last"])
@pytest.mark.parametrize("mean, spread", [(300, 1), (1e20, 1e18), (1e4, 1), (1e5, 0), (0.1, 0)])
def test_moments_of_data_far_from_zero_keep_their_digits(cuda, rng, order, mean, spread):
    x = rng.normal(mean, spread, (2, 50, 3, 5, 4)).astype(np.float32)
    on_device, exact = stored(x, order, cuda), x.astype(np.float64)
    got_mean, got_var, r = kernels.of(on_device).batch_statistics(on_device, 0.0)
    np.testing.assert_allclose(to_host(got_mean), exact.mean(axis=(1, 3, 4)), rtol=1e-7)
    np.testing.assert_allclose(to_host(got_var), exact.var(axis=(1, 3, 4)), rtol=1e-6, atol=1e-12 * mean**2)
    if spread:
        y = kernels.of(on_device).batch_norm(on_device, got_mean, r, 1.0, 0.0)
        centred = exact - exact.mean(axis=(1, 3, 4), keepdims=True)
        np.testing.assert_allclose(to_host(y), centred / centred.std(axis=(1, 3, 4), keepdims=True), atol=1e-5)


def test_results_have_the_order_of_x_and_the_same_bits_each_time(cuda, rng):
    for order in ("channels first", "channels last"):
        x = stored(rng.normal(size=(2, 600, 5, 3, 2)).astype(np.float32), order, cuda)
        ops, results = kernels.of(x), []
        for _ in range(2):
            mean, var, r = ops.batch_statistics(x, 1e-5)
            y, (dbias, dweight) = ops.batch_norm(x, mean, r, 1.0, 0.0), ops.batch_norm_sums(x, x, mean, r)
            dx = ops.batch_norm_grad(x, x, mean, r, 1.0, dbias, dweight)
            results.append([to_host(value) for value in (mean, var, r, y, dbias, dweight, dx)])
        assert memory_order(y) == memory_order(dx) == memory_order(x)
        assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("momentum", [None, 0.1, 0.0])
@pytest.mark.parametrize("M", [0, 7])
def test_running_averages_like_the_formula(cuda, rng, momentum, M):
    running, vectors = rng.normal(size=(2, 300)).astype(np.float32), rng.uniform(1, 2, (2, 3, 300))
    expected = [*running.copy(), np.array(5, np.int64)]
    got = [to_device(array, cuda) for array in expected]
    FORMULAS.running_averages(*expected, *vectors, M, momentum)
    kernels.of(got[0]).running_averages(*got, *(to_device(array, cuda) for array in vectors), M, momentum)
    for value, right in zip(got, expected, strict=True):
        np.testing.assert_allclose(to_host(value), right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("fresh", [[False], [True, False]])
def test_terms_in_turn_like_the_formula(cuda, rng, rows, fresh):
    totals, terms = rng.normal(size=(2, 300)).astype(np.float32)[:len(fresh)], rng.normal(size=(len(fresh), rows, 300))
    moved = [to_device(total, cuda) for total in totals]
    kernels.of(moved[0]).add_in_turn(moved, [to_device(each, cuda) for each in terms], fresh)
    FORMULAS.add_in_turn(totals, terms, fresh)
    for got, expected in zip(moved, totals, strict=True):
        np.testing.assert_array_equal(to_host(got), expected)  # to the bit
