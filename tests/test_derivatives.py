import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgan import backend, kernels
from scratchgan.derivatives import directional_derivative, gradient_derivative
from scratchgan.layers import Dropout, LeakyReLU, Linear, Sequential, Softplus, Tanh

TOLERANCE = {np.dtype("float64"): 1e-12, np.dtype("float32"): 1e-5}


def critic(dtype, device="cpu", last=True):
    layers = [Linear(3, 6), Tanh(), Linear(6, 5), LeakyReLU(0.2), Linear(5, 4), Softplus(), Linear(4, 1)]
    return Sequential(*layers[:None if last else -1]).initialize(5).to(device, dtype)


def draw(rng, shape, dtype, device="cpu"):
    return backend.to_device(rng.standard_normal(shape).astype(dtype), device)


def error(a, b):
    return np.abs(backend.to_host(a) - backend.to_host(b)).max() / np.abs(backend.to_host(b)).max()


@given(st.floats(-3, 3), st.floats(-1e6, 1e6), st.sampled_from(["float32", "float64"]))
def test_of_a_function_with_a_known_derivative(x, length, dtype):
    x, v = np.array([x, 1.0], dtype), np.array([length, 2.0], dtype)
    got = directional_derivative(lambda z: np.exp(z) * np.sin(z), x, v)
    expected = np.exp(x) * (np.sin(x) + np.cos(x)) * v
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=0, atol=4 * np.finfo(dtype).eps * max(60, abs(60 * length)))


def test_is_exact_where_differences_lose_half_their_digits():
    """Squire and Trapp's example: exp(x) / (sin(x)^3 + cos(x)^3) at 1.5."""
    x = np.array(1.5)
    got = directional_derivative(lambda z: np.exp(z) / (np.sin(z) ** 3 + np.cos(z) ** 3), x, np.array(1.0))
    s, c = np.sin(1.5), np.cos(1.5)
    expected = np.exp(1.5) * (s**3 + c**3 - 3 * s * c * (s - c)) / (s**3 + c**3) ** 2
    assert abs(got / expected - 1) < 1e-14


def test_no_direction_no_derivative(device):
    x = backend.to_device(np.ones((2, 3), np.float32), device)
    assert not backend.to_host(directional_derivative(kernels.sigmoid, x, 0 * x)).any()
    net = critic("float32", device)
    assert not backend.to_host(gradient_derivative(net, x, backend.to_device(np.ones((2, 1), np.float32), device),
                                                   0 * x)).any()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"the direction has shape \(2,\), but the point has \(3,\)"):
        directional_derivative(np.exp, np.ones(3), np.ones(2))
    assert directional_derivative(np.exp, np.ones((0, 3)), np.ones((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_second_order_products_are_central_differences_of_the_gradient(device, rng, dtype):
    net, exact = critic(dtype, device), critic("float64", device)
    x, v = draw(rng, (4, 3), dtype, device), draw(rng, (4, 3), dtype, device)
    dy = draw(rng, (4, 1), dtype, device)
    def gradients(t):
        exact.forward(x.astype("float64") + t * v.astype("float64"))
        exact.zero_grad()
        dx = exact.backward(dy.astype("float64"))
        return dx, exact.grad.copy()
    h = 1e-5
    expected = [(above - below) / (2 * h) for above, below in zip(gradients(h), gradients(-h), strict=True)]
    got = gradient_derivative(net, x, dy, v, wrt="all")
    for value, difference in zip(got, expected, strict=True):
        assert value.dtype == dtype
        assert error(value, difference) < (1e-8 if dtype == "float64" else 1e-5)
    assert np.array_equal(*map(backend.to_host, (gradient_derivative(net, x, dy, v, "input"), got[0])))
    assert np.array_equal(*map(backend.to_host, (gradient_derivative(net, x, dy, v, "params"), got[1])))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradient_penalty_is_double_backward_in_torch(rng, dtype):
    """The parameter gradient of E (|dC/dx| - 1)^2, second-order terms and all."""
    torch = pytest.importorskip("torch", reason="PyTorch, the third oracle, is not installed")
    nn, kind = torch.nn, getattr(torch, dtype)
    net = critic(dtype)
    module = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5), nn.LeakyReLU(0.2), nn.Linear(5, 4),
                           nn.Softplus(), nn.Linear(4, 1)).to(kind)
    module.load_state_dict({key: torch.from_numpy(value) for key, value in net.state_dict().items()})
    x, dy = draw(rng, (4, 3), dtype), np.ones((4, 1), dtype)

    t = torch.tensor(x, requires_grad=True)
    (slope,) = torch.autograd.grad(module(t).sum(), t, create_graph=True)
    penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
    parameters = list(module.parameters())
    expected = torch.autograd.grad(penalty, parameters, allow_unused=True)
    expected = np.concatenate([(torch.zeros_like(p) if g is None else g).numpy().ravel()
                               for p, g in zip(parameters, expected, strict=True)])

    net.forward(x)
    slope = net.backward(dy, "input")
    norm = np.sqrt((slope**2).sum(axis=1, keepdims=True))
    v = 2 * (norm - 1) / norm * slope / len(x)  # d penalty / d slope
    assert error(gradient_derivative(net, x, dy, v), expected) < TOLERANCE[np.dtype(dtype)]


def test_dy_may_depend_on_the_output(rng):
    """With dy = y the scalar is sum(y^2) / 2, whose second derivatives have a term more; torch as the oracle."""
    torch = pytest.importorskip("torch", reason="PyTorch, the third oracle, is not installed")
    net = Sequential(Linear(3, 4), Tanh()).initialize(1).to(dtype="float64")
    x, v = draw(rng, (2, 3), "float64"), draw(rng, (2, 3), "float64")
    weight, bias = (torch.tensor(value) for value in net.state_dict().values())
    t = torch.tensor(x, requires_grad=True)
    (slope,) = torch.autograd.grad((torch.tanh(t @ weight.T + bias) ** 2).sum() / 2, t, create_graph=True)
    (expected,) = torch.autograd.grad((slope * torch.tensor(v)).sum(), t)
    assert error(gradient_derivative(net, x, lambda y: y, v, "input"), expected.numpy()) < 1e-13


def test_a_last_layer_that_is_not_linear_and_a_real_dy(rng):
    """The complex gradient must survive a real dy at a tanh output."""
    net = Sequential(Linear(3, 2), Tanh()).initialize(0).to(dtype="float64")
    x, v, dy = draw(rng, (2, 3), "float64"), draw(rng, (2, 3), "float64"), draw(rng, (2, 2), "float64")
    y = net.forward(x)
    weight = net[0].params["weight"]
    expected = (dy * -2 * y * (1 - y * y) * (v @ weight.T)) @ weight
    assert error(gradient_derivative(net, x, dy, v, "input"), expected) < 1e-13


def test_the_network_stays_as_it_is(rng):
    net = critic("float64")
    x, dy = draw(rng, (4, 3), "float64"), draw(rng, (4, 1), "float64")
    net.forward(x)
    net.zero_grad()
    dx = net.backward(dy)
    grad, theta = net.grad.copy(), net.theta.copy()
    gradient_derivative(net, 2 * x, dy, x)
    assert np.array_equal(net.grad, grad) and np.array_equal(net.theta, theta)
    net.zero_grad()
    assert np.array_equal(net.backward(dy), dx) and np.array_equal(net.grad, grad)


def test_a_twin_may_be_used_again(rng):
    net = critic("float64")
    twin = net.twin("complex128")
    x, dy, v = draw(rng, (4, 3), "float64"), draw(rng, (4, 1), "float64"), draw(rng, (4, 3), "float64")
    expected = gradient_derivative(net, x, dy, v)
    for _ in range(2):
        assert np.array_equal(gradient_derivative(net, x, dy, v, twin=twin), expected)


def test_masks_are_the_ones_that_set_step_says(rng):
    net = Sequential(Linear(3, 40), Dropout(0.5), Softplus(), Linear(40, 1)).initialize(0).to(dtype="float64")
    x, dy, v = draw(rng, (2, 3), "float64"), draw(rng, (2, 1), "float64"), draw(rng, (2, 3), "float64")
    def slope(t):
        net.set_step(3, 1)
        net.forward(x + t * v)
        return net.backward(dy, "input").copy()
    expected = (slope(1e-5) - slope(-1e-5)) / 2e-5
    net.set_step(3, 1)
    assert error(gradient_derivative(net, x, dy, v, "input"), expected) < 1e-8
