"""Numbers, settings and other arguments of runs; the last batch of an epoch."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_recipe
from tiny_recipe import RECIPE, metrics, weights

from scratchgan import ranks, recipes, training
from scratchgan.data import Dataset
from scratchgan.data.batches import Batches
from scratchgan.errors import UserError
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import BatchNorm1d, Linear, ReLU, Sequential, Tanh
from scratchgan.optimizers import Adam
from scratchgan.system import scaled


def theta(game):
    return game.generator.theta.tobytes() + game.discriminator.theta.tobytes()


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.intp])
def test_whole_numbers_of_numpy(data, tmp_path, kind):
    """The same run as with Python's own, and a config.json that holds them."""
    numbers = {"batch_size": 16, "seed": 3, "log_every": 3, "checkpoint_every": 4, "sample_every": 5, "keep": 2,
               "threads": 1}
    for name, make in (("plain", int), ("numpy", kind)):
        options = {key: make(value) for key, value in numbers.items()}
        system = RECIPE.build(seed=make(5), hidden=make(8))
        training.fit(system, data, make(7), tmp_path / name, **options)
        training.fit(system, data, make(9), tmp_path / name, resume=True, **{**options, "threads": make(1)})
    assert weights(tmp_path / "plain") == weights(tmp_path / "numpy")
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "numpy")
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("plain", "numpy")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("seed", [3.0, np.float64(3), True, np.True_, None, "abc", "3", [3]])
def test_seeds_that_are_no_whole_numbers(data, seed):
    with pytest.raises(UserError, match="Recipe tiny: seed must be a whole number, not "):
        RECIPE.build(seed=seed)
    if seed is not None:  # of fit that means the usual one
        with pytest.raises(UserError, match=r"^seed must be a whole number, not "):
            training.fit(RECIPE.build(), data, 5, seed=seed)


@pytest.mark.parametrize("settings", [{"hidden": 8.0}, {"hidden": True}, {"hidden": "8"}, {"lr": "1e-3"}, {"lr": None},
                                      {"lr": float("nan")}, {"lr": True}, {"hidden": 0}])
def test_settings_that_are_of_no_use(settings):
    with pytest.raises(UserError, match=f"Recipe tiny: {next(iter(settings))} must be a "):
        RECIPE.build(**settings)


def test_settings_that_a_recipe_has_not():
    with pytest.raises(UserError, match="Recipe tiny has no setting 'nonesuch': it has hidden, lr"):
        RECIPE.build(nonesuch=1)
    with pytest.raises(UserError, match="Recipe tiny asks for no fact 'nonesuch': it knows shape"):
        RECIPE.build(facts={"nonesuch": 1})
    with pytest.raises(UserError, match=r"Recipe tiny takes examples of shape \(1, 6, 6\), not \(1, 7, 7\): load"):
        RECIPE.build(facts={"shape": (1, 7, 7)})


def test_a_setting_that_sets_others():
    for recipe in map(recipes.get, ("mlp", "dcgan28", "dcgan64")):
        system = recipe.build(lr=np.float32(0.5), **recipe.small)
        assert {optimizer.lr for optimizer in system.optimizers.values()} == {0.5}
        assert recipe.build(lr=0.5, lr_d=0.25, **recipe.small).record["settings"]["lr_d"] == 0.25


def test_nobody_to_announce_to(data, tmp_path):
    """None: silently, also where there is something to say; anything else that cannot be called: at once."""
    class Loud(training.Callback):
        def on_step(self, run):
            run.announce("something")
    training.fit(RECIPE.build(), data, 5, tmp_path / "run", [Loud()], announce=None)
    training.fit(RECIPE.build(), data, 5, tmp_path / "run", [Loud()], resume=True, announce=None)  # is finished
    training.resume(tmp_path / "run", lambda config: data, announce=None)
    assert training.load(tmp_path / "run", announce=None).steps == 5
    assert training.start("tiny", data, steps=3, device="cpu", callbacks=[Loud()], announce=None).step == 3
    for call in (lambda: training.fit(RECIPE.build(), data, 5, tmp_path / "other", announce="print"),
                 lambda: training.load(tmp_path / "run", announce=3)):
        with pytest.raises(TypeError, match="announce must be a function that takes a line, or None, not "):
            call()
    assert os.listdir(tmp_path) == ["run"]


# -- the last batch of an epoch ------------------------------------------------------------------------------------


class Sizes(training.Callback):
    def __init__(self):
        self.sizes = []

    def on_start(self, run):
        step = run.system.step

        def noted(batch, labels=None):
            self.sizes.append(len(batch))
            return step(batch, labels)
        run.system.step = noted


def test_the_last_batch_can_be_left_out(tmp_path):
    data, sizes = tiny_recipe.dataset(50), Sizes()
    training.fit(RECIPE.build(), data, 8, tmp_path / "run", [sizes], drop_last=True, log_every=3, checkpoint_every=5)
    assert sizes.sizes == [16] * 8 and metrics(tmp_path / "run")[0]["epoch"] == "1"
    training.fit(RECIPE.build(), data, 9, tmp_path / "run", [sizes], resume=True)
    assert sizes.sizes == [16] * 9
    with pytest.raises(UserError, match="has drop_last True, not False"):
        training.fit(RECIPE.build(), data, 10, tmp_path / "run", resume=True, drop_last=False)
    sizes = Sizes()
    training.fit(RECIPE.build(), data, 8, callbacks=[sizes])
    assert sizes.sizes == [16, 16, 16, 2] * 2
    with pytest.raises(UserError, match="50 examples, fewer than the batch size 64"):
        training.fit(RECIPE.build(), data, 8, drop_last=True, batch_size=64)


TINY = {"widths_g": (6,), "widths_d": (5,)}


def tiny_images(n):
    images = np.random.default_rng(0).integers(0, 256, (n, 1, 28, 28), np.uint8)
    return Dataset.of("noise", images, None, "made by a test")


def normalising():
    G = Sequential(Linear(4, 8), BatchNorm1d(8), ReLU(), Linear(8, 36), Tanh()).initialize(0, "generator")
    D = Sequential(Linear(36, 1)).initialize(0, "discriminator")
    return Game(G, D, NonSaturating(), Adam(G), Adam(D), latent=Latent(4), sample_shape=tiny_recipe.SHAPE)


def test_an_epoch_has_no_step_for_a_single_example_that_is_left_out(monkeypatch):
    wgan, small = recipes.get("wgan"), {"widths_g": (8, 8), "widths_d": (8,)}
    def length(n, recipe=wgan, settings=small, **more):
        return training.epoch_length(recipe, tiny_images(n), 64, settings, **more)
    assert length(65) == length(66, drop_last=True) == 1
    assert length(66) == length(65, drop_last=False) == length(65, recipes.get("mlp"), TINY) == 2
    assert length(1) == 1  # which the run refuses
    monkeypatch.setattr(ranks, "joined", lambda: SimpleNamespace(rank=0, size=2))
    assert [length(66, sync_bn=sync_bn) for sync_bn in (None, True)] == [1, 2]  # of one example each


def test_a_single_example_is_left_out_where_the_networks_refuse_it(tmp_path):
    sizes, system = Sizes(), normalising()
    training.fit(system, tiny_recipe.images(33), 5, tmp_path / "run", [sizes], batch_size=16)
    assert sizes.sizes == [16] * 5 and json.loads((tmp_path / "run" / "config.json").read_text())["drop_last"] is True
    other = normalising()
    for step in range(5):  # the look at what it refuses has left no trace
        images, _ = Batches(tiny_recipe.dataset(33), 16, 0, drop_last=True).batch(step)
        other.step(scaled(images))
    assert theta(system) == theta(other)
    sizes = Sizes()
    training.fit(RECIPE.build(), tiny_recipe.images(33), 3, callbacks=[sizes])
    assert sizes.sizes == [16, 16, 1]
    with pytest.raises(UserError, match=r"does not take a batch of 1 examples: .* expected more than 1 value"):
        training.fit(normalising(), tiny_recipe.images(33), 5, batch_size=16, drop_last=False)


def test_packs_and_the_last_batch(tmp_path):
    """A last batch that is smaller than a pack is left out; where every batch is, that is told, and nothing written."""
    sizes = Sizes()
    training.start("mlp", tiny_images(18), tmp_path / "run", {**TINY, "pack": 3}, batch_size=8, steps=4,
                   callbacks=[sizes], announce=None)
    assert sizes.sizes == [8] * 4
    with pytest.raises(UserError, match=r"does not take a batch of 2 examples: Pack: .* N >= 3, as many as a pack has"):
        training.start("mlp", tiny_images(18), tmp_path / "other", {**TINY, "pack": 3}, batch_size=2, steps=4,
                       announce=None)
    assert not (tmp_path / "other").exists()


def test_gradient_norms_are_those_of_players_that_learn(tmp_path):
    settings = {**TINY, "n_critic": 3, "objective": "wasserstein", "clip": 0.1}
    keep = {"batch_size": 8, "log_every": 1, "checkpoint_every": 4, "announce": None}
    training.start("mlp", tiny_images(16), tmp_path / "whole", settings, steps=8, **keep)
    training.start("mlp", tiny_images(16), tmp_path / "run", settings, steps=4, **keep)
    training.resume(tmp_path / "run", lambda config: tiny_images(16), steps=8, announce=None)
    rows = [[row["grad_norm_generator"] for row in metrics(tmp_path / name)] for name in ("whole", "run")]
    assert rows[0] == rows[1] and [bool(norm) for norm in rows[0]] == [False, False, True] * 2 + [False, False]
