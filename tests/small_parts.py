"""Small games with parts, for tests."""

from scratchgan.gan import Game, Latent, objectives
from scratchgan.layers import BatchNorm1d, Dropout, LeakyReLU, Linear, Sequential, Tanh
from scratchgan.layers.energy import GivesEnergies
from scratchgan.optimizers import Adam


def networks(device="cpu", inputs=4, normalised=False):
    middle = [BatchNorm1d(8)] if normalised else []
    G = Sequential(Linear(3, 8), *middle, LeakyReLU(0.1), Linear(8, 4), Tanh())
    D = Sequential(Linear(inputs, 6), LeakyReLU(0.1), Dropout(0.2), Linear(6, 1))
    return G.initialize(0, "g").to(device), D.initialize(0, "d").to(device)


class Energies(GivesEnergies, Sequential):
    """A network whose scores are taken for energies."""


def energies(D):
    D.__class__ = Energies
    return D


def make(device="cpu", objective="non-saturating", G=None, D=None, **parts):
    ours, theirs = networks(device)
    row = objectives.get(objective) if isinstance(objective, str) else objective
    G, D = G or ours, D or theirs
    D = energies(D) if row.score == "energy" and not isinstance(D, GivesEnergies) else D
    return Game(G, D, objective, Adam(G, 1e-2), Adam(D, 1e-2), latent=Latent(3), sample_shape=(4,), **parts)
