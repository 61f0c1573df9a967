import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_oracle import assert_layer_like_torch, torch_module

from scratchgan import backend, initializers
from scratchgan.gradcheck import check_layer
from scratchgan.layers import Linear

sizes = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)
leading = st.lists(st.integers(1, 4), max_size=3).map(tuple)


@given(sizes, sizes, leading, st.booleans(), seeds)
def test_every_gradient(n_in, n_out, shape, bias, seed):
    layer = Linear(n_in, n_out, bias).initialize(seed)
    check_layer(layer, input_shape=(*shape, n_in), seed=seed).raise_if_failed()


@given(sizes, sizes, leading, st.booleans(), seeds)
def test_like_torch(n_in, n_out, shape, bias, seed):
    torch = torch_module()
    x = np.random.default_rng(seed).standard_normal((*shape, n_in))
    assert_layer_like_torch(Linear(n_in, n_out, bias).initialize(seed), torch.nn.Linear(n_in, n_out, bias), x, seed)


@pytest.mark.parametrize("shape", [(5, 4), (4,), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_every_gradient_on_each_device(device, shape, bias):
    check_layer(Linear(4, 3, bias).to(device), input_shape=shape).raise_if_failed()


@pytest.mark.parametrize("shape", [(0, 4), (0, 2, 4), (2, 0, 4)])
def test_empty_batch(device, shape):
    layer = Linear(4, 3).to(device)
    x = backend.to_device(np.zeros(shape, np.float32), device)
    y = layer.forward(x)
    assert y.shape == (*shape[:-1], 3)
    assert layer.backward(y).shape == shape
    assert not backend.to_host(layer.grad).any()


def test_by_hand():
    layer = Linear(2, 1)
    layer.params["weight"][...] = [[2, 3]]
    layer.params["bias"][...] = [1]
    x = np.array([[1, 10], [0, -1]], np.float32)
    assert layer.forward(x).tolist() == [[33], [-2]]
    assert layer.backward(np.array([[1], [2]], np.float32)).tolist() == [[2, 3], [4, 6]]
    assert layer.grads["weight"].tolist() == [[1, 8]]
    assert layer.grads["bias"].tolist() == [3]


def test_matrices_come_out_by_columns():
    layer = Linear(4, 3)
    y = layer.forward(np.ones((5, 4), np.float32))
    dx = layer.backward(np.ones((5, 3), np.float32))
    assert y.flags.f_contiguous and dx.flags.f_contiguous


def test_initial_weights_are_within_pytorchs_bounds():
    layer = Linear(100, 50).initialize(0)
    for value in layer.params.values():
        assert np.abs(value).max() <= 0.1
        assert np.abs(value).max() > 0.09
    assert Linear(3, 2, weight_init=initializers.ones).params["weight"].tolist() == [[1, 1, 1]] * 2
    assert not Linear(3, 2, bias_init=initializers.zeros).params["bias"].any()


@pytest.mark.parametrize("x, error, words", [
    (np.zeros((2, 5), np.float32), ValueError, r"Linear: expected input of shape \(\.\.\., 4\), got \(2, 5\)"),
    (np.float32(1), ValueError, r"Linear: expected input of shape \(\.\.\., 4\), got \(\)"),
    (np.zeros((2, 4), np.int64), TypeError, "Linear: expected a float array, got int64"),
    (np.zeros((2, 4), np.float16), TypeError, "Linear: expected a float array, got float16"),
    (np.zeros((2, 4)), TypeError, "Linear: expected float32 input like the parameters, got float64"),
    ([[1.0] * 4], TypeError, "Linear: expected an array, got list")])
def test_wrong_input(x, error, words):
    with pytest.raises(error, match=words):
        Linear(4, 3).forward(x)


@pytest.mark.parametrize("dy, error, words", [
    (np.zeros((2, 4), np.float32), ValueError, r"Linear: dy has shape \(2, 4\), but the last output had \(2, 3\)"),
    (np.zeros((2, 3)), TypeError, "Linear: dy has dtype float64, but the last output had float32"),
    (np.zeros((2, 3), np.int64), TypeError, "Linear: dy has dtype int64"),
    ([[0.0] * 3] * 2, TypeError, "Linear: expected an array for dy, got list")])
def test_wrong_gradient(dy, error, words):
    layer = Linear(4, 3)
    layer.forward(np.zeros((2, 4), np.float32))
    with pytest.raises(error, match=words):
        layer.backward(dy)
    assert not layer.grad.any()


def test_wrong_wrt_and_backward_before_forward():
    layer = Linear(4, 3)
    with pytest.raises(RuntimeError, match="Linear: backward needs a forward pass first"):
        layer.backward(np.zeros((2, 3), np.float32))
    layer.forward(np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match='Linear: wrt must be "all", "input", "params" or "tangent", not \'x\''):
        layer.backward(np.zeros((2, 3), np.float32), "x")


@pytest.mark.parametrize("sizes", [(-1, 3), (3, 2.0), ("3", 2)])
def test_refuses_sizes_that_are_none(sizes):
    with pytest.raises(ValueError, match=r"Linear: (in|out)_features must be a whole number, 0 or more, not"):
        Linear(*sizes)
