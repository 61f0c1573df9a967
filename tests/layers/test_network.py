"""What one does with a whole network: move it, copy it, share its weights, save and load it."""

import copy
import gc
import pickle
import sys
import weakref

import numpy as np
import pytest
from small_networks import host, network, on, one_pass, ones

from scratchgan import backend
from scratchgan.gradcheck import check_layer
from scratchgan.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Sequential,
    Tanh,
)

# -- modes, devices, dtypes ----------------------------------------------------------------------------------------


def test_train_and_eval_reach_every_layer():
    net = Sequential(Dropout(), Sequential(Dropout()))
    assert net.eval() is net and not any(layer.training for _, layer in net.named_layers())
    assert net.train() is net and all(layer.training for _, layer in net.named_layers())


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_to(device, dtype):
    net = network()
    before = net.theta.copy()
    one_pass(net, ones(net, 2, 3), ones(net, 2, 2))
    net[0].buffers.update(mean=np.ones(2, np.float32), count=np.zeros(1, np.int64))
    assert net.to(device, dtype) is net
    assert net.dtype == net.theta.dtype == net.grad.dtype == dtype and net.device == device
    assert np.array_equal(host(net.theta), before)
    assert net[0].buffers["mean"].dtype == dtype and net[0].buffers["count"].dtype == np.int64
    if (device, dtype) != ("cpu", "float32"):
        assert not host(net.grad).any()
        with pytest.raises(RuntimeError, match="needs a forward pass first"):
            net.backward(ones(net, 2, 2))
    y = net.forward(ones(net, 2, 3))
    assert y.dtype == dtype and backend.device_of(y) == device
    assert net.backward(y).dtype == dtype
    assert np.array_equal(host(net.to("cpu", "float32").theta), before)


def test_to_where_it_is_changes_nothing():
    net = network()
    part, twin = net[:1], net.twin()
    one_pass(net, ones(net, 2, 3), ones(net, 2, 2))
    before = net.grad.copy()
    net.to("cpu").to(dtype="float32").theta[...] = 3
    assert np.array_equal(net.grad, before) and (part.theta == 3).all() and (twin.theta == 3).all()
    net[0].buffers["mean"] = np.ones(2)
    assert net.to(dtype="float32")[0].buffers["mean"].dtype == np.float32


def test_a_twin_that_is_converted_has_weights_of_its_own():
    assert Sequential(network().twin().to(dtype="float64")).dtype == np.float64


def test_to_refuses_other_dtypes():
    for dtype in ("float16", "int32"):
        with pytest.raises(TypeError, match=f"dtype must be one of float32, .*, not {dtype}"):
            network().to(dtype=dtype)


def test_a_complex_network_becomes_real_again_without_a_warning():
    net = network().to(dtype="complex128")
    net.theta[...] += 1j
    assert net.to(dtype="float64").theta.dtype == np.float64


def test_batches_of_different_sizes_one_after_the_other(device, rng):
    """A small batch gets nothing from the larger one before it; a network that never saw that one is the judge."""
    def build():
        return Sequential(Conv2d(1, 9, 3, 1, 1), BatchNorm2d(9), LeakyReLU(), MaxPool2d(2),
                          Conv2d(9, 8, 4, 2, 1), BatchNorm2d(8), LeakyReLU(0.2), Dropout(0.5),
                          ConvTranspose2d(8, 3, 4, 2, 1), Tanh()).initialize(0).to(device)
    net = build()
    for step, n in enumerate((2, 5, 1, 3, 5)):
        fresh = build()
        fresh.load_state_dict(net.state_dict())
        x, dy = rng.standard_normal((n, 1, 12, 8)), rng.standard_normal((n, 3, 6, 4))
        for one in (net, fresh):
            one.set_step(0, step)
        passes = [one_pass(one, on(one, x), on(one, dy)) for one in (net, fresh)]
        assert all(np.array_equal(a, b) for a, b in zip(*passes, strict=True)), n
        assert all(np.array_equal(value, fresh.state_dict()[key]) for key, value in net.state_dict().items())


# -- copies --------------------------------------------------------------------------------------------------------


def test_deepcopy_is_independent(device):
    net = network().to(device)
    net[0].buffers["mean"] = ones(net, 2)
    x, dy = ones(net, 2, 3), ones(net, 2, 2)
    _, dx, grad = one_pass(net, x, dy)
    theta = host(net.theta)
    clone = copy.deepcopy(net)
    assert np.array_equal(host(clone.grad), grad) and np.array_equal(host(clone.theta), theta)
    clone.theta[...] = 0
    clone.grad[...] = 0
    clone[0].buffers["mean"][...] = 9
    clone.forward(0 * x)
    assert np.array_equal(host(net.theta), theta) and np.array_equal(host(net.grad), grad)
    assert (net[0].buffers["mean"] == 1).all()
    assert np.array_equal(host(net.backward(dy)), dx)  # its cache is its own, too
    with pytest.raises(RuntimeError, match="needs a forward pass"):
        copy.deepcopy(net).backward(dy)


def test_a_copied_child_belongs_to_no_network():
    net = network()
    child = copy.deepcopy(net[0])
    assert Sequential(child)[0] is child
    child.theta[...] = 0
    assert net.theta.any()


def test_a_copy_of_a_twin_is_no_twin():
    assert all(layer.is_twin for _, layer in network().twin().named_layers())
    assert not any(layer.is_twin for _, layer in copy.deepcopy(network().twin()).named_layers())


class Centre(Layer):
    """x minus a running mean, kept in a plain attribute; with a history, and counts by sign."""

    def __init__(self, start=0.0):
        super().__init__()
        self.mean = np.full(3, start, np.float32)
        self.history, self.counts, self.seen, self.pair = [], {"passes": [0]}, set(), ([], np.zeros(2))

    def forward(self, x):
        self.mean += np.float32(0.1) * (x.real.mean(axis=0) - self.mean)
        self.history.append(len(x))
        self.counts["passes"][0] += 1
        self.seen.add(len(x))
        return self.keep(x - self.mean)

    def backward(self, dy, wrt="all"):
        self.kept(dy, wrt)
        return None if wrt == "params" else dy.copy()


@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: Sequential(Linear(3, 3), layer),
                                  lambda layer: Sequential(Sequential(layer))], ids=["alone", "in a network", "deep"])
@pytest.mark.parametrize("other_of", [copy.deepcopy, Layer.twin, lambda net: net.twin("complex64"),
                                      lambda net: copy.deepcopy(net).twin()],
                         ids=["deepcopy", "twin", "complex twin", "twin of a copy"])
def test_what_a_copy_or_twin_keeps_in_attributes_is_its_own(wrap, other_of):
    one = Centre()
    net, x = wrap(one), np.ones((2, 3), np.float32)
    one.history.append("before")
    other = other_of(net)
    (its,) = [layer for _, layer in other.named_layers() if isinstance(layer, Centre)]
    assert its.history == ["before"]
    other(x)
    assert not one.mean.any() and one.history == ["before"] and one.counts == {"passes": [0]} and one.seen == set()
    net(x)
    net(x)
    assert its.history == ["before", 2] and its.counts == {"passes": [1]} and its.seen == {2}
    assert one.history == ["before", 2, 2]


class Counting(Layer):
    """Counts its training passes in a buffer that is a plain number."""

    def __init__(self):
        super().__init__()
        self.add_parameter("scale", np.full(3, 2, np.float32))
        self.buffers["count"], self.buffers["share"] = 0, 0.5

    def forward(self, x):
        self.ops(x)
        if self.training and not self.is_twin:
            self.buffers["count"] += 1
        return self.keep(x * self.params["scale"], x)

    def backward(self, dy, wrt="all"):
        x = self.kept(dy, wrt)
        if wrt != "input":
            self.accumulate("scale", (dy * x).sum(axis=0))
        return None if wrt == "params" else dy * self.params["scale"]


def test_a_buffer_may_be_a_plain_number():
    net, x = Sequential(Counting()), np.ones((2, 3), np.float32)
    clone = copy.deepcopy(net)
    net(x)
    net.twin()(x)
    assert net[0].buffers["count"] == 1 and clone[0].buffers["count"] == 0
    state = net.state_dict()
    assert state["0.count"].shape == () and state["0.count"] == 1 and state["0.share"] == 0.5
    clone.load_state_dict(state)
    clone(x)
    assert clone[0].buffers["count"] == 2 and net[0].buffers["count"] == 1
    net.to(dtype="float64")
    net(x.astype("float64"))
    assert net[0].buffers["count"] == 2 and net[0].buffers["share"] == 0.5
    check_layer(Counting(), input_shape=(4, 3)).raise_if_failed()


# -- twins ---------------------------------------------------------------------------------------------------------


def test_two_live_passes_of_one_network(device):
    net = network().to(device)
    rng = np.random.default_rng(0)
    x1, x2 = (on(net, rng.standard_normal((2, 3))) for _ in range(2))
    dy = ones(net, 2, 2)
    alone = [one_pass(copy.deepcopy(net), x, dy) for x in (x1, x2)]
    twin = net.twin()
    net.zero_grad()
    for network_, x in ((net, x1), (twin, x2)):
        network_.forward(x)
    dx2, dx1 = host(twin.backward(dy)), host(net.backward(dy))
    assert np.array_equal(dx1, alone[0][1]) and np.array_equal(dx2, alone[1][1])
    assert np.array_equal(host(net.grad), alone[0][2]) and np.array_equal(host(twin.grad), alone[1][2])


def test_a_twin_shares_theta_and_has_its_own_gradient(device):
    net = network().to(device)
    twin = net.twin()
    net.theta[...] = 0
    assert not host(twin.theta).any() and not host(twin[0].params["weight"]).any()
    twin.grad[...] = 1
    assert not host(net.grad).any()
    twin.eval()
    assert net.training


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="this Python does not count references")
def test_a_twin_goes_when_nobody_holds_it():
    """And what it keeps with it, some hundred MiB where 1,000 samples are made; the collector may not come for long."""
    net = Sequential(Conv2d(2, 3, 3), BatchNorm2d(3), Sequential(LeakyReLU(0.2), ConvTranspose2d(3, 2, 4), Tanh()))
    gc.disable()
    try:
        twin = net.twin().eval()
        twin.forward(np.ones((5, 2, 9, 9), np.float32))
        gone = [weakref.ref(layer) for _, layer in twin.named_layers()]
        del twin
        assert [layer() for layer in gone] == [None] * len(gone) and len(gone) > 3
    finally:
        gc.enable()


def test_a_twin_may_add_to_the_gradient_of_its_network(device):
    net = network().to(device)
    x, dy = ones(net, 2, 3), ones(net, 2, 2)
    *_, once = one_pass(net, x, dy)
    twin = net.twin(grad=net.grad)
    twin.forward(x)
    twin.backward(dy, "params")
    assert twin.grad is net.grad and once.any() and np.array_equal(host(net.grad), 2 * once)


class Twice(Layer):
    """y = f(f(x))."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        again = self.f.twin(grad=self.f.grad)
        return self.keep(again.forward(self.f.forward(x)), again)

    def backward(self, dy, wrt="all"):
        again = self.kept(dy, wrt)
        return self.f.backward(again.backward(dy, "all" if wrt == "params" else wrt), wrt)


def test_a_layer_applied_twice_has_the_gradient_of_both(rng):
    net = Twice(Linear(3, 3))
    check_layer(net, input_shape=(2, 3)).raise_if_failed()
    x = rng.standard_normal((2, 3)).astype(np.float32)
    found = []
    for _ in range(2):  # what was there before does not count
        y = net.forward(x)
        net.zero_grad()
        net.backward(y)
        found.append(net.grad.copy())
    assert found[0].any() and np.array_equal(*found)


def test_a_pickled_twin_is_a_network_of_its_own():
    net = pickle.loads(pickle.dumps(Sequential(BatchNorm2d(3)).twin()))
    net.forward(np.ones((5, 3, 2, 2), np.float32))
    assert net[0].buffers["num_batches_tracked"] == 1


def test_a_complex_twin_has_real_weights_and_complex_gradients(device):
    net = network().to(device)
    twin = net.twin("complex64")
    y = twin.forward(ones(net, 2, 3).astype(np.complex64))
    dx = twin.backward(y)
    assert y.dtype == dx.dtype == twin.grad.dtype == np.complex64 and twin.theta.dtype == np.float32


# -- state dicts ---------------------------------------------------------------------------------------------------


def test_state_dict_goes_round(device):
    net, other = network().to(device), network().initialize(8).to(device)
    net[0].buffers["mean"] = ones(net, 2)
    other[0].buffers["mean"] = 0 * ones(net, 2)
    state = net.state_dict()
    assert list(state) == ["0.weight", "0.bias", "0.mean", "2.0.weight"]
    assert all(isinstance(value, np.ndarray) for value in state.values())
    other.load_state_dict(state)
    assert np.array_equal(host(other.theta), host(net.theta)) and (other[0].buffers["mean"] == 1).all()
    state["0.weight"][...] = 0  # a copy
    assert host(net[0].params["weight"]).any() and host(other[0].params["weight"]).any()


def test_load_state_dict_converts_the_precision():
    net = network().to(dtype="float64")
    net.load_state_dict(network().initialize(2).state_dict())
    assert net.dtype == np.float64 and np.array_equal(net.theta, network().initialize(2).theta)


@pytest.mark.parametrize("change, words", [
    (lambda state: state.pop("0.bias"), "Sequential: the state dict lacks '0.bias'"),
    (lambda state: state.update({"9.weight": np.ones(1)}), "Sequential: the state dict has '9.weight', which this"),
    (lambda state: state.update({"2.0.weight": np.ones((4, 2))}),
     r"Sequential: '2.0.weight' has shape \(4, 2\), expected \(2, 4\)"),
    (lambda state: state.update({"2.0.weight": np.full((2, 4), "x")}), "could not convert")])
def test_a_state_dict_that_does_not_fit_changes_nothing(change, words):
    net = network()
    before = net.theta.copy()
    state = network().initialize(2).state_dict()
    change(state)
    with pytest.raises(ValueError, match=words):
        net.load_state_dict(state)
    assert np.array_equal(net.theta, before)


def test_state_dict_to_torch_and_back():
    torch = pytest.importorskip("torch", reason="PyTorch, the third oracle, is not installed")
    nn = torch.nn
    module = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Sequential(nn.Linear(4, 2, bias=False), nn.Tanh()))
    net = network()
    module.load_state_dict({key: torch.from_numpy(value) for key, value in net.state_dict().items()}, strict=True)
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(net.forward(x), module(torch.from_numpy(x)).detach().numpy(), rtol=1e-5)
    other = network().initialize(9)
    other.load_state_dict(module.state_dict())
    assert np.array_equal(other.theta, net.theta)


def test_copy_copy_is_refused():
    """It would share what must not be shared."""
    with pytest.raises(TypeError, match=r"Sequential: use \.twin\(\) to share its weights, copy\.deepcopy for"):
        copy.copy(Sequential(Linear(2, 2)))


def test_what_is_copied_together_stays_together():
    net = Sequential(Linear(2, 3), Tanh(), Linear(3, 1))
    clone = copy.deepcopy({"net": net, "last": net[2]})
    assert clone["last"] is clone["net"][2] and clone["last"] is not net[2]
    first = copy.deepcopy({"last": net[2], "net": net})
    first["net"].theta[:] = 0
    assert not first["net"][2].params["weight"].any()


def test_batches_within_batches():
    net = Sequential(BatchNorm1d(3))
    with net.in_batches(2):
        inside = net.twin()
        with net.in_batches(3):
            assert net[0].batches == 3
        assert net[0].batches == 2
    assert net[0].batches == 1 and inside[0].batches == 1
