"""A game whose networks take labels."""

import numpy as np

from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import Layer, LeakyReLU, Linear, Sequential, Tanh
from scratchgan.optimizers import Adam


class WithLabel(Layer):
    """(x (N, m), labels) -> (N, m + 3): x beside a one of the label; the labels get no gradient."""

    def forward(self, given):
        x, labels = given
        self.size = x.shape[1]
        return np.concatenate([x, np.eye(3, dtype=x.dtype)[labels]], axis=1)

    def backward(self, dy, wrt="all"):
        return None if wrt == "params" else (dy[:, :self.size], None)


def conditional_game(**settings):
    """Images (1, 2, 2) of three classes."""
    G = Sequential(WithLabel(), Linear(5, 8), LeakyReLU(0.1), Linear(8, 4), Tanh()).initialize(0, "g")
    D = Sequential(WithLabel(), Linear(7, 6), LeakyReLU(0.1), Linear(6, 1)).initialize(0, "d")
    return Game(G, D, NonSaturating(), Adam(G, 1e-2), Adam(D, 1e-2), latent=Latent(2), sample_shape=(1, 2, 2),
                classes=3, **settings)
