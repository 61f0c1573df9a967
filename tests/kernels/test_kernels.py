"""The fast kernels against the plain formulas."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgan import backend, kernels

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
