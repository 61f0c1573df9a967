"""A recipe small enough to train in milliseconds, with dropout and a schedule so that a resumed run has all to lose."""

import csv
import json

import numpy as np

import scratchgan.recipes
from scratchgan.data.dataset import Dataset
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import Dropout, LeakyReLU, Linear, Sequential, Tanh
from scratchgan.optimizers import SGD, Adam
from scratchgan.recipes.recipe import Recipe
from scratchgan.schedules import exponential_decay
from scratchgan.settings import Setting, number, whole
from scratchgan.training import Callback, checkpoint

SHAPE = (1, 6, 6)


def game(hidden=8, lr=1e-3, objective=None, optimizer_d=None):
    G = Sequential(Linear(4, hidden), LeakyReLU(0.1), Linear(hidden, 36), Tanh())
    D = Sequential(Linear(36, hidden), LeakyReLU(0.1), Dropout(0.3), Linear(hidden, 1))
    make_d = optimizer_d or (lambda D: SGD(D, exponential_decay(lr * 10, 1.01), momentum=0.5))
    return Game(G, D, objective or NonSaturating(), Adam(G, lr), make_d(D), latent=Latent(4), sample_shape=SHAPE)


def make(seed=0, device="cpu", hidden=8, lr=1e-3, **parts):
    """Such a game as one of a user's own, which no recipe has built."""
    return game(hidden, lr, **parts).initialize(seed, device)


RECIPE = Recipe(name="tiny", summary="for tests", source="none",
                make=lambda settings, facts: game(settings.hidden, settings.lr),
                settings=(Setting("hidden", 8, "width", whole(1)), Setting("lr", 1e-3, "rate", number(0))),
                facts={"shape": SHAPE}, batch_size=16, epochs=2, min_steps=20)


def register():
    scratchgan.recipes._RECIPES["tiny"] = RECIPE


def images(size=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, *SHAPE), dtype=np.uint8)


def dataset(size=50, seed=0):
    """50 images in batches of 16: the last batch of an epoch has 2."""
    return Dataset.of("noise", images(size, seed), None, "made by a test")


def weights(folder):
    """{file: bytes} of the newest checkpoint, with what state.json says, times apart."""
    path = checkpoint.found(folder / "checkpoints")[-1][1]
    found = {file.name: file.read_bytes() for file in path.iterdir()}
    state = json.loads(found.pop("state.json"))
    state.pop("seconds")
    return {"path": path.name, "state": state, **found}


def metrics(folder):
    """The text cells of metrics.csv, times apart."""
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: cell for name, cell in row.items() if name not in ("images_per_second", "seconds")}
                for row in csv.DictReader(file)]


class Crash(Exception):
    pass


class CrashAt(Callback):
    """Ends a run without ceremony after a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, run):
        if run.step == self.step:
            raise Crash
