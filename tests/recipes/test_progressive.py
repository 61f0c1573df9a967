"""The recipe progressive: its sizes and settings, runs across a change of stage."""

from pathlib import Path

import numpy as np
import pytest

import scratchgan
from scratchgan import backend, data, recipes, training
from scratchgan.cli import main
from scratchgan.errors import UserError
from scratchgan.training import Callback

TINY = {"z_dim": 3, "widths": (3, 2, 2)}
NOISE = data.Dataset.of("noise", np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), np.uint8), None, "a test")


class Crash(Callback):
    def on_step(self, run):
        if run.step == 4:
            raise InterruptedError


def start(out, steps, callbacks=(), **settings):
    return training.start("progressive", NOISE, out, {**TINY, **settings}, device="cpu", batch_size=4, steps=steps,
                          threads=1, checkpoint_every=3, callbacks=callbacks, announce=None)


def resume(out, **options):
    return training.resume(out, lambda config: NOISE, announce=None, **options)


def files(out, step):
    folder = out / "checkpoints" / f"step-{step:08d}"
    return [(folder / f"{name}.safetensors").read_bytes() for name in ("generator", "discriminator", "optimizers")]


def test_published_settings():
    recipe = recipes.get("progressive")
    assert recipe.batch_size == 64 and recipe.epochs == 50
    game = recipe.build(seed=0)
    assert game.objective.name == "wasserstein" and game.objective.drift == 0.001 and game.n_critic == 1
    assert [repr(part) for part in game.penalties] == ["GradientPenalty(10.0)"]
    for optimizer in game.optimizers.values():
        assert (optimizer.lr, optimizer.betas, optimizer.eps) == (1e-3, (0.0, 0.99), 1e-8)
    G, D = game.generator.state_dict(), game.discriminator.state_dict()
    assert G["blocks.0.0.weight"].shape == (64 * 49, 128) and D["blocks.0.3.weight"].shape == (1, 64 * 49)
    assert [G[f"images.{i}.weight"].shape[:2] for i in range(3)] == [(1, 64), (1, 64), (1, 32)]
    assert [D[f"blocks.{i}.{j}.weight"].shape[:2] for i in (2, 1) for j in (0, 2)] == [
        (32, 32), (64, 32), (64, 64), (64, 64)]
    assert abs(G["blocks.1.1.weight"].std() - (2 / 1.04 / 576) ** 0.5) < 1e-3 and not G["blocks.1.1.bias"].any()


def test_the_steps_of_a_run_are_those_of_its_stages(tmp_path):
    start(tmp_path / "run", 6)
    run = resume(tmp_path / "run", steps=8)  # made longer, it keeps its past
    assert run.system.record["settings"]["decay_steps"] == 6 and run.system.growth.steps == 6
    start(tmp_path / "same", 8, decay_steps=6)
    assert files(tmp_path / "run", 8) == files(tmp_path / "same", 8)


def test_a_run_that_is_killed_and_resumed_keeps_its_bits(tmp_path):
    """Stages of 3 steps: it is killed after step 4, in the second, and goes on at 3, where that begins."""
    start(tmp_path / "whole", 9)
    with pytest.raises(InterruptedError):
        start(tmp_path / "broken", 9, [Crash()])
    run = resume(tmp_path / "broken")
    assert files(tmp_path / "whole", 9) == files(tmp_path / "broken", 9)
    assert [optimizer.steps for optimizer in run.system.optimizers.values()] == [3, 3]
    loaded = scratchgan.load(tmp_path / "whole" / "checkpoints" / "step-00000003")
    assert loaded.fakes(1).shape[-1] == 14 and scratchgan.load(tmp_path / "whole").fakes(1).shape[-1] == 28


def test_rates_decay_in_each_stage(tmp_path):
    run = start(tmp_path / "run", 9, schedule="linear", lr_final=0.1)
    assert run.system.optimizer_d.lr == pytest.approx(1e-3 * (1 - 0.9 * 2 / 3))  # of the third step of three
    assert run.system.optimizer_d.steps == 3


def test_steps_are_the_same_on_every_device(device):
    host, there = (recipes.get("progressive").build(seed=3, device=each, steps=6, **TINY) for each in ("cpu", device))
    images = np.random.default_rng(1).uniform(-1, 1, (6, 4, 1, 28, 28)).astype(np.float32)
    for x in images:
        mine, theirs = host.step(x), there.step(backend.to_device(x, device))
        assert all(abs(mine[key] - theirs[key]) < 1e-3 * max(1, abs(mine[key])) for key in mine)
    assert there.sample(2).shape == (2, 1, 28, 28)


@pytest.mark.parametrize("widths", [(4, 4, 4, 4), (2,) * 9])
def test_images_that_cannot_be_halved(widths):
    with pytest.raises(UserError, match="images of 28x28 cannot be halved"):
        recipes.get("progressive").build(widths=widths)


@pytest.mark.usefixtures("alone")
def test_train_and_sample(capsys):
    assert main(["train", "progressive", "--data", "digits", "--batch-size", "2", "--steps", "6", "--device", "cpu",
                 "--z-dim", "3", "--widths", "2,2,2"]) == 0
    assert "size 28.000" in capsys.readouterr().out
    assert scratchgan.load(Path("runs/progressive")).sample(2).shape == (2, 1, 28, 28)
    assert main(["sample", "runs/progressive", "-n", "4"]) == 0
    assert main(["recipes", "progressive"]) == 0
    assert "growth: images 7x7, 14x14, 28x28" in capsys.readouterr().out
