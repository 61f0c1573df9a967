"""Runs of systems that are no plain game on one data set: with random layers, on a pair of sources, with labels."""

import numpy as np
import pytest
from small_conditional import conditional_game

from scratchgan import System, backend, recipes, training
from scratchgan.cli import datasets
from scratchgan.data import Dataset, Pair, as_source
from scratchgan.errors import UserError
from scratchgan.gan.updates import Ema
from scratchgan.layers import BatchNorm1d, Dropout, Layer, Linear, Sequential
from scratchgan.optimizers import Adam
from scratchgan.system import Metrics, scaled
from scratchgan.training.snapshot import Snapshot, not_finite

QUIET = {"announce": None, "batch_size": 4, "checkpoint_every": 3, "log_every": 2}
SHAPE = (4,)


class Ones(System):
    """A network that learns to give 1 for every example; of a pair, for both."""

    def __init__(self, *layers, shape=SHAPE):
        self.net = Sequential(Linear(4, 8), *layers, Linear(8, 1)).initialize(0)
        self.networks, self.optimizers, self.sample_shape = {"net": self.net}, {"net": Adam(self.net, 1e-2)}, shape

    def step(self, batch, labels=None):
        x = np.concatenate(batch) if isinstance(batch, tuple) else batch
        y = self.net(x) - np.float32(1)
        self.net.zero_grad()
        self.net.backward(y / len(y), "params")
        self.optimizers["net"].step()
        self.steps += 1
        return Metrics(loss=(y * y).mean())


class OfPairs(Ones):
    def __init__(self):
        super().__init__(Dropout(0.5), shape=(SHAPE, SHAPE))

    def sample(self, n, seed=0, labels=None):
        return np.zeros((n, *SHAPE), np.float32)


def floats(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, *SHAPE)).astype(np.float32)


def labelled(classes=3):
    images = np.random.default_rng(0).integers(0, 256, (21, 1, 2, 2), dtype=np.uint8)
    return Dataset.of("labelled", images, np.arange(21, dtype=np.int64) % classes, "made by a test")


class Counting(Layer):
    """Adds up its passes in buffers: a plain number, and one that NumPy makes a scalar of when it is replaced."""

    def __init__(self):
        super().__init__()
        self.buffers = {"count": 0, "share": np.zeros((), np.float32)}

    def forward(self, x):
        if self.training and not self.is_twin:
            self.buffers["count"] += 1
            self.buffers["share"] = np.float32(0.9) * self.buffers["share"] + np.float32(1)
        return self.keep(x * (1 + self.buffers["share"]), self.buffers["share"])

    def backward(self, dy, wrt="all"):
        return (1 + self.kept(dy, wrt)) * dy


def test_plain_numbers_go_into_snapshots_and_averages(tmp_path):
    system = Ones(Counting())
    average = Ema(system.net, 3.0)
    before = Snapshot().take(system)
    system.step(floats(4))
    average.after(system.net, 1, 1)
    assert average.average[1].buffers == system.net[1].buffers == {"count": 1, "share": 1.0}
    before.restore(system)
    assert system.net[1].buffers == {"count": 0, "share": 0.0}
    system.net[1].buffers |= {"count": 0.5, "share": np.float32(np.inf)}
    average.after(system.net, 2, 1)
    assert average.average[1].buffers == {"count": 0.5, "share": np.inf}  # also where the kind of number changes
    assert not_finite(system) == "the buffers of net"


def test_a_system_and_a_recipe_are_written_out():
    system = Ones(Dropout(0.5))
    system.step(floats(4))
    assert repr(system) == "Ones at step 1\n  net: Sequential(Linear(4, 8), Dropout(), Linear(8, 1))"
    assert repr(System()) == "System at step 0" and repr(recipes.get("mlp")).startswith("Recipe mlp: ")


RUNS = {"plain numbers": (lambda: Ones(Counting()), floats(21)), "dropout": (lambda: Ones(Dropout(0.5)), floats(21)),
        "dropout and batch normalisation": (lambda: Ones(BatchNorm1d(8), Dropout(0.3)), floats(21)),
        "pair": (OfPairs, Pair(as_source(floats(20)), as_source(floats(9, 1)))),
        "labels": (conditional_game, labelled())}


@pytest.mark.parametrize("name", RUNS)
def test_resumed_to_the_bit(name, tmp_path):
    make, data = RUNS[name]
    one, two, three = make(), make(), make()
    history = training.fit(one, data, 10, tmp_path / "one", **QUIET)
    training.fit(two, data, 5, tmp_path / "two", **QUIET)
    resumed = training.fit(three, data, 10, tmp_path / "two", resume=True, announce=None)
    for key, network in one.networks.items():
        assert np.array_equal(network.theta, three.networks[key].theta), key
    losses = [[value for key, value in row.items() if "loss" in key] for rows in (history, resumed) for row in rows]
    assert losses[:len(history)] == losses[len(history):]


@pytest.mark.parametrize("name", ["dropout", "pair"])
def test_dropout_differs_from_step_to_step(name):
    make, data = RUNS[name]
    system, masks = make(), []
    forward = system.net[1].forward

    def watched(x):
        y = forward(x)
        masks.append((y == 0).tobytes())
        return y
    system.net[1].forward = watched
    training.fit(system, data, 4, batch_size=4, announce=None)
    assert len(set(masks)) == len(masks) == 4


@pytest.mark.parametrize("name", ["bytes", "floats", "pair"])
def test_a_step_is_given_floats_on_the_device_of_the_networks(name, device):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 2, 2), dtype=np.uint8)
    data = {"bytes": pixels, "floats": floats(8), "pair": (pixels, floats(8))}[name]
    given = []

    class Looks(System):
        def __init__(self):
            self.networks, self.optimizers = {"net": Linear(2, 2).to(device)}, {}

        def step(self, batch, labels=None):
            given.extend(batch if isinstance(batch, tuple) else [batch])
            return {"loss": 0.0}
    training.fit(Looks(), data, 2, batch_size=4, announce=None)
    assert len(given) == (4 if name == "pair" else 2)
    for each in given:
        assert backend.device_of(each) == device and each.dtype == np.float32
    seen = np.concatenate([backend.to_host(each) for each in given if each.ndim == 4] or [scaled(pixels)])
    assert np.array_equal(np.sort(seen.ravel()), np.sort(scaled(pixels).ravel()))


def test_what_the_system_refuses_of_an_epoch_is_found_without_a_trace():
    """21 examples in batches of 4: batch normalisation refuses the last one, whose step draws no mask of the run."""
    system, same = RUNS["dropout and batch normalisation"][0](), RUNS["dropout and batch normalisation"][0]()
    training.fit(system, floats(21), 3, batch_size=4, announce=None)
    training.fit(same, floats(21), 3, batch_size=4, drop_last=True, announce=None)
    assert np.array_equal(system.net.theta, same.net.theta)


def test_the_run_of_a_pair_is_no_image_that_a_command_finds(tmp_path):
    make, data = RUNS["pair"]
    training.fit(make(), data, 2, tmp_path / "run", **QUIET)
    config = training.RunFolder.open(tmp_path / "run", lock=False).config
    assert config["data"]["shape"] == [[4], [4]]
    with pytest.raises(UserError, match="no images that a command can load"):
        datasets.of_run(config)


def test_data_whose_labels_do_not_fit_are_refused():
    for data in (labelled(4), labelled().images):
        with pytest.raises(UserError, match=r"name [04] classes, the system takes 3: give it data with labels"):
            training.fit(conditional_game(), data, 2, announce=None)


def test_pictures_of_a_conditional_game_show_each_class_in_turn():
    game = conditional_game()
    assert np.array_equal(game.sample(7, seed=1), game.sample(7, seed=1, labels=[0, 1, 2, 0, 1, 2, 0]))
    z = game.latent.draw(2, 1, "sample")
    rows = game.interpolate(1, 2, 2, 5)
    assert np.allclose(rows[[0, 5]], game.generate(z, [0, 1]), atol=1e-6) and rows.shape == (10, 1, 2, 2)
