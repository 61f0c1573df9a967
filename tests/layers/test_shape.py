import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch_oracle import assert_layer_like_torch, torch_module

from scratchgan import backend
from scratchgan.gradcheck import check_layer
from scratchgan.layers import Flatten, Reshape, Unflatten

seeds = st.integers(0, 2**32 - 1)
shapes = arrays.array_shapes(min_dims=1, max_dims=4, max_side=3)


@st.composite
def flattenings(draw):
    shape = draw(shapes)
    start = draw(st.integers(0, len(shape) - 1))
    end = draw(st.integers(start, len(shape) - 1))
    negative = [draw(st.booleans()) for _ in range(2)]
    return shape, start - len(shape) * negative[0], end - len(shape) * negative[1]


@st.composite
def unflattenings(draw):
    """(input shape, dim, sizes): one size may be -1."""
    sizes = list(draw(shapes))
    shape = [*draw(st.lists(st.integers(1, 3), max_size=2)), math.prod(sizes),
             *draw(st.lists(st.integers(1, 3), max_size=1))]
    dim = draw(st.integers(0, len(shape) - 1))
    shape[dim] = math.prod(sizes)
    if draw(st.booleans()):
        sizes[draw(st.integers(0, len(sizes) - 1))] = -1
    return tuple(shape), dim - len(shape) * draw(st.booleans()), tuple(sizes)


@given(flattenings(), seeds)
def test_flatten(case, seed):
    shape, start, end = case
    check_layer(Flatten(start, end), input_shape=shape, seed=seed).raise_if_failed()


@given(flattenings(), seeds)
def test_flatten_like_torch(case, seed):
    shape, start, end = case
    x = np.random.default_rng(seed).standard_normal(shape)
    assert_layer_like_torch(Flatten(start, end), torch_module().nn.Flatten(start, end), x, seed)


@given(unflattenings(), seeds)
def test_unflatten(case, seed):
    shape, dim, sizes = case
    batched = dim % len(shape) > 0
    check_layer(Unflatten(dim, sizes), input_shape=shape, seed=seed, batch_of_one=batched).raise_if_failed()


@given(unflattenings(), seeds)
def test_unflatten_like_torch(case, seed):
    shape, dim, sizes = case
    x = np.random.default_rng(seed).standard_normal(shape)
    assert_layer_like_torch(Unflatten(dim, sizes), torch_module().nn.Unflatten(dim, sizes), x, seed)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 3), seeds)
def test_reshape(sizes, n, seed):
    x = np.random.default_rng(seed).standard_normal((n, math.prod(sizes)))
    layer = Reshape(*sizes)
    assert np.array_equal(layer.forward(x), x.reshape(n, *sizes))
    check_layer(layer, x, seed=seed).raise_if_failed()
    check_layer(Reshape(*sizes[:-1], -1), x, seed=seed).raise_if_failed()


@pytest.mark.parametrize("layer, shape", [(Flatten(), (2, 3, 2)), (Unflatten(1, (3, -1)), (2, 6)),
                                          (Reshape(2, 3), (2, 6))], ids=repr)
def test_every_gradient_on_each_device(device, layer, shape):
    check_layer(layer.to(device), input_shape=shape).raise_if_failed()


@pytest.mark.parametrize("layer, shape, out", [(Flatten(), (0, 3, 2), (0, 6)),
                                               (Unflatten(1, (3, -1)), (0, 6), (0, 3, 2)),
                                               (Reshape(2, -1), (0, 6), (0, 2, 3))], ids=repr)
def test_empty_batch(device, layer, shape, out):
    layer.to(device)
    y = layer.forward(backend.to_device(np.zeros(shape, np.float32), device))
    assert y.shape == out
    assert layer.backward(y).shape == shape


@pytest.mark.parametrize("layer, shape", [(Flatten(), (2, 3, 2)), (Unflatten(1, (3, -1)), (2, 6)),
                                          (Reshape(2, 3), (2, 6))],
                         ids=repr)
def test_results_are_views_where_memory_allows(device, layer, shape):
    """As PyTorch's: nothing is copied, and only columns in another order are."""
    layer.to(device)
    x = backend.to_device(np.arange(12, dtype=np.float32).reshape(shape), device)
    share = backend.array_module(x).may_share_memory
    y = layer(x)
    assert share(y, x) and share(layer.backward(y), y)
    turned = layer(backend.array_module(x).asfortranarray(x))
    assert (turned == y).all()


def test_flatten_is_in_the_order_of_indices_for_any_memory_order():
    x = np.arange(12.0).reshape(2, 3, 2)
    expected = x.reshape(2, 6).tolist()
    assert Flatten().forward(np.asfortranarray(x)).tolist() == expected
    assert Flatten().forward(x[:, :, ::-1][:, :, ::-1]).tolist() == expected


@pytest.mark.parametrize("layer, shape, words", [
    (Flatten(3), (2, 3), "Flatten: dimension 3 is out of range for an input of 2 dimensions"),
    (Flatten(2, 1), (2, 3, 4), "Flatten: start_dim 2 comes after end_dim 1"),
    (Unflatten(1, (4, 2)), (2, 6), r"Unflatten: dimension 1 of size 6 does not split into \(4, 2\)"),
    (Unflatten(1, (4, -1)), (2, 6), r"does not split into \(4, -1\)"),
    (Unflatten(1, (-1, -1)), (2, 1), r"does not split into \(-1, -1\)"),
    (Unflatten(-3, (2, 3)), (2, 6), "Unflatten: dimension -3 is out of range"),
    (Reshape(4, 2), (2, 6), r"Reshape: dimension 1 of size 6 does not split into \(4, 2\)"),
    (Reshape(1), (), "Reshape: expected a batch")])
def test_wrong_shapes(layer, shape, words):
    with pytest.raises(ValueError, match=words):
        layer.forward(np.zeros(shape, np.float32))
