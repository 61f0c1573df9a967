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
