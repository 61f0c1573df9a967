"""Runs whose rates decay: over the steps that were first asked for, whatever happens to the run."""

import numpy as np
import pytest
from tiny_recipe import Crash, CrashAt, metrics, weights

from scratchgan import data, training
from scratchgan.errors import UserError

SETTINGS = {"z_dim": 3, "widths_g": (4,), "widths_d": (4,), "schedule": "cosine", "lr": 0.01, "lr_final": 0.1,
            "beta2": 0.9, "beta2_final": 0.99, "n_critic": 2}
NOISE = data.Dataset.of("noise", np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28), np.uint8), None, "a test")


def start(folder, steps, callbacks=(), **settings):
    return training.start("mlp", NOISE, folder, {**SETTINGS, **settings}, steps=steps, device="cpu", batch_size=8,
                          log_every=5, checkpoint_every=4, callbacks=callbacks, announce=None)


def resume(folder, **options):
    return training.resume(folder, lambda config: NOISE, announce=None, **options)


def decay_steps(folder):
    return training.RunFolder.open(folder, lock=False).config["settings"]["decay_steps"]


def test_a_run_that_is_killed_and_resumed_keeps_its_bits(tmp_path):
    start(tmp_path / "whole", 20)
    for step, go in ((9, lambda *callbacks: start(tmp_path / "broken", 20, *callbacks)),
                     (14, lambda callbacks: resume(tmp_path / "broken", callbacks=callbacks))):
        with pytest.raises(Crash):
            go([CrashAt(step)])
    run = resume(tmp_path / "broken")
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "broken")
    assert decay_steps(tmp_path / "broken") == 20
    of_g, of_d = run.system.optimizers.values()
    assert (of_g.steps, of_d.steps) == (10, 20)
    assert 0.001 < of_d.lr < 0.0012 and 0.989 < of_d.betas[1] < 0.99 and of_g.lr == pytest.approx(0.00122, abs=1e-5)


def test_a_run_made_longer_keeps_its_past(tmp_path):
    start(tmp_path / "run", 10)
    run = resume(tmp_path / "run", steps=16)
    assert decay_steps(tmp_path / "run") == 10 and run.system.optimizer_d.lr == pytest.approx(0.001)
    start(tmp_path / "same", 16, decay_steps=10)
    assert weights(tmp_path / "run") == weights(tmp_path / "same")
    start(tmp_path / "slower", 16)  # decays over 16
    assert decay_steps(tmp_path / "slower") == 16 and weights(tmp_path / "slower") != weights(tmp_path / "same")


def test_the_steps_of_a_run_are_checked_before_it_is_built(tmp_path):
    for steps in (0, 2.5, "many"):
        with pytest.raises(UserError, match="steps must be a whole number, 1 or more, not "):
            start(tmp_path / "run", steps)
