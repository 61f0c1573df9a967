"""The flat vector of a network's parameters, that of its gradients, and where initial weights come from."""

import numpy as np
import pytest
from small_networks import host, network, one_pass, ones

from scratchgan import initializers
from scratchgan.layers import BatchNorm2d, Conv2d, Layer, Linear, Sequential, Tanh, spectral_norm


def test_parameters_and_gradients_are_views_of_theta_and_grad(device):
    net = network().to(device)
    assert net.theta.shape == net.grad.shape == (3 * 4 + 4 + 2 * 4,)
    start = 0
    for _, layer in net.named_layers():
        for name, value in layer.params.items():
            part = slice(start, start + value.size)
            value[...] = start
            assert (net.theta[part] == start).all()
            net.theta[part] = -1
            assert (value == -1).all()
            layer.grads[name][...] = 5
            assert (net.grad[part] == 5).all()
            start += value.size
    assert start == net.theta.size


def test_an_in_place_write_is_seen_by_the_next_pass(device):
    net = network().to(device)
    x = ones(net, 2, 3)
    net.theta[...] = 0
    assert not host(net.forward(x)).any()
    net[0].params["bias"][...] = 1
    net[2][0].params["weight"][...] = 1
    np.testing.assert_allclose(host(net.forward(x)), np.tanh(4), rtol=1e-6)


def test_parameters_and_their_names(device):
    net = Sequential(Linear(3, 4), BatchNorm2d(2, bias=False), Sequential(spectral_norm(Conv2d(2, 3, 2)))).to(device)
    named = dict(net.named_parameters())
    assert list(named) == ["0.weight", "0.bias", "1.weight", "2.0.bias", "2.0.parametrizations.weight.original"]
    assert set(net.state_dict()) > set(named)  # which has the buffers, too
    assert [id(value) for value in net.parameters()] == [id(value) for value in named.values()]
    assert sum(value.size for value in net.parameters()) == net.theta.size
    for value in net.parameters():
        value[...] = 0
    assert not host(net.theta).any()
    assert list(Tanh().parameters()) == list(Sequential().named_parameters()) == []


# -- gradients -----------------------------------------------------------------------------------------------------


def test_backward_adds_and_zero_grad_clears(device):
    net = network().to(device)
    x, dy = ones(net, 2, 3), ones(net, 2, 2)
    assert not host(net.grad).any()
    _, _, once = one_pass(net, x, dy)
    assert once.any()
    net.backward(dy)
    assert np.array_equal(host(net.grad), 2 * once)
    net.zero_grad()
    assert not host(net.grad).any()
    net.backward(dy)
    assert np.array_equal(host(net.grad), once)


def test_pending_zeros_are_never_seen(device):
    """Whatever is read after zero_grad, and in whatever order, is zero; unread zeros do not hide what is added."""
    net = network().to(device)
    x, dy = ones(net, 2, 3), ones(net, 2, 2)
    _, _, once = one_pass(net, x, dy)
    net.zero_grad()
    assert not host(net[0].grads["bias"]).any()
    net.backward(dy)
    assert np.array_equal(host(net.grad), once)
    net.zero_grad()
    net[2].backward(dy)  # only the upper half of the network
    assert not host(net.grad)[:16].any()
    assert np.array_equal(host(net.grad)[16:], once[16:])
    net.zero_grad()
    net.zero_grad()
    assert not host(net[2].grad).any() and not host(net.grad).any()


def test_zeros_that_were_written_out_do_not_come_again():
    net = network()
    net.zero_grad()
    net.grad[...] = 3
    net[0].accumulate("bias", np.ones(4, np.float32))
    assert (net[0].grads["bias"] == 4).all()
    assert (net[0].grads["weight"] == 3).all()


def test_products_are_accumulated_as_values_are(rng):
    layer, x = Linear(4, 3), rng.standard_normal((5, 4)).astype(np.float32)
    layer(x)
    a, b = rng.standard_normal((3, 5)).astype(np.float32), rng.standard_normal((5, 4)).astype(np.float32)
    for _ in range(2):
        layer.zero_grad()
        layer.accumulate_product("weight", a, b)
        np.testing.assert_allclose(layer.grads["weight"], a @ b, rtol=1e-5)
        layer.accumulate_product("weight", a, b)
        layer.accumulate("weight", a @ b)
        np.testing.assert_allclose(layer.grads["weight"], 3 * (a @ b), rtol=1e-5)


# -- what may be taken in ------------------------------------------------------------------------------------------


def test_one_layer_alone_and_a_layer_without_parameters():
    layer = Linear(2, 3)
    assert layer.theta.size == 9 and layer.params["bias"].base is not None
    assert Tanh().theta.size == Tanh().grad.size == 0
    Tanh().zero_grad()


def test_what_a_parameter_may_be():
    with pytest.raises(TypeError, match="Layer: parameter 'n' must be float32 or float64, not int64"):
        Layer().add_parameter("n", [1, 2])
    with pytest.raises(TypeError, match="Sequential: all parameters of a network must have one dtype and device"):
        Sequential(Linear(2, 2), Linear(2, 2).to(dtype="float64"))
    with pytest.raises(ValueError, match="Linear: add parameter 'gain' before a network takes the layer in"):
        Sequential(Linear(2, 2))[0].add_parameter("gain", np.ones(2, np.float32))
    layer = Layer()
    layer.add_parameter("a", np.float32(3))
    layer.add_parameter("b", ((2, 2), initializers.ones))
    assert layer.theta.tolist() == [3, 1, 1, 1, 1]


# -- initial weights -----------------------------------------------------------------------------------------------


def test_layers_start_with_different_weights():
    """As in PyTorch, without a word about seeds: no two layers of a program begin with equal rows."""
    net = Sequential(Linear(4, 4), Tanh(), Linear(4, 4), Linear(4, 7))
    first, second, third = (net[i].params["weight"] for i in (0, 2, 3))
    assert not (first == second).any() and not (first == third[:4]).any()
    assert not (net[0].params["bias"] == net[2].params["bias"]).any()
    assert not (Linear(4, 4).theta == Linear(4, 4).theta).any()
    assert not (Conv2d(2, 3, 3).theta == Conv2d(2, 3, 3).theta).any()


def test_two_players_start_with_different_weights():
    generator, discriminator = (Sequential(Linear(5, 5), Tanh(), Sequential(Linear(5, 5))) for _ in range(2))
    assert not (generator.theta == discriminator.theta).any()


def test_a_layer_starts_with_different_vectors_for_its_spectral_norm():
    u = "parametrizations.weight.0._u"
    one, other = (spectral_norm(Linear(6, 5)) for _ in range(2))
    assert not (one.buffers[u] == other.buffers[u]).any()
    for layer in (one, other):
        original = layer.params["parametrizations.weight.original"]
        assert np.linalg.svd(layer.normalised_weight(), compute_uv=False)[0] == pytest.approx(1, rel=0.1), original


def test_initial_weights_fill_their_interval_whatever_was_built_before():
    for _ in range(3):
        for value in Linear(100, 1000).params.values():
            assert 0.09 < np.abs(value).max() <= 0.1 and abs(value.mean()) < 0.01


def test_initialize_is_a_function_of_seed_and_name(device):
    def theta(*arguments):
        return host(network().to(device).initialize(*arguments).theta)
    assert np.array_equal(theta(1), theta(1))
    assert not np.array_equal(theta(1), theta(2))
    assert not np.array_equal(theta(1, "generator"), theta(1, "discriminator"))


def test_initialize_in_float64_gives_the_same_weights():
    assert np.array_equal(network().to(dtype="float64").initialize(3).theta, network().initialize(3).theta)
