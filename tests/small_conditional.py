"""A game whose networks take labels."""

from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import Concat, Embedding, LeakyReLU, Linear, Sequential, Tanh
from scratchgan.optimizers import Adam


def conditional_game(**settings):
    """Images (1, 2, 2) of three classes."""
    G = Sequential(Concat(None, Embedding(3, 3)), Linear(5, 8), LeakyReLU(0.1), Linear(8, 4), Tanh())
    D = Sequential(Concat(None, Embedding(3, 3)), Linear(7, 6), LeakyReLU(0.1), Linear(6, 1))
    G.initialize(0, "g"), D.initialize(0, "d")
    return Game(G, D, NonSaturating(), Adam(G, 1e-2), Adam(D, 1e-2), latent=Latent(2), sample_shape=(1, 2, 2),
                classes=3, **settings)
