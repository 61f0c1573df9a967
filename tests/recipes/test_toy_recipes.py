"""The recipes ring8, grid25 and spiral: sizes, runs, and what a person gets to see."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import call, fails
from PIL import Image

from scratchgan import data, recipes, training
from scratchgan.cli import main
from scratchgan.gan import PointGame

NAMES = ("ring8", "grid25", "spiral")
MEASURES = ("modes", "fair", "hq", "kl")


@pytest.mark.parametrize("name, hidden, batch_size, steps, scale",
                         [("ring8", 2, 64, 10_000, 1), ("grid25", 3, 128, 20_000, 4), ("spiral", 3, 128, 20_000, 4)])
def test_sizes_and_schedule(name, hidden, batch_size, steps, scale, device):
    recipe = recipes.get(name)
    system = recipe.build(device=device)
    inner = 64 * 64 + 64
    assert isinstance(system, PointGame) and system.sample_shape == (2,) and system.scale == scale
    assert system.generator.theta.size == 3 * 64 + (hidden - 1) * inner + 65 * 2
    assert system.discriminator.theta.size == 3 * 64 + (hidden - 1) * inner + 65
    assert (system.optimizer_g.lr, system.optimizer_d.lr) == (3e-3, 1e-3)
    assert system.optimizer_g.betas == system.optimizer_d.betas == (0.5, 0.999)
    assert system.latent.z_dim == 2 and system.objective.name == "non-saturating"
    assert recipe.batch_size == batch_size and recipe.data == name
    assert recipe.default_steps(None) == steps
    assert (system.modes is None) == (name == "spiral")


def test_measures_are_of_the_data_that_are_learned():
    recipe = recipes.get("ring8")
    grid = recipe.build(facts=recipe.learn(data.load("grid25")))
    assert len(grid.modes["centres"]) == 25 and recipe.build(facts=recipe.learn(data.load("spiral"))).measure() == {}
    assert json.loads(json.dumps(grid.record["facts"])) == {"shape": [2], "modes": data.load("grid25").modes}


# -- the command line -----------------------------------------------------------------------------------------------

CPU = ("--device", "cpu", "--threads", "1")


@pytest.mark.usefixtures("alone")
def test_train_from_one_word_to_pictures_and_samples(capsys):
    out = call(capsys, "train", "ring8", "--steps", "50", "--sample-every", "25", *CPU)
    assert out.startswith("training ring8 on ring8: new points for every step\n")
    assert "modes covered 0, fairly covered 0, high quality 0.000, KL 4.5" in out and "epoch" not in out
    folder = Path("runs/ring8")
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50 and rows[-1].keys() > {"loss_d", "loss_g", *MEASURES}
    with Image.open(folder / "training.gif") as frames:
        assert frames.n_frames == 3 and frames.size[0] == 480
    assert (folder / "curves.png").exists() and not (folder / "real.png").exists()
    more = out.splitlines()[-1].removeprefix("more samples: scratchgan ").split()
    assert "wrote 1,000 samples from seed 0 to runs/ring8/sample.png" in call(capsys, *more)
    call(capsys, "sample", folder, "--real")
    with Image.open(folder / "real.png") as image:
        assert image.size == (480, 500)
    call(capsys, "sample", folder, "-n", "7", "--out", "points.npy")
    assert np.array_equal(np.load("points.npy"), training.load(folder).sample(7))
    call(capsys, "train", "--resume", folder, "--steps", "60")
    assert training.RunFolder.open(folder, lock=False).rows()[-1]["step"] == 60
    call(capsys, "plot", folder)
    for more, words in ((["--interpolate", "1", "2"], "only images can be shown from one seed to"),
                        (["--out", "there/"], "give --out NAME.png, NAME.npy or NAME.npz")):
        assert words in call(capsys, "sample", folder, *more, status=2)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", NAMES)
def test_length_and_data_are_the_recipe_s(capsys, name, monkeypatch):
    asked = {}
    monkeypatch.setattr(training, "start", lambda *given, **options: asked.update(options, data=given[1]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", name, *CPU])
    assert asked["steps"] == recipes.get(name).steps and asked["data"].name == name


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("command, words", [
    ("train ring8 --data mnist", "recipe ring8 learns points of the plane, which mnist are not: leave --data out, or "
                                 "give ring8, grid25, spiral"),
    ("train mlp --data ring8", "recipe mlp learns images, ring8 are points of the plane"),
    ("train ring8 --epochs 3", "--epochs cannot be given: ring8 has no end; give --steps"),
    ("train ring8 --channels 3", "recipe ring8 makes no images: leave --channels out"),
    ("train ring8 --flip", "ring8: only images can be mirrored"),
    ("train spiral --z-dim 0", "--z-dim must be a whole number, 1 or more")])
def test_what_does_not_fit_is_told_in_a_sentence(command, words, capsys, tmp_path):
    fails(command, capsys, tmp_path, words)


def test_data_of_another_shape_are_refused():
    for name, source in (("ring8", data.load("digits")), ("mlp", data.load("ring8"))):
        with pytest.raises(data.UserError, match=r"takes examples of shape .*, not .*: (give it such|load the) data"):
            training.start(name, source, announce=None)
    with pytest.raises(data.UserError, match=r"shape \(2,\), not \(3,\): give it such data, as data.load\('ring8'\)"):
        recipes.get("ring8").build(facts={"shape": (3,)})
