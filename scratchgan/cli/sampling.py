"""`scratchgan sample` and `scratchgan plot`: pictures and arrays out of a run."""

import os
import re
import secrets
import shutil
from pathlib import Path

import numpy as np

from scratchgan.cli.options import add_device, path, whole
from scratchgan.cli.training import add_data
from scratchgan.errors import UserError
from scratchgan.files import expanded, replacing, writing
from scratchgan.settings import option
from scratchgan.system import POINTS, Points, is_image, scaled

ROWS, COLUMNS = 5, 5
BETWEEN = 10  # images from one end of an interpolation to the other
GIF_FRAMES = 40  # there and back
SAMPLE_NAME = re.compile(r"\d{5,}\.png")
CURVE_KINDS = (".png", ".svg", ".pdf")

SAMPLE_EXAMPLES = """\
examples:
  scratchgan sample runs/mlp                                  a grid of 5 x 5 in runs/mlp/sample.png
  scratchgan sample runs/mlp -n 10000 --out samples.npz       float32 (N, C, H, W) in [0, 1], called "images"
  scratchgan sample runs/mlp -n 100 --out samples/            a folder of PNG files
  scratchgan sample runs/mlp --interpolate 1 2 --out there.gif
  scratchgan sample runs/cgan --label 7                       sevens, of a conditional recipe
"""
PLOT_EXAMPLES = """\
example:
  scratchgan plot runs/mlp            draw runs/mlp/curves.png, also while the training is going on
"""


def add(commands):
    parser = commands.add_parser("sample", help="make samples: scratchgan sample runs/mlp",
                                 description="Make samples with the system of a run.", epilog=SAMPLE_EXAMPLES)
    parser.set_defaults(run=sample)
    parser.add_argument("folder", metavar="RUN", type=path, help="the folder of a run, or one of its checkpoints")
    parser.add_argument("--out", metavar="PATH",
                        help="NAME.png, a grid; NAME.npy or NAME.npz, an array; NAME.gif with --interpolate; else a "
                             "folder of PNG files (default: RUN/sample.png)")
    parser.add_argument("-n", "--number", type=whole(1), metavar="N",
                        help="how many (default: rows x columns; of points 1,000)")
    parser.add_argument("--seed", type=whole(0), metavar="N", help="seed of the noise (default: 0)")
    parser.add_argument("--rows", type=whole(1, 1000), metavar="N", help=f"of a grid (default: {ROWS})")
    parser.add_argument("--columns", type=whole(1, 1000), metavar="N",
                        help=f"of a grid (default: {COLUMNS}, with --interpolate {BETWEEN}, with -n a square)")
    parser.add_argument("--label", type=whole(0), metavar="CLASS",
                        help="samples of this class, of a conditional system (default: the classes take turns)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--interpolate", nargs=2, type=whole(0), metavar=("SEED_A", "SEED_B"),
                      help="each row goes from the noise of one seed to that of the other")
    what.add_argument("--real", action="store_true", help="images of the data set of the run instead of samples")
    add_device(parser)
    add_data(parser.add_argument_group("where the data are, for --real, if they have moved"))

    parser = commands.add_parser("plot", help="draw the curves of a run: scratchgan plot runs/mlp",
                                 description="Draw the metrics of a run over its epochs.",
                                 epilog=PLOT_EXAMPLES)
    parser.set_defaults(run=plot)
    parser.add_argument("folder", metavar="RUN", type=path, help="the folder of a run")
    parser.add_argument("--out", type=path, metavar="PATH",
                        help=f"{', '.join(CURVE_KINDS)} (default: RUN/curves.png)")


# -- sample --------------------------------------------------------------------------------------------------------


def sample(options):
    from scratchgan import report, training
    run = run_of(options.folder)
    folder = training.RunFolder.open(run, lock=False)
    out, kind = target(options, run)
    check_target(out, kind)
    options.seed = options.seed or 0
    if options.real:
        images, told = real(options, folder.config, kind), f"of {folder.config['data']['name']}"
        value_range = (0, 1) if is_image(images.shape[1:]) else None
    else:
        system = training.load(options.folder, options.device)
        if options.interpolate and system.makes_samples and not is_image(system.sample_shape):
            raise UserError(f"the samples of this run have shape {tuple(system.sample_shape)}, and only images can be "
                            "shown from one seed to another: leave --interpolate out")
        if system.makes_samples:
            check_shape(system.sample_shape, kind)
        if options.interpolate:
            with writing("the images", out):
                return interpolation(options, system, out, kind)
        images = system.sample(number(options, system.sample_shape), options.seed, label(options, system))
        told, value_range = f"from seed {options.seed}", system.value_range
    with writing("the samples", out):
        write(images, out, kind, columns(options), value_range)
    noun = "image" if is_image(images.shape[1:]) else "sample"
    print(f"wrote {report.counted(len(images), noun)} {told} to {out}")


def label(options, system):
    """The class that is asked for; None where none is."""
    if options.label is not None and options.label >= system.classes:
        if not system.classes:
            raise UserError("--label cannot be given: the samples of this run are of no class")
        raise UserError(f"--label must be from 0 to {system.classes - 1}, not {options.label}")
    return options.label


def run_of(folder):
    """The folder of the run: `folder`, unless that is one of its checkpoints."""
    if not (folder / "state.json").exists():
        return folder
    run = folder.parent.parent  # as it was written, unless that is no path to it, as from inside
    return run if (run / "config.json").exists() else folder.resolve().parent.parent


def target(options, run):
    """`(path, kind)` of what is to be written: kind is ".png", ".npy", ".npz", ".gif" or "folder"."""
    if options.label is not None and (options.interpolate or options.real):
        raise UserError("--label is for samples: leave it out, or --interpolate or --real")
    for name in ("data", "data_dir"):
        if getattr(options, name) is not None and not options.real:
            raise UserError(f"{option(name)} is for --real: leave it out, or give --real")
    if options.interpolate and options.number:
        raise UserError("-n cannot be given with --interpolate: give --rows and --columns")
    if options.interpolate and options.seed is not None:
        raise UserError("--seed cannot be given with --interpolate, which has two: leave it out")
    if options.rows and options.columns and options.number:
        raise UserError("-n, --rows and --columns cannot all be given: leave one out")
    if options.out is None:
        name = "real" if options.real else "interpolation" if options.interpolate else "sample"
        return run / f"{name}.png", ".png"
    out = path_of(options.out)
    kind = out.suffix.lower()
    if options.out.endswith(("/", os.sep)) or not kind or out.is_dir():
        kind = "folder"
    allowed = (".png", ".gif") if options.interpolate else (".png", ".npy", ".npz", "folder")
    if kind not in allowed:
        names = ", ".join(f"NAME{name}" for name in allowed if name != "folder")
        more = "" if options.interpolate else " or a folder"
        raise UserError(f"--out must be {names}{more} here, not {options.out!r}")
    if options.number and (options.rows or options.columns) and kind != ".png":
        raise UserError("--rows and --columns are of a grid, which --out is not: leave them out, or -n")
    return out, kind


def path_of(text):
    if not text.strip() or "\0" in text:
        raise UserError(f"--out must be a path, not {text!r}")
    return expanded(text)


def check_target(out, kind, option="--out"):
    """Complain before the work if `out` cannot be written, or if it is a folder that holds other things."""
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent} to write {out.name} to: make it, or choose another {option}")
    if kind == "folder" and out.exists():
        if not out.is_dir():
            raise UserError(f"{out} is a file, not a folder: choose another {option}")
        foreign = next((entry.name for entry in sorted(out.iterdir()) if not SAMPLE_NAME.fullmatch(entry.name)), None)
        if foreign:
            raise UserError(f"{out} holds other files ({foreign}): choose another {option}, since the samples take the "
                            "place of the whole folder")
        if Path.cwd().is_relative_to(out.resolve()):
            raise UserError(f"{out} is where you are, and the samples take the place of the whole folder: choose "
                            f"another {option}")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UserError(f"{out.parent} is not a folder that can be written to: choose another {option}")


def check_shape(shape, kind):
    """`UserError` where samples of this shape cannot be written so."""
    if not is_image(shape) and kind not in (".npy", ".npz") and (tuple(shape), kind) != ((2,), ".png"):
        names = "NAME.png, NAME.npy or NAME.npz" if tuple(shape) == (2,) else "NAME.npy or NAME.npz"
        raise UserError(f"the samples of this run have shape {tuple(shape)} and are no images: give --out {names}")


def number(options, shape):
    if tuple(shape) == (2,) and (options.rows or options.columns):
        raise UserError("--rows and --columns are for a grid, and the samples of this run are points: give -n")
    if options.number:
        return options.number
    if tuple(shape) == (2,):
        return POINTS
    return (options.rows or ROWS) * (options.columns or COLUMNS)


def columns(options):
    if options.columns or not options.number:
        return options.columns or COLUMNS
    return -(-options.number // options.rows) if options.rows else None


def real(options, config, kind):
    from scratchgan.cli import datasets
    name = None if options.data == "auto" else options.data
    dataset = datasets.of_run(config, name, options.data_dir)
    check_shape(dataset.sample_shape, kind)
    count = number(options, dataset.sample_shape)
    if dataset.sha256 != config["data"]["sha256"]:
        raise UserError(f"{dataset.name} is not what the run was trained on: its SHA-256 is {dataset.sha256[:12]}..., "
                        f"not {config['data']['sha256'][:12]}... (it was read from {dataset.origin})")
    if dataset.size is not None and count > dataset.size:
        raise UserError(f"{dataset.name} has {dataset.size:,} images, {count:,} were asked for")
    return scaled(dataset.examples(count, options.seed)[0], (0, 1))


def write(images, out, kind, columns, value_range):
    """Images as a grid, an array in [0, 1] or a folder of files; points as a picture; what has no value range as an
    array as it is."""
    from scratchgan import plots
    if kind == ".png" and images.shape[1:] == (2,):
        plots.save_png(out, plots.drawn(Points(np.empty((0, 2)), images)))
    elif kind == ".png":
        plots.save_png(out, plots.image_grid(images, columns, value_range=value_range))
    elif kind == "folder":
        write_folder(images, out, value_range)
    else:
        array = np.asarray(images if value_range is None else plots.unit(images, value_range), np.float32)
        name = "images" if is_image(images.shape[1:]) else "samples"
        with replacing(out) as file:
            np.save(file, array) if kind == ".npy" else np.savez_compressed(file, **{name: array})


def write_folder(images, out, value_range):
    """A PNG file for each image. The folder takes its name, and an older one's place, when it is whole."""
    from PIL import Image

    from scratchgan import plots
    out, mark = out.resolve(), secrets.token_hex(4)
    new, old = (out.with_name(f".{out.name[:50]}.{mark}.{end}") for end in ("part", "old"))
    try:
        new.mkdir()
        for i, pixels in enumerate(plots.to_pixels(images, value_range).transpose(0, 2, 3, 1)):
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(new / f"{i:05d}.png")
        if out.exists():
            os.rename(out, old)
        try:
            os.rename(new, out)
        except OSError:
            if old.exists():
                os.rename(old, out)
            raise
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def interpolation(options, system, out, kind):
    """Write images between two seeds: a grid, or an animation that goes there and back."""
    from scratchgan import plots
    first, last = options.interpolate
    rows = options.rows or ROWS
    if kind == ".png":
        columns = options.columns or BETWEEN
        images = system.interpolate(first, last, rows, columns)
        plots.save_png(out, plots.image_grid(images, columns, value_range=system.value_range))
        told = f"wrote {rows} x {columns} images"
    else:
        columns = options.columns or COLUMNS
        there = GIF_FRAMES // 2 + 1
        images = system.interpolate(first, last, rows * columns, there)
        images = images.reshape(rows * columns, there, *images.shape[1:])
        frames = [plots.image_grid(images[:, i], columns, value_range=system.value_range) for i in range(there)]
        plots.save_gif(out, frames + frames[-2:0:-1], seconds=0.08, hold=0.08)
        told = f"wrote an animation of {rows} x {columns} images"
    print(f"{told}, from seed {first} to seed {last}, to {out}")


# -- plot ----------------------------------------------------------------------------------------------------------


def plot(options):
    from scratchgan import plots, report, training
    folder = training.RunFolder.open(options.folder, lock=False)
    out = options.out or folder.path / "curves.png"
    kind = out.suffix.lower()
    if kind not in CURVE_KINDS or out.is_dir():
        raise UserError(f"--out must be a file that ends in {', '.join(CURVE_KINDS)}, not {str(out)!r}")
    check_target(out, kind)
    rows = folder.rows()
    if not rows:
        raise UserError(f"{folder.metrics} has no rows yet: wait until the training has logged one")
    panels, per_epoch = training.panels_of(folder), training.steps_per_epoch(folder.config)
    with writing("the curves", out):
        plots.save_curves(out, rows, panels, per_epoch, report.title(folder.config), folder.evaluations())
    print(f"drew {report.counted(len(rows), 'row')} of metrics, up to step {rows[-1]['step']:,}, to {out}")
    evaluation = training.Evaluation.of(folder.config)
    best = evaluation and evaluation.best(folder.evaluations())
    if best:
        print(report.best_words(folder, evaluation, best))
