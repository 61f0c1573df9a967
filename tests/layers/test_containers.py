import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import assert_layer_like_torch, torch_module

from scratchgan import backend
from scratchgan.gradcheck import check_layer
from scratchgan.layers import Flatten, Layer, LeakyReLU, Linear, Reshape, Sequential, Sigmoid, Tanh

seeds = st.integers(0, 2**32 - 1)


class Recorder(Layer):
    """Passes everything on and remembers with which `wrt` it was asked."""

    def forward(self, x):
        return x.copy()

    def backward(self, dy, wrt="all"):
        self.asked = wrt
        return None if wrt == "params" else dy.copy()


def nested():
    return Sequential(Linear(4, 5), LeakyReLU(0.2), Sequential(Linear(5, 6), Sequential(Tanh()), Reshape(2, 3)),
                      Sequential(), Flatten(), Linear(6, 2, bias=False), Sigmoid())


@settings(max_examples=8)
@given(seeds)
def test_every_gradient(seed):
    check_layer(nested().initialize(seed), input_shape=(3, 4), seed=seed).raise_if_failed()


def test_every_gradient_on_each_device(device):
    check_layer(Sequential(Linear(3, 2), Sequential(Tanh())).to(device), input_shape=(2, 3)).raise_if_failed()


@given(seeds)
def test_like_torch(seed):
    nn = torch_module().nn
    module = nn.Sequential(nn.Linear(4, 5), nn.LeakyReLU(0.2),
                           nn.Sequential(nn.Linear(5, 6), nn.Sequential(nn.Tanh()), nn.Unflatten(1, (2, 3))),
                           nn.Sequential(), nn.Flatten(), nn.Linear(6, 2, bias=False), nn.Sigmoid())
    x = np.random.default_rng(seed).standard_normal((3, 4))
    assert_layer_like_torch(nested().initialize(seed), module, x, seed)


def test_keys_and_order():
    net = nested()
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.0.weight", "2.0.bias", "5.weight"]
    flat = np.concatenate([value.ravel() for value in net.state_dict().values()])
    assert np.array_equal(net.theta, flat)


def test_empty_sequential_gives_a_copy(device):
    net = Sequential().to(device)
    x = backend.to_device(np.ones((2, 3), np.float32), device)
    y, dx = net.forward(x), net.backward(x)
    y += 1
    dx += 1
    assert (backend.to_host(x) == 1).all()
    assert net.backward(x, "params") is None


def test_asks_only_for_what_is_needed():
    first, last = Recorder(), Recorder()
    net = Sequential(first, Linear(2, 2), Recorder(), Linear(2, 2), last)
    x = np.ones((3, 2), np.float32)
    net.forward(x)
    net.backward(x, "params")
    assert not hasattr(first, "asked") and last.asked == "all"
    assert net.backward(x, "input") is not None and first.asked == last.asked == "input"
    net.backward(x)
    assert first.asked == last.asked == "all"


@pytest.mark.parametrize("net", [Sequential(), Sequential(Tanh()), Sequential(Linear(2, 2), Tanh())], ids=repr)
def test_wrong_wrt(net):
    x = np.ones((3, 2), np.float32)
    net.forward(x)
    with pytest.raises(ValueError, match="wrt must be"):
        net.backward(x, "weights")


def test_like_a_list():
    layers = [Linear(2, 3), Tanh()]
    net = Sequential(*layers)
    assert len(net) == 2 and list(net) == layers and net[-1] is layers[1] and net[:1] == layers[:1]
    assert repr(net) == "Sequential(Linear(2, 3), Tanh())"


def test_only_layers():
    with pytest.raises(TypeError, match="Sequential: '1' must be a Layer, not function"):
        Sequential(Tanh(), lambda x: x)


class Sum(Layer):
    """y = f(x) + g(x) + x."""

    def __init__(self, f, g):
        super().__init__()
        self.add_layer("f", f)
        self.add_layer("g", g)

    def forward(self, x):
        return self.layers["f"].forward(x) + self.layers["g"].forward(x) + x

    def backward(self, dy, wrt="all"):
        through_f, through_g = (layer.backward(dy, wrt) for layer in self.layers.values())
        return None if wrt == "params" else through_f + through_g + dy


class Skip(Sequential):
    """y = x + what the layers make of x."""

    def forward(self, x):
        return x + super().forward(x)

    def backward(self, dy, wrt="all"):
        dx = super().backward(dy, wrt)
        return None if wrt == "params" else dy + dx


@pytest.mark.parametrize("inner", [
    Sum(Linear(4, 4), Tanh()), Sum(Sequential(Linear(4, 4), Tanh()), Sequential(Linear(4, 4), Tanh(), Linear(4, 4))),
    Skip(Linear(4, 4)), Skip(Linear(4, 4), Tanh()), Skip(Linear(4, 4), Skip(Tanh(), Linear(4, 4)), Tanh()),
    Sum(Skip(Linear(4, 4), Tanh()), Sum(Tanh(), Linear(4, 4))), Sequential(Linear(4, 4), Tanh())], ids=repr)
def test_a_container_may_hold_gradients_while_its_layers_make_theirs(rng, inner):
    """Inside a workspace too, where layers lend each other memory."""
    net = Sequential(Linear(4, 4), copy.deepcopy(inner), Linear(4, 4)).initialize(0)
    for whole in (net, copy.deepcopy(inner)):
        x, dy = rng.standard_normal((2, 3, 4)).astype(np.float32)
        whole.forward(x)
        dx, gradient = whole.backward(dy), whole.grad.copy()
        with whole.workspace():
            for _ in range(3):
                whole.zero_grad()
                whole.forward(x)
                assert np.array_equal(whole.backward(dy), dx) and np.array_equal(whole.grad, gradient)


def test_an_empty_chain_keeps_the_memory_order(device, rng):
    x = backend.to_device(rng.standard_normal((4, 5, 2, 3)), device).transpose(0, 3, 1, 2)
    net = Sequential().to(device)
    for result in (net.forward(x), net.backward(x)):
        assert result is not x and result.transpose(0, 2, 3, 1).flags.c_contiguous and (result == x).all()
