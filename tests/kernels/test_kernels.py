"""The fast kernels against the plain formulas."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgan import backend, kernels
from scratchgan.kernels import parallel

adam_module = importlib.import_module("scratchgan.kernels.adam")  # the name in the package is the function

EPS = {"float32": 1e-6, "float64": 1e-15, "complex64": 1e-6, "complex128": 1e-15}


def draw(rng, shape, dtype, order="C"):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return np.asarray(x, dtype, order=order)


@pytest.mark.parametrize("order_out", ["C", "F", None])
@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float64", "float64"), ("complex128", "float64"),
                                    ("float64", "complex128"), ("complex64", "float32"), ("complex64", "complex64")])
def test_gemm_is_the_matrix_product(device, rng, dtypes, order_out):
    a, b = draw(rng, (5, 7), dtypes[0]), draw(rng, (3, 7), dtypes[1]).T
    dtype = np.result_type(*dtypes)
    xp = backend.module_of(device)
    out = None if order_out is None else xp.zeros((5, 3), dtype, order_out)
    got = kernels.gemm(backend.to_device(a, device), backend.to_device(b, device), out)
    assert out is None or got is out
    expected = a.astype(np.complex128) @ b
    assert got.dtype == dtype
    assert np.abs(backend.to_host(got) - expected).max() <= 10 * EPS[dtype.name] * np.abs(expected).max()
    if out is not None:
        kernels.gemm(backend.to_device(a, device), backend.to_device(b, device), out, accumulate=True)
        assert np.abs(backend.to_host(out) - 2 * expected).max() <= 20 * EPS[dtype.name] * np.abs(expected).max()


@given(slope=st.floats(0, 1, width=32), seed=st.integers(0, 100), order=st.sampled_from("CF"))
def test_fast_leaky_relu_equals_the_plain_one(slope, seed, order):
    rng = np.random.default_rng(seed)
    x, dy = draw(rng, (6, 5), "float32", order), draw(rng, (6, 5), "float32", order)
    x.flat[:2] = 0.0, -0.0
    slope32 = np.float32(slope)
    y = kernels.leaky_relu(x, slope, out=np.empty_like(x))
    dx = kernels.leaky_relu_grad(dy, x, slope, out=np.empty_like(x))
    assert np.array_equal(y, np.where(x > 0, x, slope32 * x))
    assert np.array_equal(dx, np.where(x > 0, dy, slope32 * dy))


def test_leaky_relu_of_a_slope_above_one(rng):
    x, dy = draw(rng, (4, 3), "float64"), draw(rng, (4, 3), "float64")
    assert np.array_equal(kernels.leaky_relu(x, 3.0, np.empty_like(x)), np.where(x > 0, x, 3 * x))
    assert np.allclose(kernels.leaky_relu_grad(dy, x, 3.0, np.empty_like(x)), np.where(x > 0, dy, 3 * dy), rtol=1e-15)


def test_fast_tanh_equals_the_plain_one(rng):
    x, dy = draw(rng, (4, 3), "float64"), draw(rng, (4, 3), "float64")
    y = kernels.tanh(x, out=np.empty_like(x))
    assert np.array_equal(y, np.tanh(x))
    assert np.allclose(kernels.tanh_grad(dy, y, np.empty_like(x)), dy * (1 - y * y), rtol=1e-15)


@pytest.mark.parametrize("function, arrays, shared", [
    (lambda x, out: kernels.leaky_relu(x, 0.2, out), 1, 0), (lambda x, out: kernels.leaky_relu(x, 0.0, out), 1, 0),
    (lambda dy, x, out: kernels.leaky_relu_grad(dy, x, 0.2, out), 2, 0), (kernels.tanh, 1, 0),
    (lambda dy, x, out: kernels.leaky_relu_grad(dy, x, 0.0, out), 2, 0), (kernels.tanh_grad, 2, 1),
    (kernels.sigmoid, 1, 0), (kernels.sigmoid_grad, 3, 1)])
def test_an_input_to_write_into_where_that_is_allowed(device, rng, function, arrays, shared):
    given = [backend.to_device(draw(rng, (6, 5), "float32"), device) for _ in range(arrays)]
    expected = function(*given, out=given[0].copy())
    assert function(*given, out=given[shared]) is given[shared] and (given[shared] == expected).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_and_softplus_keep_their_digits_at_both_ends(device, dtype):
    x = np.array([-1e4, -80, -30, -1, 0, 1, 30, 80, 1e4], dtype)
    moved = backend.to_device(x, device)
    with np.errstate(under="ignore"):
        wide = x.astype(np.float64)
        e = np.exp(-np.abs(wide))
        sigmoid, softplus = np.where(wide >= 0, 1, e) / (1 + e), np.maximum(wide, 0) + np.log1p(e)
        got_sigmoid, got_softplus = (backend.to_host(f(moved)) for f in (kernels.sigmoid, kernels.softplus))
    assert got_sigmoid.dtype == got_softplus.dtype == dtype
    tiny = np.finfo(dtype).tiny  # below it there are no full digits to keep
    assert np.allclose(got_sigmoid, sigmoid, rtol=4 * np.finfo(dtype).eps, atol=tiny)
    assert np.allclose(got_softplus, softplus, rtol=4 * np.finfo(dtype).eps, atol=tiny)


def wide_sigmoid(x):
    """The plain formula in float64."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def arranged(values, kind):
    """The values as an array in one of several memory orders."""
    if kind == "gaps":
        return np.repeat(values, 2)[::2]
    cube = values[:len(values) // 12 * 12].reshape(-1, 3, 4)
    return {"flat": values, "C": cube, "F": np.asfortranarray(cube), "turned": cube.transpose(1, 2, 0)}[kind]


ends = [0.0, -0.0, 1e-30, -1e-30, 19.5, 20.5, 41.0, 80, -80, 1e4, -1e4]
kinds = pytest.mark.parametrize("kind", ["flat", "C", "F", "turned", "gaps", "dy in another order"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 12, 600, parallel.SMALL + 5])
@kinds
def test_fast_sigmoid_equals_the_plain_one(rng, dtype, size, kind):
    x, dy = (10 * rng.standard_normal(size)).astype(dtype), rng.uniform(-1, 1, size).astype(dtype)
    x[:len(ends)] = ends[:size]
    x, dy = arranged(x, "C" if kind == "dy in another order" else kind), arranged(dy, "F" if "dy" in kind else kind)
    with np.errstate(all="raise", under="ignore"):
        y = kernels.sigmoid(x, np.full_like(x, np.nan))
        dx = kernels.sigmoid_grad(dy, x, y, np.full_like(x, np.nan))
        assert np.array_equal(kernels.sigmoid(x), y)
    wide = x.astype(np.float64)
    assert_digits(y, wide_sigmoid(wide))
    assert_digits(dx, dy * wide_sigmoid(wide) * wide_sigmoid(-wide))
    assert np.array_equal(kernels.sigmoid(x, x), y) and np.array_equal(x, y)  # in place


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 12, 600, parallel.SMALL + 5])
@pytest.mark.parametrize("beta, threshold", [(1.0, 20.0), (0.3, -2.0), (3.0, 50.0), (1.0, np.inf)])
@kinds
def test_fast_softplus_equals_the_plain_one(rng, dtype, size, beta, threshold, kind):
    x, dy = (10 * rng.standard_normal(size)).astype(dtype), rng.uniform(-1, 1, size).astype(dtype)
    x[:len(ends)] = ends[:size]
    x, dy = arranged(x, "C" if kind == "dy in another order" else kind), arranged(dy, "F" if "dy" in kind else kind)
    with np.errstate(all="raise", under="ignore"):
        y = kernels.softplus(x, beta, threshold, np.full_like(x, np.nan))
        dx = kernels.softplus_grad(dy, x, beta, threshold, np.full_like(x, np.nan))
        assert np.array_equal(kernels.softplus(x, beta, threshold), y)
    z = (beta * x).astype(np.float64)  # rounded as theirs is
    linear = z > threshold
    assert np.array_equal(y[linear], x[linear]) and np.array_equal(dx[linear], dy[linear])
    assert_digits(y, np.where(linear, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta))
    assert_digits(dx, dy * np.where(linear, 1, wide_sigmoid(z)))


def assert_digits(got, expected):
    """Equal to rounding, wherever the numbers are large enough to have all their digits."""
    limits = np.finfo(got.dtype)
    np.testing.assert_allclose(got, expected, rtol=6 * limits.eps, atol=4 * limits.tiny)


def test_sigmoid_and_softplus_of_infinities_and_nan(device):
    x = backend.to_device(np.array([np.inf, -np.inf, np.nan, 1e4, 30.0]), device)
    one = backend.to_device(np.ones(5), device)
    with np.errstate(all="raise", under="ignore"):
        sigmoid, softplus = kernels.sigmoid(x), kernels.softplus(x, 1.0, 20.0)
        grads = kernels.sigmoid_grad(one, x, sigmoid, one.copy()), kernels.softplus_grad(one, x, 1.0, 20.0, one.copy())
    for got, expected in zip((sigmoid, softplus, *grads), (
            [1, 0, np.nan, 1, 1], [np.inf, 0, np.nan, 1e4, 30], [0, 0, np.nan, 0, np.exp(-30)], [1, 0, np.nan, 1, 1])):
        np.testing.assert_allclose(backend.to_host(got), expected, rtol=1e-12)


def test_adam_over_several_chunks_equals_the_formula(device, rng, monkeypatch):
    monkeypatch.setattr(adam_module, "CHUNK", 16)
    n = 50
    theta, grad, m = (rng.standard_normal(n) for _ in range(3))
    v = rng.random(n)
    moved = [backend.to_device(a.copy(), device) for a in (theta, grad, m, v)]
    kernels.adam(*moved, 0.9, 0.99, 0.01, 1e-3)
    m, v = 0.9 * m + grad, 0.99 * v + grad**2
    theta = theta - 0.01 * m / (np.sqrt(v) + 1e-3)
    for got, expected in zip(moved, (theta, grad, m, v)):
        assert np.abs(backend.to_host(got) - expected).max() < 1e-14
