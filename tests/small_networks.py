"""A small network and what the tests of layers do with it."""

import numpy as np

from scratchgan import backend
from scratchgan.layers import LeakyReLU, Linear, Sequential, Tanh


def network():
    return Sequential(Linear(3, 4), LeakyReLU(0.1), Sequential(Linear(4, 2, bias=False), Tanh())).initialize(7)


def on(network, array):
    return backend.to_device(np.asarray(array, network.dtype), network.device)


def ones(network, *shape):
    return on(network, np.ones(shape))


def host(array):
    return backend.to_host(array).copy()


def one_pass(net, x, dy):
    y = net.forward(x)
    net.zero_grad()
    return host(y), host(net.backward(dy)), host(net.grad)
