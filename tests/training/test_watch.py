"""What a system warns of: said when it should be, once, and not otherwise."""

import numpy as np
import pytest
import tiny_recipe
from tiny_recipe import RECIPE

from scratchgan import Linear, System, recipes, training
from scratchgan.data import load_digits
from scratchgan.gan import Minimax, shown
from scratchgan.optimizers import Adam
from scratchgan.training import Watch


class Fake(System):
    """A system that warns of what a test wants it to; `std` that of its samples, as a share."""

    sample_shape = tiny_recipe.SHAPE

    def __init__(self, intervals=()):
        self.networks, self.optimizers = {"net": Linear(2, 2)}, {}
        self.intervals, self.rows, self.std = intervals, [], 1.0

    def step(self, batch, labels=None):
        self.steps += 1
        return {"loss": 1.0}

    def sample(self, n, seed=0, labels=None):
        noise = np.random.default_rng(seed).uniform(-1, 1, (n, *self.sample_shape)).astype(np.float32)
        return self.std * noise

    def warnings(self, row):
        self.rows.append(row)
        return self.intervals[row["step"] // 2 - 1] if self.intervals else []


def told(intervals, watch=None):
    """The (step, warning) that were announced; the intervals are of two steps."""
    lines = []
    training.fit(Fake(intervals), tiny_recipe.images(), 2 * len(intervals), log_every=2, announce=lines.append,
                 callbacks=[watch or Watch()])
    assert all(line.startswith("Warning at step ") and line.endswith(".") for line in lines)
    return [(int(line.split()[3].rstrip(":")), line.split()[4].rstrip(".")) for line in lines]


def test_a_warning_must_hold_for_some_intervals():
    assert told([[], ["a"], ["a"], ["a"], ["a"], ["a"]]) == [(8, "a")]
    assert told([["a"], ["a"], [], ["a"], ["a"]]) == []
    assert told([["a"], ["a"]], Watch(patience=1)) == [(2, "a")]


def test_once_an_episode_each_of_several():
    a, b = ["a"], ["b"]
    assert told([a, a, a, a, [], a, a, a]) == [(6, "a"), (16, "a")]
    assert told([a, a + b, a + b, b, b]) == [(6, "a"), (8, "b")]


def test_the_deviation_of_the_samples_beside_that_of_the_data():
    system = Fake()
    training.fit(system, tiny_recipe.images(), 4, log_every=2)
    assert [row["sample_std"] for row in system.rows] == pytest.approx([1, 1], rel=0.1)  # both uniform
    system.std = 0.25
    training.fit(system, tiny_recipe.images(), 2, log_every=2)
    assert system.rows[-1]["sample_std"] == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_the_deviation_of_the_data_is_not_that_of_one_batch(batch_size):
    system = Fake()
    training.fit(system, tiny_recipe.images(), 4, log_every=4, batch_size=batch_size)
    assert system.rows[0]["sample_std"] == pytest.approx(1, rel=0.1)


def test_no_deviation_where_there_is_nothing_to_compare():
    class Silent(Fake):
        sample = System.sample
    for system, images in ((Silent(), tiny_recipe.images()), (Fake(), np.zeros((4, *tiny_recipe.SHAPE), np.float32)),
                           (Fake(), np.repeat(tiny_recipe.images(1), 64, axis=0)),
                           (Fake(), np.full((64, *tiny_recipe.SHAPE), 0.1, np.float32))):
        training.fit(system, images, 4, log_every=2)
        assert len(system.rows) == 2 and all("sample_std" not in row for row in system.rows)


def test_a_resumed_run_is_told_of_the_rows_before(tmp_path):
    options = {"log_every": 2, "checkpoint_every": 2}
    training.fit(Fake(), tiny_recipe.images(), 4, tmp_path / "run", **options)
    system = Fake()
    training.fit(system, tiny_recipe.images(), 6, tmp_path / "run", resume=True)
    assert [row["step"] for row in system.rows] == [2, 4, 6] and "sample_std" not in system.rows[1]


# -- of a game -----------------------------------------------------------------------------------------------------


def test_a_real_discriminator_that_wins(data):
    """Minimax, G stands still while D learns fast: the gradient that comes through D vanishes."""
    game = tiny_recipe.make(lr=0.0, objective=Minimax(), optimizer_d=lambda D: Adam(D, 0.1))
    game.discriminator[2].p = 0.0  # whose dropout would now and then let a gradient through
    lines = []
    training.fit(game, data, 400, log_every=20, announce=lines.append)
    assert [line for line in lines if "discriminator has won" in line]


@pytest.mark.parametrize("batch_size", [16, 1])
def test_a_real_generator_that_ignores_z(data, batch_size):
    game = RECIPE.build()
    game.generator[0].params["weight"][...] = 0
    game.optimizer_g.schedules["lr"] = 0.0
    lines = []
    training.fit(game, data, 140, log_every=10, announce=lines.append, batch_size=batch_size)
    assert len(lines) == 1 and "at step 130: the samples have collapsed" in lines[0]


@pytest.mark.parametrize(("settling", "said"), [(100, 0), (0, 1)])
def test_the_first_steps_of_dcgan_are_no_collapse(settling, said, monkeypatch):
    """Its samples are made with running statistics, which are those of no batch yet."""
    monkeypatch.setattr(shown.ShownGame, "settling", settling)
    lines = []
    game = recipes.get("dcgan28").build(seed=0, ngf=8, ndf=8)
    training.fit(game, load_digits(28), 4, batch_size=4, log_every=1, announce=lines.append)
    assert len(lines) == said


def test_a_healthy_run_is_left_in_peace():
    lines = []
    training.start("mlp", load_digits(), device="cpu", steps=80, log_every=20, threads=1, announce=lines.append)
    assert lines == []


# -- the callback --------------------------------------------------------------------------------------------------


def test_watch_is_there_unless_it_is_there_already(data):
    own = Watch(patience=1)
    run = training.start("tiny", data, device="cpu", steps=2, callbacks=[own])
    assert run.callbacks == [own]
    run = training.start("tiny", data, device="cpu", steps=2)
    assert [type(callback) for callback in run.callbacks] == [Watch]


def test_callbacks_are_callbacks_or_none(data):
    training.fit(RECIPE.build(), data, 1, callbacks=None, announce=None)
    for wrong in ([5], [Watch], [print]):
        with pytest.raises(TypeError, match="callbacks must be Callbacks"):
            training.fit(RECIPE.build(), data, 1, callbacks=wrong, announce=None)


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
