"""pickle, and with it multiprocessing: what comes back computes the same and learns the same."""

import multiprocessing
import pickle

import numpy as np
import pytest

from scratchgan import recipes
from scratchgan.gradcheck.catalogue import layer_cases
from scratchgan.layers import BatchNorm1d, Dropout, Layer, LeakyReLU, Linear, Sequential, Tanh, spectral_norm
from scratchgan.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from scratchgan.optimizers import SGD, Adam, RMSprop
from scratchgan.schedules import exponential_decay, linear_ramp
from scratchgan.system import Metrics

CASES = [(layer, shape) for cases in layer_cases().values() for layer, shape, *_ in cases]


def round_trip(thing):
    return pickle.loads(pickle.dumps(thing))


def assert_learns_the_same(one, other, shape, seed=0):
    """Three passes and steps, with the same numbers to the bit; then the same state."""
    rng, optimizers = np.random.default_rng(seed), [SGD(net, lr=0.01) for net in (one, other)]
    for step in range(3):
        x = rng.standard_normal(shape).astype(one.dtype)
        for net in (one, other):
            net.set_step(seed, step)
        y, again = one.forward(x), other.forward(x)
        assert y.tobytes() == again.tobytes()
        for optimizer in optimizers:
            optimizer.zero_grad()
        assert one.backward(y).tobytes() == other.backward(again).tobytes()
        assert one.grad.tobytes() == other.grad.tobytes()
        for optimizer in optimizers:
            optimizer.step()
    assert_same_state(one, other)


def assert_same_state(one, other):
    state = other.state_dict()
    assert list(state) == list(one.state_dict())
    for key, value in one.state_dict().items():
        assert value.tobytes() == state[key].tobytes() and value.dtype == state[key].dtype, key


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=[f"{layer} {shape}" for layer, shape in CASES])
def test_every_layer(rng, layer, shape):
    layer = layer.to(dtype="float32")
    for used in (False, True):
        if used:
            layer.backward(layer.forward(rng.standard_normal(shape).astype(np.float32)))
        clone = round_trip(layer)
        assert type(clone) is type(layer) and repr(clone) == repr(layer)
        assert not clone.grad.any() and not np.may_share_memory(clone.theta, layer.theta)
        assert all(part._kept is None for _, part in clone.named_layers())
        assert_learns_the_same(clone, layer, shape)


def network():
    return Sequential(spectral_norm(Linear(4, 6)), LeakyReLU(0.2), Sequential(BatchNorm1d(6), Dropout(0.3)),
                      Linear(6, 2), Tanh()).initialize(3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_a_network(rng, dtype):
    net = network().to(dtype=dtype)
    net.backward(net.forward(rng.standard_normal((5, 4)).astype(dtype)))
    net.eval()
    clone = round_trip(net)
    assert not clone.training and not clone[2][1].training and clone.dtype == dtype
    assert [prefix for prefix, _ in clone.named_layers()] == [prefix for prefix, _ in net.named_layers()]
    start = clone.theta.copy()
    clone.theta[...] = 0
    assert not any(value.any() for value in clone.parameters())  # its parameters are views of its own vector
    clone.theta[...] = start
    assert_learns_the_same(clone.train(), net.train(), (5, 4))
    with pytest.raises(ValueError, match="already belongs to a network"):
        Sequential(clone[0])


def test_weights_drawn_again_are_those_of_the_original():
    for make in (network, lambda: Sequential(Linear(3, 3, weight_init=MyInit()))):
        assert_same_state(round_trip(make()).initialize(5), make().initialize(5))


class MyInit:
    def __call__(self, shape, seed, purpose):
        return np.full(shape, seed, np.float32)


def test_masks_go_on_where_the_original_is():
    layer, x = Dropout(0.5), np.ones((20, 20), np.float32)
    layer(x)
    clone = round_trip(layer)
    assert np.array_equal(clone(x), layer(x)) and np.array_equal(clone(x), layer(x))


def test_a_layer_of_a_network_alone(rng):
    net = network()
    for layer, shape in ((net[0], (5, 4)), (net[2], (5, 6)), (net[3], (5, 6))):
        before = net.theta.copy()
        clone = round_trip(layer)
        assert clone.theta.tobytes() == layer.theta.tobytes()
        assert_learns_the_same(clone, round_trip(layer), shape)
        assert np.array_equal(net.theta, before)
        assert Sequential(clone)[0] is clone  # it belongs to no network
    assert len(pickle.dumps(net[4])) < 1000


def test_a_slice_and_a_twin(rng):
    net = network()
    part = round_trip(net[:2])
    assert isinstance(part, Sequential) and len(part) == 2 and part.theta.size == 30
    assert_same_state(part, net[:2])
    part.append(Linear(6, 1)).to(dtype="float64")
    twin = round_trip(net.twin())
    x = rng.standard_normal((5, 4)).astype(np.float32)
    assert np.array_equal(twin.eval()(x), net.eval()(x)) and not np.may_share_memory(twin.theta, net.theta)


class Own(Layer):
    """A user's layer: children as attributes, a list, a number among the buffers."""

    def __init__(self):
        super().__init__()
        self.fc = Linear(4, 3)
        self.history = [1]
        self.buffers["count"] = 3

    def forward(self, x):
        self.history.append(len(x))
        return self.fc(x)

    def backward(self, dy, wrt="all"):
        return self.fc.backward(dy, wrt)


def test_ones_own_layer():
    net = Own()
    clone = round_trip(net)
    clone(np.ones((2, 4), np.float32))
    assert clone.fc is clone.layers["fc"] and clone.history == [1, 2] and net.history == [1]
    assert clone.buffers["count"] == 3
    assert_learns_the_same(clone, net, (5, 4))


# -- optimizers, losses, games -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda net: SGD(net, lr=linear_ramp(0.1, 0.01, 2, 8), momentum=linear_ramp(0.5, 0.7, 0, 5), weight_decay=0.1),
    lambda net: RMSprop(net, lr=exponential_decay(0.1, 1.5, 1e-3), alpha=0.9, momentum=0.5, centered=True),
    lambda net: Adam(net, lr=exponential_decay(0.1, 1.5), betas=(0.5, 0.9)), Adam, SGD],
    ids=["SGD", "RMSprop", "Adam", "Adam, defaults", "SGD, defaults"])
def test_optimizers_with_their_schedules_and_states(make):
    net = Sequential(Linear(4, 3), Tanh()).initialize(0)
    optimizer = make(net)
    rng = np.random.default_rng(0)

    def steps(optimizer, grads):
        rates = []
        for grad in grads:
            optimizer.network.grad[...] = grad
            optimizer.step()
            rates.append(optimizer.hyper.tolist())
        return rates
    steps(optimizer, rng.standard_normal((3, 15)))
    clone = round_trip(optimizer)
    assert clone.steps == 3 and clone.network is not net
    grads = rng.standard_normal((4, 15))
    assert steps(clone, grads) == steps(optimizer, grads)
    assert clone.network.theta.tobytes() == net.theta.tobytes()
    assert all(np.array_equal(value, clone.state_dict()[key]) for key, value in optimizer.state_dict().items())


def test_network_and_optimizer_together_stay_together():
    net = network()
    net, optimizer = round_trip((net, Adam(net)))
    assert optimizer.network is net
    before = net.theta.copy()
    net.grad[...] = 1
    optimizer.step()
    assert not (net.theta == before).any()


@pytest.mark.parametrize("loss", [MSELoss(), BCELoss(np.ones(2)), BCEWithLogitsLoss(reduction="sum"),
                                  CrossEntropyLoss(label_smoothing=0.1)], ids=repr)
def test_losses(loss):
    p, t = np.full((3, 2), 0.3), np.full((3, 2), 0.5)
    value = loss(p, t)
    clone = round_trip(loss)
    assert clone(p, t) == value and np.array_equal(clone.backward(), loss.backward())


def test_a_game_trains_on(rng):
    recipe = recipes.get("mlp")
    game = recipe.build(seed=0, **recipe.small)
    batches = rng.uniform(-1, 1, (4, 6, *game.sample_shape)).astype(np.float32)
    game.step(batches[0])
    clone = round_trip(game)
    for batch in batches[1:]:
        metrics, again = game.step(batch), clone.step(batch)
    assert {name: float(value()) if callable(value) else value for name, value in metrics.items()} == {
        name: float(value()) if callable(value) else value for name, value in again.items()}
    for name, net in game.networks.items():
        assert_same_state(net, clone.networks[name])
    assert np.array_equal(game.sample(3), clone.sample(3))


# -- another process -----------------------------------------------------------------------------------------------


def learn(net, optimizer, x):
    """In the other process: a step, and everything sent back."""
    y = net(x)
    optimizer.zero_grad()
    dx = net.backward(y)
    optimizer.step()
    return net, optimizer, y, dx


def test_multiprocessing(rng):
    net, x = network(), rng.standard_normal((5, 4)).astype(np.float32)
    optimizer = Adam(net, lr=exponential_decay(0.1, 1.5))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        theirs, their_optimizer, y, dx = pool.apply(learn, (net, optimizer, x))
    assert their_optimizer.network is theirs and their_optimizer.steps == 1
    _, _, expected, expected_dx = learn(net, optimizer, x)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(theirs.theta, net.theta, rtol=1e-4, atol=1e-6)
    assert_learns_the_same(theirs, round_trip(theirs), (5, 4))


def test_metrics_of_a_step_as_numbers():
    metrics = Metrics(loss=lambda: np.float32(0.5), other=2.0)
    again = round_trip(metrics)
    assert type(again) is Metrics and dict(again) == dict(metrics) == {"loss": 0.5, "other": 2.0}
