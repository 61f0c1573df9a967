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
def test_every_gradient_of_samples(case, options, seed):
    shape, axes = case
    layer = drawn(LayerNorm(shape[-axes:], **options), seed)
    check_layer(layer, input_shape=shape, seed=seed, batch_of_one=len(shape) > axes).raise_if_failed()


@given(samples(values=2), layer_options, seeds)
def test_samples_like_torch(case, options, seed):
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


def test_samples_like_torch_in_float32():
    torch = torch_module()
    assert_layer_like_torch(LayerNorm((4, 5)), torch.nn.LayerNorm((4, 5)), np.random.default_rng(0).normal(
        2, 1, (6, 4, 5)))


@pytest.mark.parametrize("layer, shape", [(LayerNorm(4), (3, 4)), (LayerNorm((3, 2), bias=False), (2, 2, 3, 2)),
                                          (LayerNorm(5, elementwise_affine=False), (5,))])
def test_every_gradient_of_samples_on_each_device(device, layer, shape):
    check_layer(copy.deepcopy(layer).to(device), input_shape=shape, batch_of_one=len(shape) > 1).raise_if_failed()


def test_an_empty_batch_of_samples(device):
    layer = LayerNorm(3).to(device)
    y = layer.forward(backend.to_device(np.zeros((0, 3), np.float32), device))
    assert y.shape == layer.backward(y).shape == (0, 3)
    assert not backend.to_host(layer.grad).any()


def test_samples_far_from_zero_keep_their_digits(device, rng):
    x = rng.normal(1e3, 1, (8, 500)).astype(np.float32)
    wide = x.astype(np.float64)
    d = wide - wide.mean(axis=1, keepdims=True)
    expected = d / np.sqrt((d * d).mean(axis=1, keepdims=True) + 1e-5)
    y = backend.to_host(LayerNorm(500).to(device).forward(backend.to_device(x, device)))
    assert y.dtype == np.float32
    assert np.abs(y - expected).max() < 2e-6


def test_refusals_of_samples():
    for shape in ((4, 2), (), (2, 3, 1)):
        with pytest.raises(ValueError, match=r"LayerNorm: expected input of shape \(\.\.\., 3\)"):
            LayerNorm(3).forward(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"LayerNorm: expected input of shape \(\.\.\., 2, 3\), got \(3,\)"):
        LayerNorm((2, 3)).forward(np.zeros(3, np.float32))
    assert repr(LayerNorm(3, bias=False)) == "LayerNorm((3,), bias=False)"
    assert repr(LayerNorm((2, 3), 0.1, False)) == "LayerNorm((2, 3), eps=0.1, elementwise_affine=False)"
