"""Each warning: said when it should be, once, and not otherwise."""

import numpy as np
import pytest
import tiny_recipe
from tiny_recipe import RECIPE

from scratchgan import recipes, training
from scratchgan.data import load_digits
from scratchgan.gan import Minimax
from scratchgan.layers import BatchNorm1d, Linear, Sequential, Tanh
from scratchgan.optimizers import SGD, Adam
from scratchgan.training import Watch


class Fake:
    """A system that reports what a test wants it to."""

    def __init__(self, score="logit"):
        self.objective = type("Objective", (), {"score": score})
        self.networks = {"generator": Linear(2, 2)}
        self.optimizers = {}
        self.d_real = self.d_fake = 0.5
        self.gradient, self.spread = 1.0, 1.0

    def step(self, batch, labels=None):
        self.networks["generator"].grad[...] = self.gradient
        return {"d_real": self.d_real, "d_fake": self.d_fake}

    def sample(self, n, seed=0, labels=None):
        noise = np.random.default_rng(seed).uniform(-1, 1, (n, *tiny_recipe.SHAPE)).astype(np.float32)
        return self.spread * noise

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Script(training.Callback):
    """Sets the fake system's numbers interval by interval."""

    def __init__(self, intervals):
        self.intervals = intervals

    def on_start(self, run):
        self.on_log(run, None)

    def on_log(self, run, row):
        if not run.finished:
            vars(run.system).update(self.intervals[run.step // 2])


def warnings(intervals, score="logit", watch=None):
    """The steps at which lines were announced, and the lines."""
    lines = []
    training.fit(Fake(score), tiny_recipe.images(), 2 * len(intervals), log_every=2, announce=lines.append,
                 callbacks=[watch or Watch(settling=0), Script(intervals)])
    return [int(line.split()[3].rstrip(":")) for line in lines], lines


FINE = {"d_real": 0.7, "d_fake": 0.3, "gradient": 1.0, "spread": 1.0}
WON = {"d_real": 0.999, "d_fake": 0.001, "gradient": 1e-4, "spread": 1.0}
FLAT = {**FINE, "spread": 0.01}


def test_the_discriminator_has_won():
    steps, lines = warnings([FINE, WON, WON, WON, WON, WON])
    assert steps == [8] and "discriminator has won" in lines[0] and "try" in lines[0] and "\n" not in lines[0]


def test_a_resumed_run_knows_how_large_the_gradient_was():
    run = type("Run", (), {"system": Fake(), "history": [{"grad_norm_generator": 1.0}], "step": 2, "batches": type(
        "Batches", (), {"batch": lambda self, step: (tiny_recipe.images() / 255, None)})()})()
    watch = Watch()
    watch.on_start(run)
    assert watch.won({"d_real": 0.999, "d_fake": 0.001, "grad_norm_generator": 1e-4})
    run.history = []
    watch.on_start(run)
    assert not watch.won({"d_real": 0.999, "d_fake": 0.001, "grad_norm_generator": 1e-4})


def test_once_an_episode():
    assert warnings([FINE, WON, WON, WON, WON, FINE, WON, WON, WON])[0] == [8, 18]
    assert warnings([FINE, WON, WON, FINE, WON, WON, FINE])[0] == []


@pytest.mark.parametrize("part", [{"d_real": 0.9}, {"d_fake": 0.1}, {"gradient": 0.5}])
def test_it_has_not_won_yet(part):
    assert warnings([FINE] + 5 * [{**WON, **part}])[0] == []


def test_scores_that_are_no_probabilities():
    assert warnings([FINE] + 5 * [WON], score="real")[0] == []


def test_the_samples_have_collapsed():
    steps, lines = warnings([FINE, FLAT, FLAT, FLAT, FLAT, FINE, FLAT, FLAT, FLAT])
    assert steps == [8, 18] and "collapsed" in lines[0] and "try" in lines[0]
    assert warnings([FINE, FLAT, FLAT, FLAT], watch=Watch(patience=1, settling=0))[0] == [4]
    assert warnings([FINE, FLAT, FLAT, FLAT], watch=Watch(spread=0.001, settling=0))[0] == []


def test_an_untrained_generator_has_not_collapsed():
    assert warnings([FLAT] * 6, watch=Watch(settling=8))[0] == []
    assert warnings([FLAT] * 8, watch=Watch(settling=8))[0] == [14]  # the intervals that end at 10, 12 and 14


@pytest.mark.parametrize(("settling", "said"), [(100, 0), (0, 1)])
def test_the_first_steps_of_dcgan_are_no_collapse(settling, said):
    """Its samples are made with running statistics, which are those of no batch yet."""
    lines = []
    game = recipes.get("dcgan28").build(seed=0, ngf=8, ndf=8)
    training.fit(game, load_digits(28), 4, batch_size=4, log_every=1, callbacks=[Watch(settling=settling)],
                 announce=lines.append)
    assert len(lines) == said


def test_advice_that_fits():
    flat = {**FLAT, "networks": {"generator": Sequential(Linear(2, 2), BatchNorm1d(2))}}
    assert "batch normalisation" in warnings([FLAT] * 3)[1][0]
    assert "batch normalisation" not in warnings([flat] * 3)[1][0]


def test_data_of_one_image_may_have_samples_of_one_image():
    lines = []
    system = Fake()
    system.spread = 0.0
    training.fit(system, np.zeros((4, *tiny_recipe.SHAPE), np.float32), 10, log_every=2, announce=lines.append)
    assert lines == []


def test_a_real_discriminator_that_wins(data):
    """Minimax, G stands still while D learns fast: the gradient that comes through D vanishes."""
    game = tiny_recipe.make(0, "cpu", 8, 0.0, objective=Minimax(), optimizer_d=lambda D: Adam(D, 0.1))
    game.discriminator[2].p = 0.0  # whose dropout would now and then let a gradient through
    lines = []
    training.fit(game, data, 400, log_every=20, announce=lines.append)
    assert [line for line in lines if "discriminator has won" in line]


def test_a_real_generator_that_ignores_z(data):
    game = RECIPE.build()
    game.generator[0].params["weight"][...] = 0
    game.optimizer_g.schedules["lr"] = 0.0
    lines = []
    training.fit(game, data, 140, log_every=10, announce=lines.append)
    assert len(lines) == 1 and "at step 130: the samples have collapsed" in lines[0]


def test_a_healthy_run_is_left_in_peace():
    lines = []
    training.start("mlp", load_digits(), device="cpu", steps=80, log_every=20, threads=1, announce=lines.append)
    assert lines == []


def test_watch_is_there_unless_it_is_there_already(data):
    own = Watch(patience=1)
    run = training.start("tiny", data, device="cpu", steps=2, callbacks=[own])
    assert run.callbacks == [own]
    run = training.start("tiny", data, device="cpu", steps=2)
    assert [type(callback) for callback in run.callbacks] == [Watch]


def test_watching_does_not_change_the_training(data):
    class Blind(Watch):
        def on_start(self, run):
            pass

        def on_log(self, run, row):
            pass

    thetas = []
    for watch in (Blind(), Watch()):
        game = RECIPE.build()
        training.fit(game, data, 12, log_every=3, callbacks=[watch])
        thetas.append(game.generator.theta.tobytes())
    assert thetas[0] == thetas[1]


def test_generators_for_which_there_is_no_gradient_row(data):
    """A system without a network named generator is watched for collapse only."""
    system = Fake()
    system.networks = {"decoder": Sequential(Linear(2, 2), Tanh())}
    system.step = lambda batch, labels=None: {"loss": 1.0}
    system.optimizers = {"decoder": SGD(system.networks["decoder"])}
    assert training.fit(system, data, 4, log_every=2)[-1]["loss"] == 1.0
