"""The loop: what it computes, tells, writes and refuses."""

import errno
import json
import math
import os

import numpy as np
import pytest
import tiny_recipe
from tiny_recipe import RECIPE, metrics, weights

from scratchgan import training
from scratchgan.data.batches import Batches
from scratchgan.errors import UserError
from scratchgan.system import System, scaled
from scratchgan.training.run import norm


def theta(game):
    return game.generator.theta.tobytes() + game.discriminator.theta.tobytes()


def test_the_history_is_the_mean_of_each_interval(data):
    game = RECIPE.build(seed=1)
    history = training.fit(game, data, 11, log_every=4)
    same = RECIPE.build(seed=1)
    batches = Batches(data, RECIPE.batch_size, seed=1)
    steps, norms = [], {}
    for step in range(11):
        images, labels = batches.batch(step)
        steps.append(dict(same.step(scaled(images), labels)))
        norms[step + 1] = np.linalg.norm(same.generator.grad), np.linalg.norm(same.discriminator.grad)
    assert theta(game) == theta(same)
    assert [row["step"] for row in history] == [4, 8, 11]
    assert [row["epoch"] for row in history] == [1, 2, 2]
    for row, part in zip(history, (steps[:4], steps[4:8], steps[8:]), strict=True):
        for name in ("loss_d", "loss_g", "d_real", "d_fake", "d_fake_after"):
            assert row[name] == pytest.approx(np.mean([values[name] for values in part]), rel=1e-12)
        assert (row["grad_norm_generator"], row["grad_norm_discriminator"]) == pytest.approx(norms[row["step"]], 1e-5)
        assert row["images_per_second"] > 0 and row["seconds"] > 0


def test_a_run_folder_holds_everything(begun, data):
    folder = begun(12, seed=3, settings={"lr": 2e-3}, sample_every=6, flip=True, keep=2, threads=1)
    config = json.loads((folder / "config.json").read_text())
    assert config["recipe"] == "tiny" and config["settings"] == {"hidden": 8, "lr": 2e-3}
    assert config["facts"] == {"shape": [1, 6, 6]}
    expected = {"seed": 3, "weights_seed": 3, "batch_size": 16, "steps": 12, "log_every": 5, "sample_every": 6,
                "checkpoint_every": 5, "keep": 2, "flip": True, "drop_last": False,
                "device": "cpu", "dtype": "float32", "threads": 1}
    assert {name: config[name] for name in expected} == expected
    assert config["data"] == {"name": "noise", "source": "made by a test", "sha256": data.sha256, "size": 50,
                              "shape": [1, 6, 6]}
    assert config["versions"]["numpy"] == np.__version__ and config["versions"]["scratchgan"] and config["blas"]
    assert sorted(os.listdir(folder)) == ["checkpoints", "config.json", "metrics.csv", "samples"]
    assert sorted(os.listdir(folder / "checkpoints")) == ["step-00000010", "step-00000012"]
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert header == ("step,epoch,loss_d,d_real,d_fake,loss_g,d_fake_after,grad_norm_generator,"
                      "grad_norm_discriminator,images_per_second,seconds")


def test_no_folder_no_files(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(training.fit(RECIPE.build(), data, 4, log_every=2)) == 2
    assert os.listdir(tmp_path) == []


def test_steps_by_default(data, tmp_path):
    assert RECIPE.default_steps(4) == 20           # two epochs of 4 are less than min_steps
    assert RECIPE.default_steps(13) == 26
    assert RECIPE.default_steps(None) == 20        # data without an end
    assert training.start("tiny", data, device="cpu", batch_size=4).step == 26


def test_arrays_train_as_data_sets_do(data):
    def trained(array, **options):
        game = RECIPE.build()
        training.fit(game, array, 9, seed=2, **options)
        return theta(game)
    assert trained(data.images) == trained(data)
    floats = scaled(data.images)
    assert trained(floats) == trained(data)
    assert trained(floats, flip=True) == trained(data, flip=True) != trained(data)
    assert trained(floats.astype(np.float64)) == trained(data)
    assert floats.tobytes() == scaled(data.images).tobytes()  # the caller's array is as it was


@pytest.mark.parametrize("array, words", [
    (np.full((5, 1, 6, 6), 2.0, np.float32), "from -1 to 1: scale"),
    (np.full((5, 1, 6, 6), np.nan), "NaN or infinite: remove them"),
    (np.zeros((5, 1, 6, 6), np.int64), "not int64 of shape"),
    (np.zeros((0, 1, 6, 6)), "not float64 of shape"),
    (np.zeros((5, 1, 7, 6), np.float32), r"have shape \(1, 7, 6\), the system takes \(1, 6, 6\)"),
    ([1, 2], "must be a data set, another Source or a NumPy array")])
def test_data_that_do_not_fit(array, words, tmp_path):
    with pytest.raises(UserError, match=words):
        training.fit(RECIPE.build(), array, 5, tmp_path / "run")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", [{"steps": 0}, {"batch_size": 0}, {"log_every": -1}, {"checkpoint_every": 2.5},
                                     {"keep": 0}, {"threads": 0}, {"sample_every": True}])
def test_numbers_that_make_no_sense(data, tmp_path, options):
    with pytest.raises(UserError, match=f"{next(iter(options))} must be a whole number"):
        training.fit(RECIPE.build(), data, options.pop("steps", 5), tmp_path / "run", **options)
    assert os.listdir(tmp_path) == []


def test_what_is_no_system(data):
    with pytest.raises(TypeError, match=r"expected a System .*got list"):
        training.fit([], data, 5)


# -- callbacks -----------------------------------------------------------------------------------------------------


class Everything(training.Callback):
    """Notes what it is told, and looks at all it may look at."""

    def __init__(self):
        self.told = []

    def note(self, run, event, *what):
        self.told.append((event, run.step))
        run.system.sample(3, seed=run.step)
        [network.grad.sum() for network in run.system.networks.values()]
        run.batches.batch(run.step + 5)

    def on_start(self, run):
        self.note(run, "start")

    def on_step(self, run):
        self.note(run, "step")

    def on_log(self, run, row):
        self.note(run, "log")
        assert row is run.history[-1] and row["step"] == run.step

    def on_checkpoint(self, run, path):
        self.note(run, "checkpoint")
        assert path == run.folder.checkpoints / f"step-{run.step:08d}" and (path / "state.json").exists()

    def on_end(self, run):
        self.note(run, "end")
        assert run.finished and run.epoch == 1 and run.steps == 6 and run.folder.samples.is_dir()


def test_callbacks_are_told_and_cannot_change_the_training(data, tmp_path):
    watcher = Everything()
    options = {"device": "cpu", "steps": 6, "log_every": 3, "checkpoint_every": 4}
    training.start("tiny", data, tmp_path / "a", callbacks=[watcher], **options)
    assert watcher.told == [("start", 0), ("checkpoint", 0), ("step", 1), ("step", 2), ("step", 3), ("log", 3),
                            ("step", 4), ("checkpoint", 4), ("step", 5), ("step", 6), ("log", 6), ("checkpoint", 6),
                            ("end", 6)]
    training.start("tiny", data, tmp_path / "b", **options)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


def test_metrics_are_not_read_within_an_interval(data):
    """Reading a number waits for the device."""
    reads = []

    class Lazy(dict):
        def __getitem__(self, name):
            reads.append(run_steps[-1])
            return super().__getitem__(name)

    class Fake(System):
        networks, optimizers = RECIPE.build().networks, {}

        def step(self, batch, labels=None):
            return Lazy(loss=1.0)

        def sample(self, n, seed=0, labels=None):
            return np.zeros((n, 1, 6, 6), np.float32)

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    class Steps(training.Callback):
        def on_step(self, run):
            run_steps.append(run.step)

    run_steps = [0]
    history = training.fit(Fake(), data, 6, log_every=3, callbacks=[Steps()], announce=lambda line: None)
    assert set(reads) == {3, 6}
    assert [row["loss"] for row in history] == [1.0, 1.0]


def test_metrics_are_on_the_disk_before_a_checkpoint_that_is_ahead_of_them(begun, tmp_path, monkeypatch):
    fsync, rename, told = os.fsync, os.rename, []
    metrics_file = tmp_path / "run" / "metrics.csv"

    def synced(descriptor):
        if metrics_file.exists() and os.path.samestat(os.fstat(descriptor), metrics_file.stat()):
            told.append(len(metrics(metrics_file.parent)))
        fsync(descriptor)

    def renamed(source, target):
        if os.path.basename(target).startswith("step-"):
            told.append(os.path.basename(target))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    begun(10, log_every=3)
    assert told == ["step-00000000", 1, "step-00000005", 4, "step-00000010"]


# -- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_refused(begun, data):
    folder = begun(5)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="already holds a run: choose another --out, or continue it with --resume"):
        begun(5)
    with pytest.raises(UserError, match="already holds a run"):
        training.fit(RECIPE.build(), data, 5, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_folders_that_can_be_used(begun, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    begun(5, out=tmp_path)
    begun(5, out=tmp_path / "a" / "b" / "c")
    assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "a" / "b" / "c" / "metrics.csv").exists()


def test_paths_that_cannot_be_written(begun, tmp_path):
    (tmp_path / "file").write_text("mine")
    for path, words in ((tmp_path / "file", "file is a file; choose another --out"),
                        (tmp_path / "file" / "run", "file is a file; choose another --out"),
                        (tmp_path / ("x" * 300), "File name too long"),
                        (tmp_path / "new" / ("x" * 300), "File name too long")):
        with pytest.raises(UserError, match=f"Cannot write a run to .*{words}"):
            begun(5, out=path)
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("function, number", [("mkdir", 2), ("fsync", 1), ("replace", 1), ("fsync", 2)])
def test_nothing_is_left_behind_where_a_run_cannot_be_made(begun, tmp_path, monkeypatch, function, number):
    original, calls = getattr(os, function), []

    def refuse(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return original(*arguments, **options)

    monkeypatch.setattr(os, function, refuse)
    with pytest.raises(UserError, match=r"Cannot write a run to .*Read-only file system; choose a folder"):
        begun(5, out=tmp_path / "new" / "run")
    monkeypatch.undo()
    assert len(calls) >= number and os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_while_metrics_are_written(begun, tmp_path, monkeypatch):
    import builtins
    original = builtins.open

    def full(file, mode="r", *arguments, **options):
        if "a" in mode and str(file).endswith("metrics.csv"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(file, mode, *arguments, **options)

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(UserError, match=r"Cannot write the metrics to .*metrics\.csv: No space left"):
        begun(5)


# -- devices -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_moves_between_devices(device, data, tmp_path):
    run = training.start("tiny", data, tmp_path / "run", device=device, steps=7, log_every=3, checkpoint_every=5)
    assert run.config["device"] == device and run.system.device == device
    assert all(math.isfinite(value) for row in run.history for value in row.values())
    here, there = training.load(tmp_path / "run", "cpu"), training.load(tmp_path / "run", device)
    assert there.device == device and here.device == "cpu"
    np.testing.assert_allclose(here.sample(4), there.sample(4), rtol=1e-4, atol=1e-5)
    assert here.optimizer_g.state_dict()["m"].tobytes() == there.optimizer_g.state_dict()["m"].tobytes()
    run = training.resume(tmp_path / "run", lambda config: data, device="cpu", steps=9, announce=lambda line: None)
    assert run.system.device == "cpu" and run.step == 9 and run.config["device"] == "cpu"


def test_resume_on_a_device_is_exact_there(device, data, tmp_path):
    options = {"device": device, "steps": 8, "log_every": 3, "checkpoint_every": 2}
    training.start("tiny", data, tmp_path / "whole", **options)
    with pytest.raises(tiny_recipe.Crash):
        training.start("tiny", data, tmp_path / "run", callbacks=[tiny_recipe.CrashAt(5)], **options)
    training.resume(tmp_path / "run", lambda config: data)
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "run")


def test_the_norm_of_a_gradient_does_not_overflow():
    assert norm(np.array([3e30, 4e30], np.float32)) == pytest.approx(5e30)
