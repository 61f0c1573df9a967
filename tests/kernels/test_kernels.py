"""What the engine computes with: formulas, and faster functions that equal them."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgan import backend, kernels, optimizers
from scratchgan.kernels import FORMULAS
from scratchgan.kernels.numpy import FASTER, activations, parallel
from scratchgan.kernels.numpy import optimizers as optimizer_kernels
from scratchgan.layers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Softplus,
    Tanh,
)

EPS = {"float32": 1e-6, "float64": 1e-15, "complex64": 1e-6, "complex128": 1e-15}


def draw(rng, shape, dtype, order="C"):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return np.asarray(x, dtype, order=order)


# -- which function runs -------------------------------------------------------------------------------------------


def faster(device):
    return FASTER if device == "cpu" else kernels.cupy.faster()


def test_each_faster_function_has_a_formula_with_its_arguments(device):
    for name, function in vars(faster(device)).items():
        assert inspect.signature(function) == inspect.signature(vars(FORMULAS)[name]), name


def test_the_functions_for_an_array(device, rng):
    x = backend.to_device(draw(rng, (2, 3), "float32"), device)
    assert kernels.of(x) is kernels.of(x, x.astype("float64")) is faster(device)
    assert kernels.of(x + 0j) is kernels.of(x, x + 0j) is FORMULAS
    with kernels.plain():
        assert kernels.of(x) is FORMULAS
        with kernels.plain(False):
            assert kernels.of(x) is faster(device)
        assert kernels.of(x) is FORMULAS
    with pytest.raises(ZeroDivisionError), kernels.plain():
        raise ZeroDivisionError
    assert kernels.of(x) is faster(device)


@pytest.mark.parametrize("value, plain", [("1", True), ("0", False), ("", False)])
def test_an_environment_variable_asks_for_the_formulas(monkeypatch, value, plain):
    monkeypatch.setenv("SCRATCHGAN_PLAIN", value)
    code = "import numpy, scratchgan.kernels as k; print(k.of(numpy.ones(1)) is k.FORMULAS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(plain)


def test_a_formula_stays_the_function_that_it_is_and_runs_where_nothing_is_faster(device, monkeypatch):
    monkeypatch.setattr(FORMULAS, "doubled", None, raising=False)  # so that it goes again

    @kernels.formula
    def doubled(x):
        return 2 * x
    assert doubled(3) == FORMULAS.doubled(3) == faster(device).doubled(3) == 6
    for functions in (FORMULAS, faster(device)):
        with pytest.raises(AttributeError, match="there is no formula 'tripled'"):
            _ = functions.tripled


NETS = {"linear": (lambda: Sequential(Linear(5, 4), LeakyReLU(0.2), Linear(4, 3), Tanh()), (6, 5)),
        "logistic": (lambda: Sequential(Linear(5, 4), Sigmoid(), Softplus(0.5)), (6, 5)),
        "images": (lambda: Sequential(Conv2d(2, 8, 3), BatchNorm2d(8), ReLU(), ConvTranspose2d(8, 3, 4, 2, 1)),
                   (3, 2, 6, 5))}


@pytest.mark.parametrize("name", NETS)
def test_plain_passes_give_the_same(device, rng, name):
    make, shape = NETS[name]
    fast, plain = (make().initialize(0).to(device, "float64") for _ in range(2))
    x = backend.to_device(rng.standard_normal(shape), device)
    y = fast.forward(x)
    dy = backend.to_device(rng.standard_normal(y.shape), device)
    dx = fast.backward(dy)
    with kernels.plain():
        results = plain.forward(x), plain.backward(dy), plain.grad
    for got, expected in zip(results, (y, dx, fast.grad), strict=True):
        np.testing.assert_allclose(backend.to_host(got), backend.to_host(expected), rtol=1e-12, atol=1e-13)


def test_a_pass_ends_with_the_functions_that_it_began_with(monkeypatch, rng):
    plain, fast, x = Tanh(), Tanh(), rng.standard_normal((2, 3))
    y = fast.forward(x)
    with kernels.plain():
        plain.forward(x)
        with monkeypatch.context() as without:
            without.delattr(FORMULAS, "tanh_grad")
            assert fast.backward(y).shape == (2, 3)
    monkeypatch.delattr(FASTER, "tanh_grad")
    monkeypatch.setattr(FORMULAS, "tanh_grad", lambda dy, y: "the formula")
    assert plain.backward(y) == "the formula"


# -- matrix products -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order_out", ["C", "F", None])
@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float64", "float64"), ("complex128", "float64"),
                                    ("float64", "complex128"), ("complex64", "float32"), ("complex64", "complex64")])
@pytest.mark.parametrize("plain", [False, True])
def test_gemm_is_the_matrix_product(device, rng, dtypes, order_out, plain):
    a, b = draw(rng, (5, 7), dtypes[0]), draw(rng, (3, 7), dtypes[1]).T
    dtype = np.result_type(*dtypes)
    xp = backend.module_of(device)
    out = None if order_out is None else xp.zeros((5, 3), dtype, order_out)
    moved = backend.to_device(a, device), backend.to_device(b, device)
    with kernels.plain(plain):
        gemm = kernels.of(*moved).gemm
    got = gemm(*moved, out)
    assert out is None or got is out
    expected = a.astype(np.complex128) @ b
    assert got.dtype == dtype
    assert np.abs(backend.to_host(got) - expected).max() <= 10 * EPS[dtype.name] * np.abs(expected).max()


@pytest.mark.parametrize("m, k, n", [(1, 1, 1), (3, 0, 2), (0, 3, 2), (4, 3, 0), (300, 2, 200), (300, 1, 200),
                                     (2, 5, None)])
def test_fast_gemm_of_any_size_and_memory_order(rng, m, k, n):
    b_shape = (k,) if n is None else (k, n)
    a, b = rng.standard_normal((m, k)), rng.standard_normal(b_shape)
    wide_a, wide_b = np.repeat(a, 2, axis=1)[:, ::2], np.repeat(b, 2, axis=0)[::2]
    for x in (a, np.asfortranarray(a), wide_a, a[::-1].copy()[::-1]):
        for y in (b, np.asfortranarray(b), wide_b):
            outs = None, np.full((m, *b_shape[1:]), np.nan), np.full((m, *b_shape[1:]), np.nan, order="F"), \
                np.full((m, 2, *b_shape[1:]), np.nan)[:, 0]
            for out in outs:
                np.testing.assert_allclose(FASTER.gemm(x, y, out), a @ b, rtol=1e-12, atol=1e-12)


# -- activations ---------------------------------------------------------------------------------------------------


@pytest.fixture
def nan_before(monkeypatch):
    """The memory that results are written to is full of NaN before."""
    monkeypatch.setattr(activations, "empty_like", lambda x: np.full_like(x, np.nan))


@given(slope=st.floats(0, 1, width=32), seed=st.integers(0, 100), order=st.sampled_from("CF"))
def test_fast_leaky_relu_equals_the_formula(slope, seed, order):
    rng = np.random.default_rng(seed)
    x, dy = draw(rng, (6, 5), "float32", order), draw(rng, (6, 5), "float32", order)
    x.flat[:2] = 0.0, -0.0
    slope32 = np.float32(slope)
    y = FASTER.leaky_relu(x, slope)
    assert np.array_equal(y, np.where(x > 0, x, slope32 * x))
    for sign in (x, y):  # y has the sign of x
        assert np.array_equal(FASTER.leaky_relu_grad(dy, sign, slope), np.where(x > 0, dy, slope32 * dy))
    assert np.array_equal(y, FORMULAS.leaky_relu(x, slope))
    assert np.array_equal(FASTER.leaky_relu_grad(dy, x, slope), FORMULAS.leaky_relu_grad(dy, x, slope))


@pytest.mark.parametrize("slope", [3.0, -0.5])
def test_leaky_relu_of_a_slope_above_one_or_below_zero(rng, slope):
    x, dy = draw(rng, (4, 3), "float64"), draw(rng, (4, 3), "float64")
    assert np.array_equal(FASTER.leaky_relu(x, slope), np.where(x > 0, x, slope * x))
    assert np.allclose(FASTER.leaky_relu_grad(dy, x, slope), np.where(x > 0, dy, slope * dy), rtol=1e-15)


def test_fast_tanh_equals_the_formula(rng):
    x, dy = draw(rng, (4, 3), "float64"), draw(rng, (4, 3), "float64")
    y = FASTER.tanh(x)
    assert np.array_equal(y, np.tanh(x)) and np.array_equal(y, FORMULAS.tanh(x))
    assert np.allclose(FASTER.tanh_grad(dy, y), dy * (1 - y * y), rtol=1e-15)
    assert np.allclose(FASTER.tanh_grad(dy, y), FORMULAS.tanh_grad(dy, y), rtol=1e-15)


@pytest.mark.parametrize("name, arrays, numbers", [
    ("leaky_relu", 1, (0.2,)), ("leaky_relu", 1, (0.0,)), ("leaky_relu", 1, (1.5,)), ("leaky_relu_grad", 2, (0.2,)),
    ("leaky_relu_grad", 2, (0.0,)), ("tanh", 1, ()), ("tanh_grad", 2, ()), ("sigmoid", 1, ()), ("sigmoid_grad", 3, ()),
    ("softplus", 1, (2.0, 1.0)), ("softplus_grad", 2, (2.0, 1.0))])
@pytest.mark.parametrize("plain", [False, True])
def test_results_are_arrays_of_their_own_and_arguments_stay(device, rng, name, arrays, numbers, plain):
    given = [backend.to_device(draw(rng, (6, 5), "float32"), device) for _ in range(arrays)]
    before = [array.copy() for array in given]
    with kernels.plain(plain):
        result = getattr(kernels.of(*given), name)(*given, *numbers)
    assert result.dtype == np.float32 and result.shape == (6, 5)
    for array, copied in zip(given, before, strict=True):
        assert (array == copied).all()
        result[...] = 7
        assert (array == copied).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_and_softplus_keep_their_digits_at_both_ends(device, dtype):
    x = np.array([-1e4, -80, -30, -1, 0, 1, 30, 80, 1e4], dtype)
    moved = backend.to_device(x, device)
    with np.errstate(under="ignore"):
        wide = x.astype(np.float64)
        e = np.exp(-np.abs(wide))
        sigmoid, softplus = np.where(wide >= 0, 1, e) / (1 + e), np.maximum(wide, 0) + np.log1p(e)
        for plain in (False, True):
            with kernels.plain(plain):
                got_sigmoid, got_softplus = (backend.to_host(f(moved)) for f in (kernels.sigmoid, kernels.softplus))
            assert got_sigmoid.dtype == got_softplus.dtype == dtype
            tiny = np.finfo(dtype).tiny  # below it there are no full digits to keep
            assert np.allclose(got_sigmoid, sigmoid, rtol=4 * np.finfo(dtype).eps, atol=tiny)
            assert np.allclose(got_softplus, softplus, rtol=4 * np.finfo(dtype).eps, atol=tiny)


def wide_sigmoid(x):
    """The formula in float64."""
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
@pytest.mark.parametrize("size", [0, 12, 600, parallel.SHARED_FROM + 5])
@kinds
def test_fast_sigmoid_equals_the_formula(rng, nan_before, dtype, size, kind):
    x, dy = (10 * rng.standard_normal(size)).astype(dtype), rng.uniform(-1, 1, size).astype(dtype)
    x[:len(ends)] = ends[:size]
    x, dy = arranged(x, "C" if kind == "dy in another order" else kind), arranged(dy, "F" if "dy" in kind else kind)
    with np.errstate(all="raise", under="ignore"):
        y = kernels.sigmoid(x)
        dx = FASTER.sigmoid_grad(dy, x, y)
    wide = x.astype(np.float64)
    assert_digits(y, wide_sigmoid(wide))
    assert_digits(dx, dy * wide_sigmoid(wide) * wide_sigmoid(-wide))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 12, 600, parallel.SHARED_FROM + 5])
@pytest.mark.parametrize("beta, threshold", [(1.0, 20.0), (0.3, -2.0), (3.0, 50.0), (1.0, np.inf)])
@kinds
def test_fast_softplus_equals_the_formula(rng, nan_before, dtype, size, beta, threshold, kind):
    x, dy = (10 * rng.standard_normal(size)).astype(dtype), rng.uniform(-1, 1, size).astype(dtype)
    x[:len(ends)] = ends[:size]
    x, dy = arranged(x, "C" if kind == "dy in another order" else kind), arranged(dy, "F" if "dy" in kind else kind)
    with np.errstate(all="raise", under="ignore"):
        y = FASTER.softplus(x, beta, threshold)
        dx = FASTER.softplus_grad(dy, x, beta, threshold)
    z = (beta * x).astype(np.float64)  # rounded as theirs is
    linear = z > threshold
    assert np.array_equal(y[linear], x[linear]) and np.array_equal(dx[linear], dy[linear])
    assert_digits(y, np.where(linear, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta))
    assert_digits(dx, dy * np.where(linear, 1, wide_sigmoid(z)))


def assert_digits(got, expected):
    """Equal to rounding, wherever the numbers are large enough to have all their digits."""
    limits = np.finfo(got.dtype)
    np.testing.assert_allclose(got, expected, rtol=6 * limits.eps, atol=4 * limits.tiny)


@pytest.mark.parametrize("plain", [False, True])
def test_sigmoid_and_softplus_of_infinities_and_nan(device, plain):
    x = backend.to_device(np.array([np.inf, -np.inf, np.nan, 1e4, 30.0]), device)
    one = backend.to_device(np.ones(5), device)
    with np.errstate(all="raise", under="ignore"), kernels.plain(plain):
        ops = kernels.of(x)
        sigmoid, softplus = ops.sigmoid(x), ops.softplus(x, 1.0, 20.0)
        grads = ops.sigmoid_grad(one, x, sigmoid), ops.softplus_grad(one, x, 1.0, 20.0)
    for got, expected in zip((sigmoid, softplus, *grads), (
            [1, 0, np.nan, 1, 1], [np.inf, 0, np.nan, 1e4, 30], [0, 0, np.nan, 0, np.exp(-30)], [1, 0, np.nan, 1, 1])):
        np.testing.assert_allclose(backend.to_host(got), expected, rtol=1e-12)


# -- optimizers ----------------------------------------------------------------------------------------------------


def in_small_chunks(monkeypatch, workers):
    monkeypatch.setattr(optimizer_kernels, "CHUNK", 16)
    monkeypatch.setattr(optimizer_kernels, "SMALL_CHUNK", 16)
    monkeypatch.setattr(optimizer_kernels, "LARGE", 1 if workers > 1 else 1 << 17)
    monkeypatch.setattr(parallel, "workers", lambda: workers)
    monkeypatch.setattr(parallel, "_blas_awake", False)


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("plain", [False, True])
def test_adam_over_several_chunks_equals_the_formula(device, rng, monkeypatch, workers, plain):
    in_small_chunks(monkeypatch, workers)
    n = 50
    theta, grad, m = (rng.standard_normal(n) for _ in range(3))
    v = rng.random(n)
    moved = [backend.to_device(a.copy(), device) for a in (theta, grad, m, v)]
    with kernels.plain(plain):
        kernels.of(*moved).adam(*moved, 0.9, 0.99, 0.01, 1e-3)
    m, v = 0.9 * m + grad, 0.99 * v + grad**2
    theta = theta - 0.01 * m / (np.sqrt(v) + 1e-3)
    for got, expected in zip(moved, (theta, grad, m, v)):
        assert np.abs(backend.to_host(got) - expected).max() < 1e-14
    assert FORMULAS.adam is optimizers.adam


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("plain", [False, True])
def test_momentum_over_several_chunks_equals_the_formula(device, rng, monkeypatch, workers, plain):
    in_small_chunks(monkeypatch, workers)
    theta, grad, v = (rng.standard_normal(50).astype(np.float32) for _ in range(3))
    moved = [backend.to_device(a.copy(), device) for a in (theta, grad, v)]
    with kernels.plain(plain):
        kernels.of(*moved).momentum(*moved, 0.9, 0.01)
    v = np.float32(0.9) * v - np.float32(0.01) * grad
    for got, expected in zip(moved, (theta + v, grad, v)):
        if device == "cpu":
            assert np.array_equal(got, expected)  # to the bit
        np.testing.assert_allclose(backend.to_host(got), expected, rtol=1e-6, atol=1e-6)
    assert FORMULAS.momentum is optimizers.momentum
