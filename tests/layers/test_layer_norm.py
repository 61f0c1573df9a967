"""LayerNorm."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_oracle import assert_close, assert_layer_like_torch, torch_module

from scratchgan import backend
from scratchgan.gradcheck import check_layer
from scratchgan.layers import LayerNorm

seeds = st.integers(0, 2**32 - 1)
layer_options = st.fixed_dictionaries({
    "eps": st.sampled_from([1e-5, 0.1]), "elementwise_affine": st.booleans(), "bias": st.booleans()})


@st.composite
def samples(draw, values=1):
    """(shape, number of its last axes that are normalised over), with at least so many values in those."""
    shape = *draw(st.lists(st.integers(1, 3), max_size=2)), *draw(st.lists(st.integers(1, 3), max_size=2))
    last = draw(st.integers(values, values + 3))
    return (*shape, last), draw(st.integers(1, len(shape) + 1))


def drawn(layer, seed):
    """The layer, its weights drawn."""
    rng = np.random.default_rng(seed)
    for value in layer.params.values():
        value[...] = rng.uniform(0.5, 2, value.shape) * rng.choice([-1, 1])
    return layer


@given(samples(values=3), layer_options, seeds)
def test_every_gradient(case, options, seed):
    shape, axes = case
    layer = drawn(LayerNorm(shape[-axes:], **options), seed)
    check_layer(layer, input_shape=shape, seed=seed, batch_of_one=len(shape) > axes).raise_if_failed()


@given(samples(values=2), layer_options, seeds)
def test_like_torch(case, options, seed):
    shape, axes = case
    torch, rng = torch_module(), np.random.default_rng(seed)
    layer = drawn(LayerNorm(shape[-axes:], **options), seed).to(dtype="float64")
    theirs = torch.nn.LayerNorm(shape[-axes:], **options).double()
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in layer.state_dict().items()}, strict=True)
    x, dy = rng.normal(3, 2, shape), rng.standard_normal(shape)
    t = torch.tensor(x, requires_grad=True)
    y, yt = layer.forward(x), theirs(t)
    yt.backward(torch.tensor(dy))
    assert_close(y, yt, 1e-9, "y")
    assert_close(layer.backward(dy), t.grad, 1e-9, "dx")
    for name, parameter in theirs.named_parameters():
        assert_close(layer.grads[name], parameter.grad, 1e-9, name)


def test_like_torch_in_float32():
    torch = torch_module()
    assert_layer_like_torch(LayerNorm((4, 5)), torch.nn.LayerNorm((4, 5)), np.random.default_rng(0).normal(
        2, 1, (6, 4, 5)))


@pytest.mark.parametrize("layer, shape", [(LayerNorm(4), (3, 4)), (LayerNorm((3, 2), bias=False), (2, 2, 3, 2)),
                                          (LayerNorm(5, elementwise_affine=False), (5,))])
def test_every_gradient_on_each_device(device, layer, shape):
    check_layer(copy.deepcopy(layer).to(device), input_shape=shape, batch_of_one=len(shape) > 1).raise_if_failed()


def test_an_empty_batch(device):
    layer = LayerNorm(3).to(device)
    y = layer.forward(backend.to_device(np.zeros((0, 3), np.float32), device))
    assert y.shape == layer.backward(y).shape == (0, 3)
    assert not backend.to_host(layer.grad).any()


# -- digits and memory ---------------------------------------------------------------------------------------------


def stored(array, axes):
    """The same values in memory that holds the axes in this order."""
    return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))


def by_the_formula(x, dy, weight, bias, axes):
    """(y, dx, dweight, dbias) in float64."""
    over, samples = tuple(range(x.ndim - axes, x.ndim)), tuple(range(x.ndim - axes))
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    d = x - x.mean(axis=over, keepdims=True)
    r = 1 / np.sqrt((d * d).mean(axis=over, keepdims=True) + 1e-5)
    xhat, g = d * r, dy * weight
    dx = r * (g - g.mean(axis=over, keepdims=True) - xhat * (g * xhat).mean(axis=over, keepdims=True))
    return xhat * weight + bias, dx, (dy * xhat).sum(axis=samples), dy.sum(axis=samples)


@given(st.permutations(range(4)), st.permutations(range(4)), st.integers(1, 3), st.booleans())
def test_any_memory_order(order, order_of_dy, axes, gaps):
    rng = np.random.default_rng(0)
    x, dy = (stored(a, o) for a, o in zip(rng.standard_normal((2, 2, 6, 3, 4)), (order, order_of_dy)))
    x, dy = x[:, ::2] if gaps else x[:, :3], dy[:, :3]
    layer = drawn(LayerNorm((2, 3, 3, 4)[-axes:]).to(dtype="float64"), 0)
    got = layer.forward(x), layer.backward(dy), *layer.grads.values()
    for ours, theirs in zip(got, by_the_formula(x, dy, *layer.params.values(), axes), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_samples_far_from_zero_keep_their_digits(device, rng, axes):
    x = rng.standard_normal((6, 500)).astype(np.float32)
    x += np.array([[0], [1e3], [-1e4], [3.9], [4.1], [1e7]], np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    y0, dx0, *_ = by_the_formula(x, dy, 1, 0, 1)
    layer = LayerNorm(500).to(device)
    y = backend.to_host(layer.forward(backend.to_device(stored(x, axes), device)))
    dx = backend.to_host(layer.backward(backend.to_device(stored(dy, axes), device)))
    assert y.dtype == dx.dtype == np.float32
    assert np.abs(y - y0).max() < 2e-6
    assert (np.abs(dx - dx0).max(axis=1) < 4e-6 * np.abs(dx0).max(axis=1)).all()


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_a_sample_does_not_see_those_beside_it(rng, axes):
    """To the bit, be those near or far, infinite or not numbers."""
    x, layer = stored(rng.standard_normal((4, 300)).astype(np.float32), axes), LayerNorm(300)
    alone = layer.forward(x).copy()
    x[1], x[2, 0] = x[1] + 1e4, np.nan
    with np.errstate(invalid="ignore"):
        x[3, 5] = np.inf
        beside = layer.forward(x)
    assert np.array_equal(alone[0], beside[0]) and np.isfinite(beside[1]).all()
    assert np.isnan(beside[2:]).any(axis=1).all()


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_constant_and_huge_samples(axes):
    """No warning (an error here) where only the mean's square overflows; no NaN from a variance of zero."""
    x = stored(np.repeat(np.geomspace(1e7, 1e9, 400, dtype=np.float32)[:, None], 300, axis=1), axes)
    assert np.isfinite(LayerNorm(300, 1e-20).forward(x)).all()
    x = stored(np.array([[0] * 9, [1e8] * 9, [0.1] * 9, [3e19] * 8 + [3.0001e19]], np.float32), axes)
    layer = LayerNorm(9)
    y = layer.forward(x)
    assert np.abs(y[:3]).max() < 1e-3
    assert np.allclose(y[3], [-8**-0.5] * 8 + [8**0.5], atol=1e-3)
    assert np.isfinite(layer.backward(np.ones_like(x))).all()


# -- refusals ------------------------------------------------------------------------------------------------------


def test_refusals():
    for shape in ((4, 2), (), (2, 3, 1)):
        with pytest.raises(ValueError, match=r"LayerNorm: expected input of shape \(\.\.\., 3\)"):
            LayerNorm(3).forward(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"LayerNorm: expected input of shape \(\.\.\., 2, 3\), got \(3,\)"):
        LayerNorm((2, 3)).forward(np.zeros(3, np.float32))
    assert repr(LayerNorm(3, bias=False)) == "LayerNorm((3,), bias=False)"
    assert repr(LayerNorm((2, 3), 0.1, False)) == "LayerNorm((2, 3), eps=0.1, elementwise_affine=False)"
