"""Small games for tests, batches for them, and a layer."""

import numpy as np

from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import BatchNorm1d, Layer, LeakyReLU, Linear, Sequential, Tanh
from scratchgan.optimizers import SGD, Adam


def small_game(device="cpu", dtype="float32", seed=0, **settings):
    G = Sequential(Linear(3, 8), LeakyReLU(0.1), Linear(8, 4), Tanh()).initialize(seed, "generator").to(device, dtype)
    D = Sequential(Linear(4, 6), LeakyReLU(0.1), Linear(6, 1)).initialize(seed, "discriminator").to(device, dtype)
    return Game(G, D, NonSaturating(0.5), Adam(G, 1e-2), Adam(D, 1e-2), latent=Latent(3),
                sample_shape=(1, 2, 2), seed=seed, **settings)


def batches(n=6, steps=20, shape=(1, 2, 2), dtype=np.float32):
    return np.random.default_rng(1).uniform(-1, 1, (steps, n, *shape)).astype(dtype)


def normalised_game(device="cpu", **settings):
    """Batch normalisation on the pixels and inside; neither network moves."""
    G = Sequential(Linear(3, 8), BatchNorm1d(8), LeakyReLU(0.1), Linear(8, 4), Tanh()).initialize(0, "generator")
    D = Sequential(BatchNorm1d(4), Linear(4, 6), BatchNorm1d(6), LeakyReLU(0.1), Linear(6, 1)).initialize(0, "d")
    G.to(device, "float64"), D.to(device, "float64")
    return Game(G, D, NonSaturating(), SGD(G, 0), SGD(D, 0), latent=Latent(3), sample_shape=(1, 2, 2), **settings)


class Reads(Layer):
    """Looks at a number of the device, which a recorded step cannot do."""

    def forward(self, x):
        self.ops(x)
        return self.keep(x * float(x.mean() < 100))

    def backward(self, dy, wrt="all"):
        self.kept(dy, wrt)
        return dy.copy()
