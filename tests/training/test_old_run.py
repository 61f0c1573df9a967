"""A run folder of an older version loads, resumes to what that made of it, samples and plots: see old_run/README.md."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_recipe
from safetensors.numpy import load_file

from scratchgan import data, recipes, training
from scratchgan.cli import main
from scratchgan.training import environment

OLD = Path(__file__).with_name("old_run")


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(OLD / "run", tmp_path / "run"))


@pytest.fixture
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28), np.uint8)
    return data.Dataset.of("old", images, None, "random numbers")


def test_it_resumes_to_what_the_old_code_made_of_it(run, dataset):
    lines = []
    training.resume(run, lambda config: dataset, steps=11, announce=lines.append)
    config = json.loads((OLD / "more" / "config.json").read_text())
    same_machine = (config["blas"], config["versions"]["numpy"]) == (environment.blas_name(), np.__version__)
    assert same_machine != bool(lines)
    for file in (OLD / "more" / "checkpoints" / "step-00000011").glob("*.safetensors"):
        ours, theirs = load_file(run / "checkpoints" / "step-00000011" / file.name), load_file(file)
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            # Convolutions of 2 to 7 channels have since added up in another order; another BLAS has one of its own.
            np.testing.assert_allclose(ours[key], value, rtol=1e-6 if same_machine else 1e-4, atol=1e-6,
                                       err_msg=f"{file.name}, {key}")
    columns = ("loss_d", "loss_g", "d_real", "d_fake", "d_fake_after", "grad_norm_generator")
    ours, theirs = (training.RunFolder.open(path, lock=False).rows() for path in (run, OLD / "more"))
    assert [row["step"] for row in ours] == [2, 4, 6, 8, 10, 11]
    for mine, old in zip(ours, theirs, strict=True):
        assert list(mine) == list(old) and [mine[name] for name in columns] == pytest.approx(
            [old[name] for name in columns], rel=1e-6 if same_machine else 1e-4)


def test_it_loads_samples_and_plots(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    game = training.load(run)
    assert game.steps == 7 and game.record["facts"] == {"shape": (1, 28, 28)}
    theirs = load_file(OLD / "run" / "checkpoints" / "step-00000007" / "generator.safetensors")
    assert all(np.array_equal(value, theirs[key]) for key, value in game.generator.state_dict().items())
    assert game.sample(3).shape == (3, 1, 28, 28)
    assert main(["sample", str(run), "-n", "4", "--out", "four.npy"]) == 0
    assert np.load("four.npy").shape == (4, 1, 28, 28)
    assert main(["plot", str(run), "--out", "curves.svg"]) == 0
    assert training.panels_of(training.RunFolder.open(run, lock=False)) == game.panels


def test_a_run_of_a_recipe_that_had_fewer_settings(begun, data):
    """Those that came later had what is now their default."""
    folder = begun(20, crash=12, settings={"lr": 2e-3})
    config = json.loads((folder / "config.json").read_text())
    for name in ("facts", "panels", "drop_last", "sample_every"):
        del config[name]
    del config["settings"]["hidden"]
    (folder / "config.json").write_text(json.dumps(config))
    assert training.load(folder).record["settings"] == {"hidden": 8, "lr": 2e-3}
    assert training.resume(folder, lambda config: tiny_recipe.dataset()).finished


def test_an_old_run_of_mlp_builds_the_same_networks():
    settings = {"z_dim": 64, "lr_g": 3e-4, "lr_d": 3e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
                "negative_slope": 0.1}
    recipe = recipes.get("mlp")
    facts, settings = recipe.as_recorded({"settings": settings, "data": {"shape": [1, 28, 28]}})
    old, new = recipe.build(5, "cpu", facts, **settings), recipe.build(5)
    assert old.generator.theta.tobytes() == new.generator.theta.tobytes() and old.record == new.record
