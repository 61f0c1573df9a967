"""What a run tells a person while it goes on, in words and pictures: two callbacks of training.

    Progress   what is trained, then a bar or lines with losses and the time left
    Pictures   real.png, the system's own pictures, curves.png, training.gif
"""

import math
import os
import re
import shlex
import shutil
import sys
import time
from contextlib import suppress

import numpy as np

from scratchgan import backend, plots
from scratchgan.system import GRID_SIDE, Grid, is_image
from scratchgan.training import checkpoint, evaluation
from scratchgan.training.callbacks import Callback
from scratchgan.training.config import steps_per_epoch

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"  # short: what it says is cut off at the right
LINE_SECONDS = 10  # between two lines where there is no bar
EARLY_STEPS, EARLY_SECONDS = 500, 30  # when a first grid is drawn, whichever comes first
FRAMES = 120  # of the animation at most
GRID_NAME = "epoch-{epoch:03d}_step-{step:08d}.png"
GRID_PATTERN = re.compile(r"epoch-(\d{3,})_step-(\d{8,})\.png")


def default_sample_every(steps, steps_per_epoch):
    """How many steps lie between two pictures: whole epochs, so that there are 20 to 40 of them.

    A run of few epochs, or of data without an end (steps_per_epoch None), has about 10 or 20.
    """
    if steps_per_epoch is None:
        return max(1, steps // 20)
    epochs = steps / steps_per_epoch
    if epochs < 10:
        return max(1, min(steps_per_epoch, steps // 10))
    # Up to 50 each divides 50 and 100, the epochs that are shown of the recipe mlp.
    between = next((k for k in (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000) if epochs <= 40 * k), math.ceil(epochs / 40))
    return between * steps_per_epoch


def default_log_every(steps, device="cpu"):
    """How many steps a row of metrics.csv is the mean of: 100, fewer where the run is short.

    On CUDA hundreds in a long run, so that there are 200 to 400 rows: a fast GPU makes 50 steps of a small GAN in the
    time in which the host reads and checks the numbers of a row.
    """
    return min(100, max(1, steps // 100)) * (max(1, round(steps / 25_000)) if device == "cuda" else 1)


def default_checkpoint_every(steps):
    """How many steps lie between two checkpoints: 1000, or as many thousands that there are about 20 in a long run.

    A fast GPU makes a thousand steps of a small GAN in the time that a disk takes for one checkpoint.
    """
    return 1000 * max(1, round(steps / 20_000))


# -- words ---------------------------------------------------------------------------------------------------------


def duration(seconds):
    """"45 s", "3 min 20 s", "2 h 05 min"."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def counted(n, noun, plural=None):
    """"1 step", "1,200 steps"."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def noun(shape):
    """What an example of this shape is called."""
    return "image" if is_image(shape) else "point" if tuple(shape) == (2,) else "example"


def told(row, panel):
    """"D's loss 0.612, G's loss 1.034": the metrics of a row that one chart shows."""
    return ", ".join(f"{label} {row[name]}" if isinstance(row[name], int) else f"{label} {row[name]:.3f}"
                     for name, label in panel.metrics.items() if name in row)


def main_metrics(run, row):
    """What the system measures of itself, and what the first chart shows, for most systems its losses."""
    first, *others = plots.charts([row], run.system.panels) or [None]
    shown = [panel for panel in others if not panel.metrics.keys().isdisjoint(run.measured)]
    shown += [first] if first else []
    return ", ".join(told(row, panel) for panel in shown)


def describe_device(device, asked=None):
    """"cuda (NVIDIA H200)" or "cpu", and why, where it was left to choose."""
    name = device
    if device == "cuda":
        name += f" ({device_name()})"
    if asked != "auto":
        return name
    return f"{name}, chosen by --device auto" + ("" if device == "cuda" else f": {backend.cuda_problem()}")


def device_name(index=0):
    name = backend.module_of("cuda").cuda.runtime.getDeviceProperties(index)["name"]
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


class Progress(Callback):
    """Tells what is trained, and how far it is: with a bar on a terminal, elsewhere with a line now and then.

    `asked` is the device that was asked for, `say` prints a line.
    """

    each_step = False

    def __init__(self, asked=None, say=print):
        self.asked, self.say, self.bar = asked, say, None

    def on_start(self, run):
        for line in self.opening(run):
            self.say(line)
        self.begin, self.first, self.told = time.perf_counter(), run.step, -LINE_SECONDS
        if is_terminal(sys.stderr):
            from tqdm import tqdm
            self.bar = tqdm(total=run.steps, initial=run.step, dynamic_ncols=True, leave=False, bar_format=BAR)
            run.announce = self.write

    def write(self, line):
        """A line above the bar."""
        with suppress(OSError):  # the terminal was closed; the run goes on to its checkpoint
            self.bar.write(line)

    def opening(self, run):
        config, data = run.config, run.config["data"]
        kind, shape = noun(data["shape"]), "x".join(map(str, data["shape"]))
        size = f"new {kind}s for every step" if data["size"] is None else counted(data["size"], kind)
        size += "" if kind == "point" else f", {shape}" if data["size"] is None else f" {shape}"
        yield f"training {config['recipe'] or type(run.system).__name__} on {data['name']}: {size}"
        yield f"data: {data['source']}"
        threads = ""
        if config["device"] == "cpu" and config["threads"] is not None:
            threads = f"; BLAS with {counted(config['threads'], 'thread')}"
        yield f"device {describe_device(config['device'], self.asked)}{threads}"
        yield from run.system.notes()
        epochs, size = run.epochs(run.steps), min(config["batch_size"], data["size"] or math.inf)
        length = f"{counted(run.steps, 'step')} of {counted(size, kind)}"
        length += f", all there are instead of {config['batch_size']:,}" if size < config["batch_size"] else ""
        length += f" ({epochs:,.4g} epoch{'s' * (epochs != 1)})" if epochs else ""
        yield f"{length}, seed {config['seed']}" + (f"; resumed after step {run.step:,}" if run.step else "")
        if run.evaluation:
            yield run.evaluation.words()
        if run.folder:
            yield f"writing to {run.folder.path}; Ctrl-C stops it so that it can be resumed"

    def on_step(self, run):
        if self.bar is not None:
            self.bar.update(1)

    def on_log(self, run, row):
        speed = f"{row['images_per_second']:,.0f} {noun(run.config['data']['shape'])}s/s"
        epochs = run.epochs(run.step)
        if self.bar is not None:
            self.bar.set_description(f"epoch {epochs:.1f}" if epochs else None, refresh=False)
            self.bar.set_postfix_str(f"{main_metrics(run, row)}, {speed}", refresh=False)
            return
        passed = time.perf_counter() - self.begin
        if passed - self.told < LINE_SECONDS and not run.finished:
            return
        self.told = passed
        left = passed / (run.step - self.first) * (run.steps - run.step)
        run.announce(f"step {run.step:,} of {run.steps:,}" + (f", epoch {epochs:.1f}" if epochs else "")
                     + f": {main_metrics(run, row)}; {speed}"
                     + ("" if run.finished else f"; {duration(left)} left"))

    def on_evaluation(self, run, row):
        best = f", the best by {run.evaluation.best_by} so far" if run.best is row else ""
        run.announce(f"evaluated at step {run.step:,}: {evaluation.told(row)}{best}")

    def on_end(self, run):
        if self.bar is not None:
            self.bar.close()
            run.announce = self.say


def closing(run):
    """The lines that sum a finished run up."""
    row = run.history[-1]
    yield f"done: {counted(run.step, 'step')} in {duration(row['seconds'])}"  # of all parts, where it was resumed
    charts = [told(row, panel) for panel in plots.charts([row], run.system.panels) if panel.scale != "log"]
    if charts:
        yield f"at the end: {'; '.join(charts)}"
    if run.folder:
        path = run.folder.path
        written = [str(path / name) for name in ("training.gif", "curves.png") if (path / name).exists()]
        pictures = [f"the pictures in {run.folder.samples}"] if grids(run.folder.samples) else []
        if written or pictures:
            yield f"look at {' and '.join([', '.join(written), *pictures])}"
        if run.system.makes_samples and run.config["recipe"]:
            yield f"more samples: scratchgan sample {shlex.quote(str(path))}"
        if run.best:
            yield best_words(run.folder, run.evaluation, run.best)


def best_words(folder, evaluation, best):
    """"the best by frechet, 3.21 +- 0.02 at step 4,000: runs/mlp/checkpoints/step-00004000" """
    by, path = evaluation.best_by, folder.checkpoints / checkpoint.name_of(best["step"])
    error = best.get(f"{by}_se")
    value = f"{best[by]:.4g}" + ("" if error is None else f" +- {error:.2g}")
    return f"the best by {by}, {value} at step {best['step']:,}: {shlex.quote(str(path))}"


# -- pictures ------------------------------------------------------------------------------------------------------


class Pictures(Callback):
    """Draws what the system shows of itself (`System.picture`) at intervals, and once what the data are, if images.

    `preview` shows each picture on the terminal, too. A picture that cannot be written does not end a training: it is
    told, once. Of systems without pictures only the curves are drawn.
    """

    each_step = False

    def __init__(self, preview=False):
        self.preview = preview
        self.begin = time.perf_counter()
        self.drawn = None     # the step of the newest picture
        self.late = False     # whether there is one of a trained system
        self.failed = False   # whether it was told that a picture cannot be written

    def on_start(self, run):
        if run.folder:
            self.remove_later(run)
            if is_image(run.config["data"]["shape"]):
                self.attempt(run, run.folder.path / "real.png", Grid(run.examples(GRID_SIDE**2)))
        self.late = run.step > 0
        if not self.late:
            self.draw(run)

    def on_step(self, run):
        due = run.step >= EARLY_STEPS or time.perf_counter() - self.begin > EARLY_SECONDS
        if (due and run.current and not self.late) or run.step % run.config["sample_every"] == 0:
            self.draw(run)

    def on_end(self, run):
        if run.folder:
            self.remove_later(run)
        self.draw(run)
        if not run.folder:
            return
        if run.history:
            self.attempt(run, run.folder.path / "curves.png", lambda path: plots.save_curves(
                path, run.history, run.system.panels, steps_per_epoch(run.config), title(run.config),
                run.evaluations))
        if grids(run.folder.samples):
            self.attempt(run, run.folder.path / "training.gif", lambda path: animate(
                run.folder.samples, path, endless=steps_per_epoch(run.config) is None))

    def remove_later(self, run):
        """No pictures of steps that are not done: a run that is resumed, or that diverged, goes back a little."""
        for step, _, path in grids(run.folder.samples):
            if step > run.step:
                path.unlink(missing_ok=True)

    def draw(self, run):
        """The picture of this step, unless it is there."""
        if self.drawn == run.step:
            return
        self.drawn, self.late = run.step, run.step > 0
        picture = run.system.picture(run)
        if picture is None:
            return
        if self.preview:
            run.announce(f"samples at step {run.step:,}:\n{on_terminal(picture, run.system.value_range)}")
        if run.folder:
            self.attempt(run, run.folder.samples / GRID_NAME.format(epoch=run.epoch, step=run.step), picture)

    def attempt(self, run, path, picture):
        """Write a picture, or call what writes it."""
        try:
            if callable(picture):
                picture(path)
            else:
                plots.save_png(path, plots.drawn(picture, run.system.value_range))
        except OSError as error:
            if not self.failed:
                run.announce(f"Warning at step {run.step}: cannot write {path}: {error.strerror or error}; "
                             "training goes on without pictures that cannot be written.")
            self.failed = True


def title(config):
    """What a run trains, for a heading."""
    return f"{config['recipe'] or 'own networks'} on {config['data']['name']}, seed {config['seed']}"


def grids(folder):
    """[(step, epoch, path), ...] of the pictures in a run's folder of samples, in the order of steps."""
    matches = [(GRID_PATTERN.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[2]), int(match[1]), path) for match, path in matches if match)


def animate(folder, path, endless=False):
    """All pictures in `folder` as an animation, the steps below them, and the epochs unless the data are `endless`; a
    choice at even distances where they are many."""
    from PIL import Image
    found = grids(folder)
    if len(found) > FRAMES:
        found = [found[i] for i in np.rint(np.linspace(0, len(found) - 1, FRAMES)).astype(int)]
    frames, captions = [], []
    for step, epoch, file in found:
        with Image.open(file) as image:
            frames.append(np.asarray(image))
        captions.append(f"step {step:,}" if endless else f"epoch {epoch}, step {step:,}")
    plots.save_gif(path, frames, captions, seconds=min(0.5, max(0.08, 8 / len(frames))))


def on_terminal(picture, value_range=(-1, 1)):
    """A picture as text for standard output: as wide as it is, in colours if it is a terminal that wants them."""
    width, terminal = shutil.get_terminal_size().columns, is_terminal(sys.stdout)
    colour = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    if isinstance(picture, Grid):
        pixels = plots.to_pixels(picture.images[:10], value_range or (0, 1)).transpose(0, 2, 3, 1)
        pictures = [each[..., 0] if each.shape[-1] == 1 else each for each in pixels]
    else:
        pictures = [plots.drawn(picture)]
    return plots.terminal(pictures, width, colour, getattr(sys.stdout, "encoding", None))


def is_terminal(stream):
    """Whether a stream is a terminal; it may be None, or lack what files have, where a program has put its own."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # ValueError: it is closed
        return False
