"""What a run tells: when pictures are drawn, what the lines say."""

import io
import re
import types

import numpy as np
import pytest
from PIL import Image

from scratchgan import data, plots, random, report, training
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import Flatten, Linear, Sequential
from scratchgan.losses import CrossEntropyLoss
from scratchgan.optimizers import SGD
from scratchgan.system import Grid, Metrics, Panel, System


class Out(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture
def train(digits, tmp_path):
    """Train a short run; `on_step` is called as a callback's."""
    def start(steps=6, on_step=None, resumed=False, callbacks=None, out=tmp_path / "run", **more):
        lines = []
        progress = report.Progress("auto", lines.append)
        pictures = report.Pictures()
        last = training.Callback()
        last.on_step = on_step or last.on_step
        callbacks = [progress, pictures, last] if callbacks is None else callbacks
        try:
            if resumed:
                run = training.resume(out, lambda config: digits, steps=steps, callbacks=callbacks,
                                      announce=lines.append)
            else:
                run = training.start("mlp", digits, out, device="cpu", steps=steps, threads=1, callbacks=callbacks,
                                     announce=lines.append, **more)
            return run, lines
        except (training.Stopped, training.Diverged) as error:
            return error, lines
    return start


# -- when ----------------------------------------------------------------------------------------------------------


def test_grids_of_the_recipe_mlp_on_mnist_are_at_epochs_50_and_100():
    every = report.default_sample_every(101 * 938, 938)
    assert every % 938 == 0 and 50 * 938 % every == 0 and 100 * 938 % every == 0
    assert 20 <= 101 * 938 // every <= 40


@pytest.mark.parametrize("epochs", [10, 39, 40, 41, 101, 862, 5000, 10 ** 5])
def test_long_runs_have_10_to_40_grids_at_whole_epochs(epochs):
    every = report.default_sample_every(epochs * 29, 29)
    assert every % 29 == 0 and 10 <= epochs * 29 // every <= 40


@pytest.mark.parametrize("steps, steps_per_epoch", [(1, 1), (1, 938), (30, 29), (300, 938), (9 * 938, 938), (9, 1)])
def test_short_runs_have_about_10_grids(steps, steps_per_epoch):
    every = report.default_sample_every(steps, steps_per_epoch)
    assert 1 <= every <= steps_per_epoch and min(steps, 9) <= steps // every <= 19


@pytest.mark.parametrize("steps, every", [(1, 1), (30, 1), (1000, 10), (10_000, 100), (10 ** 6, 100)])
def test_rows_of_metrics(steps, every):
    assert report.default_log_every(steps) == every


@pytest.mark.parametrize("steps, every", [(30, 1), (10_000, 100), (30_000, 100), (101 * 938, 400), (10 ** 6, 4000)])
def test_rows_of_metrics_on_cuda(steps, every):
    assert report.default_log_every(steps, "cuda") == every


@pytest.mark.parametrize("steps, every", [(1, 1000), (20_000, 1000), (101 * 938, 5000), (10 ** 6, 50_000)])
def test_checkpoints(steps, every):
    assert report.default_checkpoint_every(steps) == every


def test_grids_are_drawn_at_the_start_at_intervals_and_at_the_end(train):
    run, _ = train(steps=5, sample_every=2)
    names = sorted(path.name for path in run.folder.samples.iterdir())
    assert names == [f"epoch-000_step-0000000{step}.png" for step in (0, 2, 4, 5)]


def test_grids_show_one_noise_through_a_generator_that_changes(train):
    run, _ = train(steps=5, sample_every=2)
    pictures = {step: np.asarray(Image.open(io.BytesIO(path.read_bytes())))
                for step, _, path in report.grids(run.folder.samples)}
    assert (pictures[0] != pictures[5]).any()
    np.testing.assert_array_equal(pictures[5], plots.image_grid(run.system.sample(25, seed=0), 5))


def test_an_early_grid_by_steps_and_by_time(train, monkeypatch):
    monkeypatch.setattr(report, "EARLY_STEPS", 3)
    run, _ = train(steps=5, sample_every=100)
    assert [step for step, _, _ in report.grids(run.folder.samples)] == [0, 3, 5]
    monkeypatch.setattr(report, "EARLY_SECONDS", 0)
    run, _ = train(steps=5, sample_every=100, out=run.folder.path.with_name("other"))
    assert [step for step, _, _ in report.grids(run.folder.samples)] == [0, 1, 5]


def test_a_stopped_run_has_its_pictures_and_one_resumed_continues_the_animation(train):
    def stop(run):
        if run.step == 3:
            import os
            import signal
            os.kill(os.getpid(), signal.SIGINT)
    error, _ = train(steps=8, sample_every=2, on_step=stop)
    assert isinstance(error, training.Stopped)
    folder = training.RunFolder.open(error.args[0].rpartition(" ")[2], lock=False)
    with Image.open(folder.path / "training.gif") as image:
        assert image.n_frames == 3  # steps 0, 2, 3
    leftover = folder.samples / "epoch-000_step-00000007.png"  # of a future that is trained once more
    leftover.write_bytes(b"")
    foreign = folder.samples / "notes.txt"
    foreign.write_text("mine")
    train(steps=6, resumed=True, out=folder.path)
    assert [step for step, _, _ in report.grids(folder.samples)] == [0, 2, 3, 4, 6]
    assert not leftover.exists() and foreign.exists()
    with Image.open(folder.path / "training.gif") as image:
        assert image.n_frames == 5


def test_a_run_that_diverged_keeps_the_grids_of_its_good_steps(train, tmp_path):
    error, _ = train(steps=8, sample_every=1, log_every=8, settings={"lr_g": 1e30, "lr_d": 1e30})
    assert isinstance(error, training.Diverged)
    assert [step for step, _, _ in report.grids(tmp_path / "run" / "samples")] == [0]
    assert (tmp_path / "run" / "training.gif").exists()


def test_real_images_are_of_the_data(train, digits):
    run, _ = train(steps=1)
    images = run.examples(25)
    assert images.shape == (25, 1, 28, 28) and images.dtype == np.float32
    known = {image.tobytes() for image in digits.images}
    assert len({plots.to_pixels(image).tobytes() for image in images} & known) == 25
    with Image.open(run.folder.path / "real.png") as image:
        np.testing.assert_array_equal(np.asarray(image), plots.image_grid(images, 5))


def test_many_grids_make_an_animation_of_few_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FRAMES", 3)
    for step in (0, 1, 2, 3, 10):
        plots.save_png(tmp_path / report.GRID_NAME.format(epoch=0, step=step), np.full((9, 9), step * 25, np.uint8))
    report.animate(tmp_path, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3
        image.seek(2)
        assert np.asarray(image.convert("L"))[0, 0] > 240


def test_grids_sort_by_step_when_epochs_grow_a_digit(tmp_path):
    for epoch, step in ((999, 9990), (1000, 10000), (5, 50)):
        (tmp_path / report.GRID_NAME.format(epoch=epoch, step=step)).touch()
    assert [step for step, _, _ in report.grids(tmp_path)] == [50, 9990, 10000]


def test_pictures_that_cannot_be_written_do_not_end_a_run(train, monkeypatch):

    def full(path, picture):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(plots, "save_png", full)
    run, lines = train(steps=4, sample_every=1)
    assert run.finished
    told = [line for line in lines if "cannot write" in line]
    assert len(told) == 1 and "No space left on device" in told[0]


# -- other systems -------------------------------------------------------------------------------------------------


class Classifier(System):
    """One network, no samples."""

    sample_shape = (1, 4, 4)

    def __init__(self):
        self.network = Sequential(Flatten(), Linear(16, 2)).initialize(0)
        self.networks, self.optimizers = {"network": self.network}, {"network": SGD(self.network, 0.1)}

    def step(self, batch, labels=None):
        loss = CrossEntropyLoss()
        value = loss.forward(self.network.forward(batch), labels)
        self.network.zero_grad()
        self.network.backward(loss.backward(), "params")
        self.optimizers["network"].step()
        self.steps += 1
        return Metrics(loss=float(value), accuracy=0.5)


class Toy(Classifier):
    """Makes points in the plane, of no value range."""

    sample_shape, value_range = (2,), None

    def __init__(self):
        self.network = Linear(2, 2).initialize(0)
        self.networks, self.optimizers = {"map": self.network}, {"map": SGD(self.network, 0.1)}

    def step(self, batch, labels=None):
        self.steps += 1
        return {"loss_a": 1.0, "loss_b": 2.0}

    def sample(self, n, seed=0, labels=None):
        return self.network.twin().forward(np.random.default_rng(seed).standard_normal((n, 2)).astype(np.float32))


class Cloud(data.source.Sampler):
    name, description, sample_shape = "cloud", "10 N(0, 1) in the plane", (2,)

    def draw(self, n, seed, first):
        return 10 * random.normal((n, 2), seed, "cloud", first=first), None


def fitted(system, source, out, **options):
    lines = []
    training.fit(system, source, 6, out, [report.Progress(say=lines.append), report.Pictures(True)],
                 announce=lines.append, log_every=2, sample_every=3, **options)
    return lines


def test_a_system_that_makes_no_samples_has_curves_and_no_pictures(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), np.uint8)
    labelled = data.Dataset.of("two kinds", images, np.arange(20) % 2, "a test")
    lines = fitted(Classifier(), labelled, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoints", "config.json", "curves.png", "metrics.csv", "real.png", "samples"]
    assert not list((tmp_path / "run" / "samples").iterdir())
    assert "training Classifier on two kinds: 20 images 1x4x4" in lines
    assert any("loss 0." in line or "loss 1." in line for line in lines if line.startswith("step 6 of 6"))
    assert "sample" not in "".join(lines)


def test_a_system_of_points_shows_them_over_those_of_the_data(tmp_path):
    lines = fitted(Toy(), Cloud(), tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert names == [f"epoch-000_step-0000000{step}.png" for step in (0, 3, 6)]
    assert not (tmp_path / "run" / "real.png").exists() and (tmp_path / "run" / "training.gif").exists()
    with Image.open(tmp_path / "run" / "samples" / names[0]) as image:
        picture = np.asarray(image.convert("RGB"))
    for colour in (plots.BLUE, plots.VERMILION):
        assert (picture == list(bytes.fromhex(colour[1:]))).all(axis=-1).sum() > 100
    assert "training Toy on cloud: new points for every step" in lines
    assert any(line.startswith("step 6 of 6: a 1.000, b 2.000; ") for line in lines)
    assert any(line.startswith("samples at step 6") and line.count("\n") > 10 for line in lines)
    assert training.RunFolder.open(tmp_path / "run", lock=False).config["data"]["size"] is None


def test_a_game_of_points_in_an_array(tmp_path):
    G, D = Sequential(Linear(2, 2)), Sequential(Linear(2, 1))
    game = Game(G, D, NonSaturating(), SGD(G, 0.1), SGD(D, 0.1), latent=Latent(2), sample_shape=(2,), value_range=None)
    points = np.random.default_rng(0).uniform(-5, 5, (64, 2)).astype(np.float32)
    fitted(game, points, tmp_path / "run")
    assert (tmp_path / "run" / "curves.png").exists() and len(list((tmp_path / "run" / "samples").iterdir())) == 3


# -- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds, words", [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"),
                                            (7500, "2 h 05 min"), (-1, "0 s")])
def test_duration(seconds, words):
    assert report.duration(seconds) == words


def test_counted():
    assert [report.counted(n, "image") for n in (0, 1, 1200)] == ["0 images", "1 image", "1,200 images"]


def test_opening_and_closing_say_what_matters(train):
    run, lines = train(steps=30, log_every=10)
    opening = "\n".join(lines[:5])
    for part in ("mlp on digits: 1,797 images 1x28x28", "data: bundled with scratchgan", "device cpu, chosen by",
                 "BLAS with 1 thread", "30 steps of 64 images (1.034 epochs), seed 0", f"writing to {run.folder.path}"):
        assert part in opening
    closing = "\n".join(report.closing(run))
    assert "done: 30 steps" in closing and f"scratchgan sample {run.folder.path}" in closing
    row = run.history[-1]
    assert f"D's loss {row['loss_d']:.3f}, G's loss {row['loss_g']:.3f}; D(x) {row['d_real']:.3f}, D(G(z)) " in closing
    assert "training.gif" in closing and "curves.png" in closing


def test_lines_where_there_is_no_terminal(train, monkeypatch):
    monkeypatch.setattr("sys.stderr", Out(terminal=False))
    monkeypatch.setattr(report, "LINE_SECONDS", 1000)
    _, lines = train(steps=12, log_every=2)
    lines = [line for line in lines if line.startswith("step ")]
    assert len(lines) == 2  # the first and the last: all of it takes less than that
    assert lines[0].startswith("step 2 of 12, epoch 0.1: D's loss 0.") and lines[0].endswith(" left")
    assert lines[1].startswith("step 12 of 12") and "images/s" in lines[1] and "left" not in lines[1]
    monkeypatch.setattr(report, "LINE_SECONDS", 0)
    _, lines = train(steps=16, resumed=True)
    assert sum(line.startswith("step ") for line in lines) == 2


def test_a_bar_on_a_terminal(train, monkeypatch):
    out = Out(terminal=True)
    monkeypatch.setattr("sys.stderr", out)

    def warn(run):
        if run.step == 3:
            run.announce("Warning: a line")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    run, lines = train(steps=6, log_every=1, on_step=warn)
    import sys
    assert sys.stdout.getvalue() == "Warning: a line\n"
    assert not [line for line in lines if line.startswith("step ")]
    assert re.search(r"/6, \d\d:\d\d left, D's loss ", out.getvalue())
    run.announce("after the bar")
    assert lines[-1] == "after the bar"


def test_the_bar_shows_losses_speed_and_epoch(monkeypatch):
    monkeypatch.setattr("sys.stderr", Out(terminal=True))
    progress = report.Progress(say=lambda line: None)
    system = System()
    system.panels = (Panel("loss", {"loss_d": "D's loss", "loss_g": "G's loss"}),)
    shown = {"name": "x", "size": 640, "shape": [1, 2, 2], "source": "here"}
    run = types.SimpleNamespace(step=0, steps=100, epochs=lambda step: step / 10, folder=None, system=system,
                                finished=False, announce=None, evaluation=None,
                                config={"recipe": "mlp", "data": shown, "threads": None, "device": "cpu",
                                        "batch_size": 64, "seed": 0})
    progress.on_start(run)
    run.step = 25
    progress.on_log(run, {"loss_d": 0.5, "loss_g": 1.25, "images_per_second": 1234.5})
    text = str(progress.bar)
    progress.on_end(run)
    assert "epoch 2.5" in text and "D's loss 0.500, G's loss 1.250, 1,234 images/s" in text


def test_preview_is_announced(train, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, more = train(steps=2, callbacks=[report.Pictures(preview=True)])
    lines = [line for line in more if line.startswith("samples at step")]
    assert [line.split(":")[0] for line in lines] == ["samples at step 0", "samples at step 2"]
    assert lines[0].count("\n") > 10


def test_colours_only_where_they_are_wanted(monkeypatch):
    images = Grid(np.zeros((5, 1, 28, 28)))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Out(terminal=True)
    monkeypatch.setattr("sys.stdout", types.SimpleNamespace(isatty=out.isatty, encoding="utf-8"))
    assert "\x1b[" in report.on_terminal(images)
    for name, value in (("NO_COLOR", ""), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert "\x1b[" not in report.on_terminal(images)
    out.terminal = False
    assert "\x1b[" not in report.on_terminal(images)
