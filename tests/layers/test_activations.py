import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch_oracle import assert_layer_like_torch, torch_module

from scratchgan import backend, kernels
from scratchgan.gradcheck import check_layer
from scratchgan.layers import LeakyReLU, ReLU, Sequential, Sigmoid, Softplus, Tanh

shapes = arrays.array_shapes(min_dims=0, max_dims=4, max_side=4)
seeds = st.integers(0, 2**32 - 1)
slopes = st.floats(-2, 3, width=32)
ACTIVATIONS = {"LeakyReLU": lambda: LeakyReLU(0.2), "ReLU": ReLU, "Tanh": Tanh, "Sigmoid": Sigmoid,
               "Softplus": Softplus, "Softplus, beta 3": lambda: Softplus(3.0, 2.0)}
every = pytest.mark.parametrize("make", ACTIVATIONS.values(), ids=ACTIVATIONS)


def draw(shape, seed):
    """Random normal numbers, the first positive: where all were negative a ReLU's gradient would be zero."""
    x = np.array(np.random.default_rng(seed).standard_normal(shape))
    x.flat[0] = abs(x.flat[0])
    return x


@every
@given(shape=shapes, seed=seeds)
def test_every_gradient(make, shape, seed):
    check_layer(make(), draw(shape, seed), seed=seed).raise_if_failed()


@given(slopes, shapes, seeds)
def test_leaky_relu_of_any_slope(slope, shape, seed):
    check_layer(LeakyReLU(slope), draw(shape, seed), seed=seed).raise_if_failed()


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0, 2.0, -0.1])
def test_leaky_relu_keeps_y_where_it_has_the_sign_of_x(slope):
    """The next layer keeps y anyway; for a negative slope only x will do."""
    layer, x = LeakyReLU(slope), np.array([-2, 3], np.float32)
    y = layer(x)
    assert layer.kept(y) is (y if slope >= 0 else x)
    assert layer.backward(np.ones_like(x)).tolist() == [np.float32(slope), 1]


@given(st.floats(0.1, 10), st.floats(0.5, 30), shapes, seeds)
def test_softplus_of_any_beta(beta, threshold, shape, seed):
    check_layer(Softplus(beta, threshold), draw(shape, seed), seed=seed).raise_if_failed()


@every
@given(shape=shapes, seed=seeds)
def test_like_torch(make, shape, seed):
    nn = torch_module().nn
    module = {LeakyReLU: lambda: nn.LeakyReLU(make().negative_slope), ReLU: nn.ReLU, Tanh: nn.Tanh,
              Sigmoid: nn.Sigmoid, Softplus: lambda: nn.Softplus(make().beta, make().threshold)}[type(make())]()
    assert_layer_like_torch(make(), module, draw(shape, seed), seed)


@given(slopes, shapes, seeds)
def test_leaky_relu_like_torch(slope, shape, seed):
    assert_layer_like_torch(LeakyReLU(slope), torch_module().nn.LeakyReLU(slope), draw(shape, seed), seed)


@every
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_every_gradient_on_each_device(device, make, shape):
    check_layer(make().to(device), draw(shape, 3), batch_of_one=False).raise_if_failed()


@every
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_empty(device, make, shape):
    layer = make().to(device)
    y = layer.forward(backend.to_device(np.zeros(shape, np.float32), device))
    assert y.shape == layer.backward(y).shape == shape


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_subgradient_at_zero(device, zero):
    for layer, slope in ((LeakyReLU(0.25), 0.25), (LeakyReLU(-3.0), -3.0), (ReLU(), 0.0)):
        layer.to(device)
        x = backend.to_device(np.full((2, 2), zero, np.float32), device)
        y = layer.forward(x)
        assert not backend.to_host(y).any()
        assert (backend.to_host(layer.backward(x + 2)) == 2 * slope).all()


def test_subgradient_at_zero_is_pytorchs():
    nn = torch_module().nn
    for layer, module in ((LeakyReLU(0.25), nn.LeakyReLU(0.25)), (ReLU(), nn.ReLU())):
        assert_layer_like_torch(layer, module, np.array([0.0, -0.0, 1.0, -1.0]))


@every
@given(x=arrays.arrays(np.float64, (3, 4), elements=st.floats(-1e4, 1e4)))
def test_any_value(make, x):
    """No overflow (which would be a warning, and an error here), and finite results, in both precisions."""
    for dtype in ("float32", "float64"):
        layer = make().to(dtype=dtype)
        y = layer.forward(x.astype(dtype))
        dx = layer.backward(np.ones_like(y))
        assert np.isfinite(y).all() and np.isfinite(dx).all()
        assert y.dtype == dx.dtype == dtype


def test_infinities():
    x = np.array([np.inf, -np.inf], np.float32)
    assert ReLU().forward(x).tolist() == [np.inf, 0]
    assert Tanh().forward(x).tolist() == [1, -1]
    assert Sigmoid().forward(x).tolist() == [1, 0]
    assert LeakyReLU(0.5).forward(x).tolist() == [np.inf, -np.inf]


def test_gradient_far_out_keeps_its_digits():
    """sigmoid' = exp(-x) to first order for large x, where 1 - y has none of it left."""
    layer = Sigmoid()
    layer.forward(np.array([40.0, -40.0]))
    np.testing.assert_allclose(layer.backward(np.ones(2)), np.exp([-40.0, -40.0]), rtol=1e-12)


finite = st.floats(-100, 100, width=32)
matrices = arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=5), elements=finite)


@given(x=matrices, slope=slopes | st.floats(-1e9, 1e9, width=32), order=st.sampled_from("CF"))
def test_fast_leaky_relu_is_the_plain_one_for_any_slope(x, slope, order):
    """To the bit, in both memory orders: also where 1 - slope would not round back."""
    x, slope = np.asarray(x, order=order), np.float32(slope)
    dy = np.roll(x, 1) + 1
    y = kernels.of(x).leaky_relu(x, slope)
    assert np.array_equal(y, np.where(x > 0, x, slope * x))
    assert y.flags.f_contiguous == x.flags.f_contiguous
    assert np.array_equal(kernels.of(x).leaky_relu_grad(dy, x, slope), np.where(x > 0, dy, slope * dy))


def test_a_real_gradient_through_a_complex_pass(device):
    """The derivative of tanh at a complex point is complex, whatever dy is."""
    x = backend.to_device(np.array([0.5 + 1j * 2.0**-100]), device)
    twin = Tanh().to(device).twin("complex128")
    twin.forward(x)
    dx = backend.to_host(twin.backward(backend.to_device(np.ones(1), device)))
    y = np.tanh(0.5)
    np.testing.assert_allclose(dx.imag * 2.0**100, -2 * y * (1 - y * y), rtol=1e-14)


def test_names():
    net = Sequential(LeakyReLU(0.1), ReLU(), Tanh(), Sigmoid(), Softplus())
    assert repr(net) == "Sequential(LeakyReLU(negative_slope=0.1), ReLU(), Tanh(), Sigmoid(), Softplus())"


@every
def test_wrong_gradient_names_the_layer(make):
    layer = make()
    name = type(layer).__name__
    with pytest.raises(RuntimeError, match=f"{name}: backward needs a forward pass"):
        layer.backward(np.zeros(3, np.float32))
    layer.forward(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=rf"{name}: dy has shape \(4,\), but the last output had \(3,\)"):
        layer.backward(np.zeros(4, np.float32))
    with pytest.raises(TypeError, match=f"{name}: dy has dtype float64"):
        layer.backward(np.zeros(3))
    with pytest.raises(ValueError, match=f"{name}: wrt must be"):
        layer.backward(np.zeros(3, np.float32), "weights")
    with pytest.raises(TypeError, match=f"{name}: expected a float array, got int64"):
        layer.forward(np.zeros(3, np.int64))


@pytest.mark.parametrize("plain", [True, False])
def test_minus_infinity_becomes_zero(plain, device):
    x = backend.to_device(np.array([-np.inf, -1, np.inf, np.nan], np.float32), device)
    with kernels.plain(plain):
        y = backend.to_host(ReLU()(x))
    assert np.array_equal(y, np.array([0, 0, np.inf, np.nan], np.float32), equal_nan=True)


def test_refuses_a_slope_that_is_no_number():
    with pytest.raises(ValueError, match="LeakyReLU: negative_slope must be a finite number, not nan"):
        LeakyReLU(np.nan)
