import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgan import backend, kernels
from scratchgan.gradcheck import check_layer
from scratchgan.layers import Maxout

sizes = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)


@given(sizes, sizes, sizes, st.lists(st.integers(1, 3), max_size=2).map(tuple), seeds)
def test_every_gradient(n_in, n_out, pieces, shape, seed):
    layer = Maxout(n_in, n_out, pieces).initialize(seed)
    check_layer(layer, input_shape=(*shape, n_in), seed=seed).raise_if_failed()


@pytest.mark.parametrize("shape", [(3, 4), (4,), (2, 2, 4)])
def test_every_gradient_on_each_device(device, shape):
    check_layer(Maxout(4, 2, 3).to(device), input_shape=shape).raise_if_failed()


@given(sizes, sizes, st.integers(2, 4), seeds)
def test_like_torch(n_in, n_out, pieces, seed):
    """Against the same thing spelt out: PyTorch's linear layer and its maximum over the pieces."""
    torch = pytest.importorskip("torch", reason="PyTorch, the third oracle, is not installed")
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((5, n_in)), rng.standard_normal((5, n_out))
    layer = Maxout(n_in, n_out, pieces).initialize(seed).to(dtype="float64")
    weight, bias = (torch.tensor(layer.state_dict()[f"linear.{key}"], requires_grad=True) for key in ("weight", "bias"))
    t = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.linear(t, weight, bias).reshape(5, n_out, pieces).amax(-1)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(layer.forward(x), expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(layer.backward(dy), t.grad.numpy(), rtol=1e-12)
    grads = layer.layers["linear"].grads
    np.testing.assert_allclose(grads["weight"], weight.grad.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(grads["bias"], bias.grad.numpy(), rtol=0, atol=1e-12)


def test_of_equal_pieces_the_first_gets_the_gradient(device):
    layer = Maxout(1, 2, 3)
    layer.theta[...] = [1, 1, 1, 0, 2, 2, 0, 0, 0, 0, 0, 0]  # weights of two groups of three pieces, then biases
    layer.to(device)
    y = layer.forward(backend.to_device(np.array([[1.0]], np.float32), device))
    assert y.tolist() == [[1, 2]]
    layer.backward(backend.to_device(np.array([[5, 7]], np.float32), device))
    linear = layer.layers["linear"]
    assert linear.grads["bias"].tolist() == [5, 0, 0, 0, 7, 0]
    assert linear.grads["weight"].tolist() == [[5], [0], [0], [0], [7], [0]]


def test_empty_batch(device):
    layer = Maxout(4, 2, 3).to(device)
    y = layer.forward(backend.to_device(np.zeros((0, 4), np.float32), device))
    assert y.shape == (0, 2)
    assert layer.backward(y).shape == (0, 4)


def test_wrong_gradient_names_the_layer():
    layer = Maxout(4, 2, 3)
    layer.forward(np.zeros((5, 4), np.float32))
    with pytest.raises(ValueError, match=r"Maxout: dy has shape \(5, 6\), but the last output had \(5, 2\)"):
        layer.backward(np.zeros((5, 6), np.float32))
    with pytest.raises(TypeError, match="Maxout: dy has dtype float64, but the last output had float32"):
        layer.backward(np.zeros((5, 2)))
    with pytest.raises(TypeError, match="Maxout: expected an array for dy, got list"):
        layer.backward([[0.0] * 2] * 5)


def test_the_faster_maximum_is_the_formulas(device, rng):
    """To the bit, in either memory order, among equals and with NaN."""
    for z in (rng.standard_normal((6, 12)), np.asfortranarray(rng.standard_normal((6, 12))), np.zeros((6, 12)),
              np.full((6, 12), np.nan), np.array([[np.nan] * 12, [0.0] * 6 + [1, 2, 3, 4, 5, 5]])):
        z = backend.to_device(z.astype(np.float32), device).reshape(-1, 4, 3)
        found = []
        for functions in (kernels.of(z), kernels.FORMULAS):
            y, won = functions.maxout(z)
            found.append((y, won, functions.maxout_grad(backend.array_module(y).ones_like(y), won)))
        for got, expected in zip(*found):
            np.testing.assert_array_equal(backend.to_host(got), backend.to_host(expected))
