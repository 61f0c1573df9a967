"""The fast passes of layer normalisation against the plain formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from scratchgan.kernels import layer_norm
from scratchgan.layers import LayerNorm
from scratchgan.layers.layer_norm import plain_gradients, plain_normalise

EPS = 1e-5
# How samples lie in memory: the order of the axes of x, and how many of the last ones make a sample.
ROWS = {"rows": ((0, 1), 1), "images": ((0, 1, 2, 3), 3), "channels last": ((0, 2, 3, 1), 3),
        "two axes": ((0, 1, 2), 1), "one sample": ((1, 0), 2)}
COLUMNS = {"columns": ((1, 0), 1), "columns of images": ((2, 3, 1, 0), 3), "columns of two axes": ((2, 0, 1), 1)}


@pytest.fixture(params=[None, 20, 300])
def blocks(request, monkeypatch):
    """With blocks as they are, and with few elements in each."""
    if request.param:
        monkeypatch.setattr(layer_norm, "BLOCK", request.param)
        monkeypatch.setattr(layer_norm, "SMALL", 40)
        monkeypatch.setattr(layer_norm, "LONG", 4)
        monkeypatch.setattr(layer_norm, "PIECE", 7)
        monkeypatch.setattr(layer_norm, "WIDTH", 30)
    layer_norm._form_of.cache_clear()
    yield
    layer_norm._form_of.cache_clear()


def stored(a, order):
    return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))


def plain(x, dy, weight, bias, axes, wrt="all"):
    """(y, dx, dweight, dbias) by the plain formulas in float64."""
    x, dy, weight, bias = (None if a is None else a.astype(np.float64) for a in (x, dy, weight, bias))
    y, kept = plain_normalise(x, weight, bias, EPS, axes)
    return y, *plain_gradients(dy, x, kept, weight, axes, wrt)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("affine", ["weight and bias", "weight", ""])
@pytest.mark.parametrize("shift", [0, 50])
@pytest.mark.parametrize("order, axes", [*ROWS.values(), *COLUMNS.values()], ids=[*ROWS, *COLUMNS])
def test_fast_passes_equal_the_plain_ones(rng, blocks, order, axes, shift, affine, dtype, tolerance):
    shape = (12, 20, 15, 4)[:len(order)]
    x, dy = (stored(a, order) for a in rng.standard_normal((2, *shape)).astype(dtype))
    x[1:] += shift  # the first sample stays near zero
    weight = rng.uniform(0.5, 2, shape[-axes:]).astype(dtype) if "weight" in affine else None
    bias = rng.standard_normal(shape[-axes:]).astype(dtype) if "bias" in affine else None
    expected = plain(x, dy, weight, bias, axes)
    before = x.copy(), dy.copy()
    out, dx = np.full_like(x, np.nan), np.full_like(x, np.nan)
    y, kept = layer_norm.normalise(x, weight, bias, EPS, axes, out)
    got = y, *layer_norm.gradients(dy, x, kept, weight, axes, dx)
    assert y is out and got[1] is dx
    for ours, theirs in zip(got, expected):
        assert ours.dtype == dtype and ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()
    assert np.array_equal(x, before[0]) and np.array_equal(dy, before[1])
    assert layer_norm.gradients(dy, x, kept, weight, axes, np.empty_like(x), "input")[1:] == (None, None)
    only = layer_norm.gradients(dy, x, kept, weight, axes, None, "params")
    assert only[0] is None and all(np.array_equal(a, b) for a, b in zip(only[1:], got[2:]))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_sample_far_from_zero_keeps_its_digits(rng, order):
    x = stored(rng.standard_normal((6, 500)).astype(np.float32), order)
    x += np.array([[0], [1e3], [-1e4], [3.9], [4.1], [1e7]], np.float32)
    wide = x.astype(np.float64)
    d = wide - wide.mean(axis=1, keepdims=True)
    expected = d / np.sqrt((d * d).mean(axis=1, keepdims=True) + EPS)
    y, kept = layer_norm.normalise(x, None, None, EPS, 1, np.empty_like(x))
    assert np.abs(y - expected).max() < 2e-6
    dy = stored(rng.standard_normal(x.shape).astype(np.float32), order)
    r = 1 / np.sqrt((d * d).mean(axis=1, keepdims=True) + EPS)
    dx = layer_norm.gradients(dy, x, kept, None, 1, np.empty_like(x))[0]
    g = dy - dy.mean(axis=1, keepdims=True) - expected * (dy * expected).mean(axis=1, keepdims=True)
    assert (np.abs(dx - r * g).max(axis=1) < 4e-6 * r[:, 0]).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_sample_does_not_see_those_beside_it(rng, order):
    """To the bit, be those near or far, infinite or not numbers."""
    x = stored(rng.standard_normal((4, 300)).astype(np.float32), order)
    alone = layer_norm.normalise(x, None, None, EPS, 1, np.empty_like(x))[0].copy()
    x[1], x[2, 0] = x[1] + 1e4, np.nan
    with np.errstate(invalid="ignore"):
        x[3, 5] = np.inf
        beside = layer_norm.normalise(x, None, None, EPS, 1, np.empty_like(x))[0]
    assert np.array_equal(alone[0], beside[0]) and np.isfinite(beside[1]).all()
    assert np.isnan(beside[2:]).any(axis=1).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_constant_and_huge_samples(order):
    """No warning (an error here) where only the mean's square overflows; no NaN from a variance of zero."""
    x = stored(np.repeat(np.geomspace(1e7, 1e9, 400, dtype=np.float32)[:, None], 300, axis=1), order)
    assert np.isfinite(layer_norm.normalise(x, None, None, 1e-20, 1, np.empty_like(x))[0]).all()
    x = stored(np.array([[0] * 9, [1e8] * 9, [0.1] * 9, [3e19] * 8 + [3.0001e19]], np.float32), order)
    y, kept = layer_norm.normalise(x, None, None, EPS, 1, np.empty_like(x))
    assert np.abs(y[:3]).max() < 1e-3
    assert np.allclose(y[3], [-8**-0.5] * 8 + [8**0.5], atol=1e-3)
    assert np.isfinite(layer_norm.gradients(np.ones_like(x), x, kept, None, 1, np.empty_like(x))[0]).all()


def test_threads_change_no_bit(rng, blocks):
    x, dy = rng.standard_normal((2, 14, 50)).astype(np.float32)
    weight, results = x[0].copy(), []
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="blas"):
            layer_norm._form_of.cache_clear()
            y, kept = layer_norm.normalise(x, weight, None, EPS, 1, np.empty_like(x))
            results.append([y, *layer_norm.gradients(dy, x, kept, weight, 1, np.empty_like(x))])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


@given(st.permutations(range(4)), st.permutations(range(4)), st.integers(1, 3), st.booleans())
def test_any_memory_order(order, order_of_dy, axes, gaps):
    """By the plain formulas where there is no fast way."""
    rng = np.random.default_rng(0)
    x, dy = (stored(a, o) for a, o in zip(rng.standard_normal((2, 2, 6, 3, 4)), (order, order_of_dy)))
    x = x[:, ::2] if gaps else x[:, :3]
    dy, layer = dy[:, :3], LayerNorm((2, 3, 3, 4)[-axes:]).to(dtype="float64")
    for value in layer.params.values():
        value[...] = rng.standard_normal(value.shape)
    got = layer.forward(x), layer.backward(dy), *layer.grads.values()
    for ours, theirs in zip(got, plain(x, dy, *layer.params.values(), axes), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_prime_number_of_features_is_added_up_in_long_pieces(rng, monkeypatch):
    lengths, vecdot = [], np.vecdot
    monkeypatch.setattr(np, "vecdot", lambda a, b: lengths.append(a.shape) or vecdot(a, b))
    x = rng.standard_normal((3, 20011))
    y = layer_norm.normalise(x, None, None, EPS, 1, np.empty_like(x))[0]
    assert set(lengths) == {(3, 3, 6670), (3, 1)}
    np.testing.assert_allclose(y, plain_normalise(x, None, None, EPS, 1)[0], rtol=1e-12, atol=1e-12)
