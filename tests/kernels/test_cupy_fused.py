"""A linear layer and the activation next to it, in one kernel on CUDA."""

import copy

import numpy as np
import pytest

from scratchgan import gradcheck, kernels
from scratchgan.backend import to_device, to_host
from scratchgan.kernels import FORMULAS
from scratchgan.layers import LeakyReLU, Linear, ReLU, Sequential, Tanh
from scratchgan.layers.fused import products

FORWARD = [("leaky_relu", 0.2), ("leaky_relu", 0.0), ("tanh",)]
BACKWARD = [("leaky_relu_grad", 0.2), ("leaky_relu_grad", 0.0), ("tanh_grad",)]
SHAPES = [(5, 7, 3), (64, 300, 20), (1, 1, 1), (1, 37, 23), (7, 37, 1), (7, 1, 23)]


def right(how, x, *arrays):
    name, *numbers = how
    return getattr(FORMULAS, name)(x, *arrays, *numbers)


def numbers(rng, dtype, *shape):
    x = rng.standard_normal(shape).astype(dtype)
    x[rng.random(shape) < 0.1] = 0
    return x


@pytest.mark.parametrize("dtype, atol", [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("n, size, outputs", SHAPES)
def test_small_products_end_with_the_activation(cuda, rng, launches, dtype, atol, n, size, outputs):
    x, weight, bias = (numbers(rng, dtype, *shape) for shape in ((n, size), (outputs, size), (outputs,)))
    dy, y = numbers(rng, dtype, n, outputs), np.tanh(numbers(rng, dtype, n, size))
    weight /= np.sqrt(size).astype(dtype)
    ours = kernels.of(to_device(x, cuda))
    for how in FORWARD:
        for b in (bias, None):
            given = [each if each is None else to_device(each, cuda) for each in (x, weight, b)]
            got = to_host(products().activated_linear(*given, *how))
            np.testing.assert_allclose(got, right(how, FORMULAS.linear(x, weight, b)), atol=atol)
            apart = getattr(ours, how[0])(ours.linear(*given), *how[1:])
            np.testing.assert_array_equal(got, to_host(apart))
            if b is not None:
                assert launches(products().activated_linear, *given, *how) == 1
    for how in BACKWARD:
        given = [to_device(each, cuda) for each in (dy, weight, y)]
        got = to_host(products().gemm_through(*given, *how))
        np.testing.assert_allclose(got, right(how, FORMULAS.gemm(dy, weight), y), atol=atol)
        apart = getattr(ours, how[0])(ours.gemm(*given[:2]), given[2], *how[1:])
        np.testing.assert_array_equal(got, to_host(apart))
        assert launches(products().gemm_through, *given, *how) == (2 if 1 in (n, size) else 1)


def test_what_is_no_small_product_is_two_kernels(cuda, rng):
    x, weight, bias = (numbers(rng, "float32", *shape) for shape in ((40, 900), (30, 900), (30,)))
    dy, y = numbers(rng, "float32", 40, 900), numbers(rng, "float32", 30, 40).T
    got = products().activated_linear(*(to_device(each, cuda) for each in (x, weight, bias)), "tanh")
    np.testing.assert_allclose(to_host(got), FORMULAS.tanh(FORMULAS.linear(x, weight, bias)), atol=1e-3)
    for place in (to_device(y, cuda), to_device(y.T, cuda).T):                      # in rows, in columns
        got = products().gemm_through(to_device(dy, cuda), to_device(weight.T.copy(), cuda), place, "tanh_grad")
        np.testing.assert_allclose(to_host(got), FORMULAS.tanh_grad(FORMULAS.gemm(dy, weight.T), y), atol=1e-3)


class Louder(LeakyReLU):
    """Of one's own: what it computes is not LeakyReLU's."""

    def forward(self, x):
        return self.keep(3 * x, x)

    def backward(self, dy, wrt="all"):
        self.kept(dy, wrt)
        return 3 * dy


NETWORKS = {
    "pairs": lambda: Sequential(Linear(6, 5), LeakyReLU(0.2), Linear(5, 4), ReLU(), Linear(4, 3), Tanh()),
    "activations first": lambda: Sequential(Tanh(), LeakyReLU(0.1), Linear(6, 5), Tanh(), Linear(5, 2)),
    "a negative slope": lambda: Sequential(Linear(6, 5), LeakyReLU(-0.5), Linear(5, 2)),
    "one's own": lambda: Sequential(Linear(6, 5), Louder(), Linear(5, 2, bias=False), Tanh())}


@pytest.mark.parametrize("wrt", ["all", "input", "params"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 6)])
def test_a_network_of_pairs_is_its_layers_one_after_the_other(cuda, rng, name, wrt, shape):
    network = NETWORKS[name]().initialize(0).to(cuda, "float64")
    apart = copy.deepcopy(network)
    x = to_device(rng.standard_normal(shape), cuda)
    y, expected = network.forward(x), x
    for layer in apart:
        expected = layer.forward(expected)
    dy = to_device(rng.standard_normal(y.shape), cuda)
    network.zero_grad()
    dx, expected_dx = network.backward(dy, wrt), dy
    for layer in reversed(list(apart)):
        expected_dx = layer.backward(expected_dx, "input" if wrt == "input" else "all")
    np.testing.assert_allclose(to_host(y), to_host(expected), rtol=1e-12)
    expected_grad = to_host(apart.grad) if wrt != "input" else 0
    np.testing.assert_allclose(to_host(network.grad), expected_grad, rtol=1e-11, atol=1e-14)
    assert dx is None if wrt == "params" else np.allclose(to_host(dx), to_host(expected_dx), rtol=1e-12, atol=0)


def test_after_a_pass_in_pairs_each_layer_has_what_its_own_passes_need(cuda, rng):
    network = NETWORKS["pairs"]().initialize(0).to(cuda, "float64")
    x = to_device(rng.standard_normal((7, 6)), cuda)
    dy = to_device(rng.standard_normal(network.forward(x).shape), cuda)
    dx = network.backward(dy, "input")
    along = network.backward(dy, "tangent")
    for layer in reversed(list(network)):
        dy = layer.backward(dy, "input")
    np.testing.assert_allclose(to_host(dx), to_host(dy), rtol=1e-12)
    np.testing.assert_allclose(to_host(along), to_host(dy), rtol=1e-12)
    assert network.tangent(x).shape == (7, 3)


@pytest.mark.parametrize("wide", [(37, 1, 23), (37, 9, 23)])
def test_the_gradients_of_pairs_are_right(cuda, wide):
    network = Sequential(Linear(*wide[:2]), LeakyReLU(0.2), Linear(*wide[1:])).initialize(0).to(cuda)
    report = gradcheck.check_layer(network, input_shape=(5, 37))
    assert report.ok, gradcheck.table([report])


def test_methods_of_one_s_own_are_called_and_with_the_formulas_those_of_the_layers(cuda, rng, monkeypatch):
    network = Sequential(Linear(4, 3), Tanh()).initialize(0).to(cuda)
    x = to_device(rng.standard_normal((2, 4)).astype("float32"), cuda)
    seen, forward = [], Linear.forward

    def watched(self, x):
        seen.append(x.shape)
        return forward(self, x)
    network[0].forward = watched.__get__(network[0])
    network.forward(x)
    assert len(seen) == 1
    del network[0].forward
    monkeypatch.setattr(Linear, "forward", watched)
    network.forward(x)
    assert len(seen) == 1
    with kernels.plain():
        network.forward(x)
    assert len(seen) == 2
