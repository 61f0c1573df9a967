import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import assert_layer_like_torch, torch_module

from scratchgan import backend
from scratchgan.gradcheck import check_layer
from scratchgan.layers import (
    BatchNorm1d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
    spectral_norm,
)
from scratchgan.optimizers import Adam

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


def test_an_empty_sequential_passes_on_what_comes(device, rng):
    """As PyTorch's: the same array, in its memory order."""
    net = Sequential().to(device)
    x = backend.to_device(rng.standard_normal((4, 5, 2, 3)), device).transpose(0, 3, 1, 2)
    assert net.forward(x) is x and net.backward(x) is x and net.backward(x, "input") is x
    assert net.backward(x, "params") is None


def test_a_slice_knows_its_layers():
    net = Sequential(Linear(3, 3), BatchNorm1d(3), Tanh(), Dropout(), Linear(3, 1))
    part, other = net[1:4], net[:1]
    assert list(part.state_dict()) == ["0.weight", "0.bias", *[f"0.{name}" for name in net[1].buffers]]
    assert not part.is_piecewise_linear and other.is_piecewise_linear
    part.set_step(7, 5, "part")
    part.eval()
    assert net[3]._draw[:3] == [7, "part.2.", 5] and not net[1].training and net[0].training and other.training
    assert other._draw[2] == 0  # slices share nothing but their layers
    part.train()
    before = {name: np.copy(value) for name, value in net[1].buffers.items()}
    part.twin().forward(np.eye(3, dtype=np.float32))
    assert all(np.array_equal(net[1].buffers[name], value) for name, value in before.items())


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
    assert len(net) == 2 and list(net) == layers and net[-1] is layers[1] and list(net[:1]) == layers[:1]
    assert repr(net) == "Sequential(Linear(2, 3), Tanh())"
    for index in (2, -3):
        with pytest.raises(IndexError):
            net[index]


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
    """The gradients of a second pass are those of the first, whatever memory is used again between them."""
    net = Sequential(Linear(4, 4), copy.deepcopy(inner), Linear(4, 4)).initialize(0)
    for whole in (net, copy.deepcopy(inner)):
        x, dy = rng.standard_normal((2, 3, 4)).astype(np.float32)
        whole.forward(x)
        dx, gradient = whole.backward(dy).copy(), whole.grad.copy()
        for _ in range(3):
            whole.zero_grad()
            whole.forward(x)
            assert np.array_equal(whole.backward(dy), dx) and np.array_equal(whole.grad, gradient)


# -- slices and append ---------------------------------------------------------------------------------------------


def critic():
    return Sequential(Linear(4, 5), Tanh(), Sequential(Linear(5, 6), LeakyReLU(0.2)), Linear(6, 2)).initialize(3)


@pytest.mark.parametrize("part", [slice(None), slice(0, 2), slice(1, 3), slice(-2, None), slice(3), slice(2, 2),
                                  slice(9, None)], ids=str)
def test_a_slice_has_the_same_layers_and_a_view_of_theta(device, part):
    net = critic().to(device)
    cut, layers = net[part], list(net)[part]
    assert isinstance(cut, Sequential) and list(cut) == layers and len(cut) == len(layers)
    assert all(mine is its for mine, its in zip(cut, layers, strict=True))
    assert cut.theta.size == cut.grad.size == sum(layer.theta.size for layer in layers)
    assert all(layer._owned for layer in net) and cut.device == net.device
    if cut.theta.size:
        cut.theta[...] = 7
        cut.grad[...] = 5
        assert (net.theta == 7).sum() == (net.grad == 5).sum() == cut.theta.size
        assert all((value == 7).all() for layer in layers for value in layer.parameters())
    net.theta[...] = 1
    assert (cut.theta == 1).all()


def test_slices_compute_what_the_network_computes(device, rng):
    net = critic().to(device)
    x, dy = (backend.to_device(rng.standard_normal(shape).astype(np.float32), device) for shape in ((3, 4), (3, 2)))
    y = net(x)
    net.zero_grad()
    dx, grad = net.backward(dy).copy(), net.grad.copy()
    below, above = net[:2], net[2:]
    net.zero_grad()
    assert (above(below(x)) == y).all()
    assert (below.backward(above.backward(dy)) == dx).all()
    assert (net.grad == grad).all()  # the same gradients, in the network's vector
    above.zero_grad()
    assert not backend.to_host(above.grad).any() and (below.grad == grad[:below.grad.size]).all()
    assert (net.grad[below.grad.size:] == 0).all()
    assert (net[1:][1:](net[:2](x)) == y).all()  # a slice of a slice


def test_an_optimizer_may_train_a_slice(rng):
    net, x = critic(), rng.standard_normal((3, 4)).astype(np.float32)
    before, upper = net.theta.copy(), net[2:]
    optimizer = Adam(upper, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        upper.backward(upper(net[:2](x)), "params")
        optimizer.step()
    below = net.theta.size - upper.theta.size
    assert np.array_equal(net.theta[:below], before[:below]) and not (net.theta[below:] == before[below:]).any()


def test_slices_of_twins_and_copies_of_slices():
    net, x = critic(), np.ones((2, 4), np.float32)
    twin = net.twin()
    part = twin[:2]
    assert part[0] is twin[0] and part.theta.base is not None
    part.backward(part(x))
    assert twin.grad.any() and not net.grad.any()
    clone = copy.deepcopy(net[:2])
    clone.theta[...] = 0
    assert net.theta.any() and list(clone.state_dict()) == ["0.weight", "0.bias"]
    assert Sequential(clone, Linear(5, 1)).theta.size == clone.theta.size + 6
    other = net[:2].twin()
    net.theta[...] = 0
    assert not other.theta.any()


def test_what_slices_may_not():
    net = critic()
    for part in (slice(None, None, 2), slice(None, None, -1)):
        with pytest.raises(ValueError, match="Sequential: a slice must take neighbours, not each"):
            net[part]
    with pytest.raises(ValueError, match="already belongs to a network"):
        Sequential(*net[:2])
    with pytest.raises(ValueError, match="belongs to a network"):
        net[:2].to(dtype="float64")
    with pytest.raises(ValueError, match="before a network takes this one in"):
        net[:2].append(Tanh())
    assert net[:2].train(False).training is False and not net[0].training and net[3].training


def test_append_takes_one_more_layer_in(rng):
    whole = critic()
    net = Sequential()
    for layer in critic():
        net = net.append(copy.deepcopy(layer))
    assert len(net) == 4 and list(net.state_dict()) == list(whole.state_dict())
    x = rng.standard_normal((3, 4)).astype(np.float32)
    assert np.array_equal(net(x), whole(x)) and np.array_equal(net.theta, whole.theta)
    assert net.append(spectral_norm(Linear(2, 2))) is net and net[-1].theta.size == 6
    check_layer(net, input_shape=(3, 4)).raise_if_failed()
    with pytest.raises(TypeError, match="Sequential: '5' must be a Layer, not int"):
        net.append(3)
    with pytest.raises(ValueError, match="already belongs"):
        net.append(net[0])
    assert len(net) == 5
