"""What people get wrong: one sentence on standard error, status 2, no traceback, and not a file more or less.

The tests may run as root, whom no permission stops. So a folder that cannot be written to is here one below a regular
file or in /proc, where nobody makes folders.
"""

import gzip
import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from command_line import fails
from PIL import Image

from scratchgan import backend
from scratchgan.cli import main
from scratchgan.data import mnist

IMAGES = np.random.default_rng(0).uniform(0, 1, (8, 28, 28)).astype(np.float32)
pytestmark = pytest.mark.usefixtures("alone")
needs_no_cuda = pytest.mark.skipif(backend.cuda_problem() is None, reason="there is a CUDA device here")
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--data", "digits", "--steps", "2", "--threads", "1", "--device", "cpu", "--quiet",
                 "--out", str(folder)]) == 0
    return folder


# -- options -------------------------------------------------------------------------------------------------------

OPTIONS = {
    "train --steps 0": "--steps must be a whole number, 1 or more, not '0'",
    "train --steps 1.5": "--steps must be a whole number, 1 or more, not '1.5'",
    "train --steps -3": "--steps must be a whole number",
    "train --epochs many": "--epochs must be a whole number",
    "train --epochs 1 --steps 1": "not allowed with",
    "train --lr -1": "--lr must be a finite number above 0, not '-1'",
    "train --lr 0": "--lr must be a finite number above 0",
    "train --lr nan": "--lr must be a finite number above 0",
    "train --lr-d inf": "--lr-d must be a finite number above 0",
    "train --lr-g x": "--lr-g must be a finite number above 0, not 'x'",
    "train --batch-size 0": "--batch-size must be",
    "train --beta1 2": "--beta1 must be a number from 0 to below 1, not '2'",
    "train --beta2 1": "--beta2 must be a number from 0 to below 1, not '1'",
    "train --schedule step": "--schedule must be one of constant, linear, cosine, not 'step'",
    "train --decay-steps -1": "--decay-steps must be a whole number, 0 or more, not '-1'",
    "train --decay-steps 1.5": "--decay-steps must be a whole number, 0 or more, not '1.5'",
    "train --lr-final -0.1": "--lr-final must be a finite number, 0 or more, not '-0.1'",
    "train --beta2-final nan": "--beta2-final must be a number from 0 to below 1, not 'nan'",
    "train --z-dim 0": "--z-dim must be a whole number, 1 or more, not '0'",
    "train mlp --widths-g 256,x": "--widths-g must be whole numbers, 1 or more, such as 256,512, not '256,x'",
    "train dcgan28 --widths-g 3": "recipe dcgan28 has no setting --widths-g, its settings are --z-dim, --ngf, --ndf",
    "profile mlp --ngf 3": "recipe mlp has no setting --ngf",
    "train mlp --nonesuch 3": "unrecognized arguments: --nonesuch 3; see scratchgan train mlp --help",
    "profile mlp --epochs 3": "unrecognized arguments: --epochs 3; see scratchgan profile mlp --help",
    "train --data ~nobody-here/a": "there is no data set, file or folder '~nobody-here/a'",
    "sample ~nobody-here/a": "There is no run in ~nobody-here/a",
    "train --data digits --drop-last --batch-size 2000": "digits has 1797 examples, fewer than the batch size 2000",
    "recipes nonesuch": "Unknown recipe 'nonesuch': choose one of mlp",
    "train --threads 0": "--threads must be a whole number, from 1 to 1,024",
    "train --threads 99999": "--threads must be",
    "train --seed x": "--seed must be a whole number, 0 or more, not 'x'",
    "train --seed -1": "--seed must be",
    "train --log-every 0": "--log-every must be",
    "train --sample-every 0": "--sample-every must be",
    "train --checkpoint-every -1": "--checkpoint-every must be",
    "train --keep 0": "--keep must be",
    "train --device tpu": "invalid choice: 'tpu' (choose from",
    "train --device": "expected one argument",
    "train --preview --quiet": "not allowed with",
    "train --step 3": "unrecognized arguments: --step; see scratchgan train --help",  # abbreviations are not taken
    "train mlp mlp": "unrecognized arguments: mlp",
    "train nonesuch": "Unknown recipe 'nonesuch': choose one of mlp",
    "train dcgan82": "Unknown recipe 'dcgan82': did you mean dcgan28? It is one of mlp",
    "train --data nonesuch": "there is no data set, file or folder 'nonesuch'",
    "train --data digits --data-dir  --steps 1": "--data-dir",
    "trian": "invalid choice: 'trian' (choose from",
    "--nonesuch": "unrecognized arguments: --nonesuch",
    "sample": "required: RUN",
    "sample nonesuch": "There is no run in nonesuch",
    "sample nonesuch -n 0": "-n/--number must be a whole number, 1 or more",
    "sample nonesuch --rows 0": "--rows must be",
    "sample nonesuch --interpolate 1": "expected 2 arguments",
    "sample nonesuch --interpolate 1 b": "must be a whole number, 0 or more, not 'b'",
    "sample nonesuch --interpolate 1 2 --real": "not allowed with",
    "plot nonesuch": "There is no run in nonesuch",
    "data": "required: COMMAND",
    "data fetch": "required: NAME",
    "data fetch imagenet": "there is no data set 'imagenet' to download: mnist is the one",
    "data fetch mnist": "MNIST could not be downloaded",
    "train --data mnist": "MNIST could not be downloaded",
    "gradcheck Nonesuch": "Unknown name 'Nonesuch': choose from Linear",
    "gradcheck nonesuch:Layer": "The module 'nonesuch' cannot be imported",
    "gradcheck scratchgan.layers:Nonesuch": "has no 'Nonesuch'",
    "gradcheck Linear --zero bias": "--zero is for targets of your own, as in package.module:Name, not for 'Linear'",
    "gradcheck Linear --no-batch-of-one": "--no-batch-of-one is for targets of your own",
    "gradcheck math:pi": "must be a Layer or a Loss",
    "gradcheck Linear --input-shape 4,x": "--input-shape must be sizes with commas between them, such as 4,3, not",
    "gradcheck Linear --input-shape -1,3": "--input-shape",
    "profile": "required: RECIPE",
    "profile nonesuch": "Unknown recipe 'nonesuch': choose one of mlp",
    "profile mlp --steps 0": "--steps must be a whole number, 1 or more, not '0'",
    "profile mlp --batch-size x": "--batch-size must be",
    "profile mlp --threads 0": "--threads must be",
    "profile mlp --channels 2": "--channels must be 1 (grey) or 3 (colour), not '2'",
    "train mlp --joint-batch": "recipe mlp has no setting --joint-batch, its settings are --z-dim, --widths-g, ",
    "profile mlp --channels 3": "recipe mlp makes grey images only: leave --channels out",
    "profile mlp --device tpu": "invalid choice: 'tpu' (choose from",
    "profile mlp --out chart.jpg": "--out must be a folder that exists or a file that ends in .png, .svg, .pdf, not",
    "profile mlp --out nowhere/chart.png": "there is no folder nowhere to write chart.png to",
}


@pytest.mark.parametrize("arguments", OPTIONS)
def test_options(arguments, capsys, tmp_path):
    fails(arguments, capsys, tmp_path, OPTIONS[arguments])


@needs_no_cuda
def test_cuda_without_a_device(capsys, tmp_path):
    fails("train --data digits --device cuda", capsys, tmp_path, "Device cuda was asked for", "use --device cpu")


@pytest.mark.parametrize("value", ["", "  ", "a\0b"])
@pytest.mark.parametrize("arguments", [("train", "--data", "digits", "--out"), ("train", "--resume"), ("sample",),
                                       ("sample", "RUN", "--out"), ("plot",), ("train", "--data")])
def test_paths_that_are_none(arguments, value, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    fails([*arguments, value], capsys, tmp_path)


# -- data ----------------------------------------------------------------------------------------------------------


def npy(array):
    return lambda path: np.save(path, array)


def objects(path):
    np.savez(path, images=np.array([{}, {}], object), allow_pickle=True)


def broken_image(path):
    path.mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(path / "a.png")
    (path / "b.png").write_bytes((path / "a.png").read_bytes()[:30])


def loose_and_classes(path):
    (path / "class").mkdir(parents=True)
    for name in ("a.png", "class/b.png"):
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(path / name)


DATA = {
    "wrong shape": ("x.npy", npy(IMAGES[0]), "shape (28, 28)"),
    "wrong number of channels": ("x.npy", npy(np.zeros((8, 28, 28, 7), np.uint8)), "shape (8, 28, 28, 7)"),
    "no images": ("x.npy", npy(IMAGES[:0]), "shape (0, 28, 28)"),
    "wrong type": ("x.npy", npy(IMAGES.astype(np.int32)), "int32 images"),
    "complex": ("x.npy", npy(IMAGES.astype(np.complex64)), "complex64 images"),
    "wrong range": ("x.npy", npy(IMAGES * 255), "scale them to [0, 1] or [-1, 1]"),
    "NaN": ("x.npy", npy(np.where(IMAGES > 0.9, np.nan, IMAGES)), "NaN or infinite"),
    "pickled": ("x.npy", lambda path: path.write_bytes(pickle.dumps([1, 2])), "not a NumPy file of plain numbers"),
    "object npy": ("x.npy", npy(np.array([{}, {}], object)), "not a NumPy file of plain numbers"),
    "object npz": ("x.npz", objects, "not a NumPy file of plain numbers"),
    "other keys": ("x.npz", lambda path: np.savez(path, a=IMAGES, b=IMAGES), "call the images one of"),
    "cut npz": ("x.npz", lambda path: path.write_bytes(b"PK\3\4 and no more"), "not a NumPy file"),
    "empty file": ("x.npy", lambda path: path.touch(), "not a NumPy file"),
    "text": ("x.txt", lambda path: path.write_text("hello"), "is not a folder of images, an IDX file"),
    "empty folder": ("x", lambda path: path.mkdir(), "holds no images"),
    "folder with a broken image": ("x", broken_image, "b.png cannot be read as an image"),
    "images beside classes": ("x", loose_and_classes, "both directly (a.png) and in sub-folders"),
}


@pytest.mark.parametrize("case", DATA)
def test_data(case, capsys, tmp_path):
    name, make, part = DATA[case]
    make(Path(name))
    fails(["train", "--steps", "1", "--data", name], capsys, tmp_path, name, part)


IDX = struct.pack(">4B3I", 0, 0, 8, 3, 2, 28, 28) + bytes(2 * 28 * 28)
MNIST = {
    "empty": (b"", "is empty"),
    "corrupt gzip": (gzip.compress(IDX, mtime=0)[:40], "damaged or incomplete gzip file"),
    "wrong magic": (gzip.compress(b"\1" + IDX, mtime=0), "is not the original"),
    "truncated idx": (gzip.compress(IDX[:1000], mtime=0), "is not the original"),
    "no gzip": (b"<html>", "is not the original"),
}


@pytest.mark.parametrize("name", ["mnist", "auto"])
@pytest.mark.parametrize("case", MNIST)
def test_damaged_mnist(case, name, capsys, tmp_path):
    """A damaged file must not be hidden by training on something else."""
    content, part = MNIST[case]
    Path("mnist").mkdir()
    for file in mnist.FILES:
        Path("mnist", f"{file}.gz").write_bytes(content)
    fails(f"train --steps 1 --data {name} --data-dir .", capsys, tmp_path, "train-images-idx3-ubyte.gz", part,
          "scratchgan data fetch mnist")


# -- where to write ------------------------------------------------------------------------------------------------


def test_out_is_a_file(capsys, tmp_path):
    Path("file").touch()
    fails("train --data digits --steps 1 --out file", capsys, tmp_path, "file", "--out")


@pytest.mark.parametrize("out", ["file/run", "file/deep/run", pytest.param("/proc/nobody/run", marks=needs_proc)])
def test_out_cannot_be_made(out, capsys, tmp_path):
    Path("file").touch()
    fails(f"train --data digits --steps 1 --out {out}", capsys, tmp_path, out, "Cannot write a run")


def test_out_holds_another_run(capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    fails("train --data digits --steps 1 --out RUN", capsys, tmp_path, "RUN already holds a run", "--resume RUN")


SAMPLE_OUT = {
    "missing/a.png": "there is no folder missing",
    "missing/folder/": "there is no folder missing",
    "file/a.npy": "there is no folder file",
    "file/": "file is a file",
    "a.jpg": "--out must be NAME.png, NAME.npy, NAME.npz or a folder",
    "a.gif": "--out must be NAME.png, NAME.npy, NAME.npz or a folder",
    "foreign": "foreign holds other files (notes.txt)",
    "RUN": "RUN holds other files",
    ".": "holds other files",
}


@pytest.mark.parametrize("out", [*SAMPLE_OUT, pytest.param("/proc/a.png", marks=needs_proc)])
def test_sample_out(out, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    Path("file").touch()
    Path("foreign").mkdir()
    Path("foreign/notes.txt").write_text("mine")
    fails(f"sample RUN --out {out}", capsys, tmp_path, SAMPLE_OUT.get(out, "/proc"))


@pytest.mark.parametrize("arguments, part", [
    ("sample RUN --interpolate 1 2 --out a.npy", "--out must be NAME.png, NAME.gif here"),
    ("sample RUN --interpolate 1 2 -n 5", "-n cannot be given with --interpolate"),
    ("sample RUN -n 5 --rows 2 --columns 3", "cannot all be given"),
    ("sample RUN --data digits", "--data is for --real"),
    ("sample RUN --real -n 2000", "digits has 1,797 images, 2,000 were asked for"),
    ("sample RUN --real --data mine.npy", "mine.npy is not what the run was trained on"),
    ("sample RUN --real --data nonesuch", "there is no data set, file or folder 'nonesuch'"),
    ("plot RUN --out missing/a.png", "there is no folder missing"),
    ("plot RUN --out a.bmp", "--out must be a file that ends in .png, .svg, .pdf"),
    ("plot RUN --out foreign.png", "--out must be a file that ends in"),
])
def test_sample_and_plot(arguments, part, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    np.save("mine.npy", IMAGES)
    Path("foreign.png").mkdir()
    fails(arguments, capsys, tmp_path, part)


@pytest.mark.parametrize("content", [None, b"", b"step,epoch,loss_d\n", b"step,epoch,loss_d\n1,0,0."])
def test_plot_without_metrics(content, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    Path("RUN/metrics.csv").unlink()
    if content is not None:
        Path("RUN/metrics.csv").write_bytes(content)
    fails("plot RUN", capsys, tmp_path, "metrics.csv has no rows yet")


def test_a_full_disk(capsys, tmp_path, trained, monkeypatch):
    shutil.copytree(trained, "RUN")

    def full(*paths):
        raise OSError(28, "No space left on device", str(paths[1]))
    monkeypatch.setattr(os, "replace", full)
    fails("sample RUN", capsys, tmp_path, "RUN/sample.png: No space left on device")
    fails("plot RUN", capsys, tmp_path, "No space left on device")


def test_more_samples_than_memory_holds(capsys, tmp_path, trained, monkeypatch):
    from scratchgan.gan import Game
    shutil.copytree(trained, "RUN")

    def sample(*arguments):
        raise MemoryError("Unable to allocate 2.9 PiB")
    monkeypatch.setattr(Game, "sample", sample)
    fails("sample RUN -n 1000000000000 --out a.npy", capsys, tmp_path, "not enough memory", "2.9 PiB")


# -- runs ----------------------------------------------------------------------------------------------------------


def foreign(run):
    shutil.rmtree(run)
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"learning_rate": 1}))


def foreign_json(run):
    (run / "config.json").write_text("[1, 2]")


def no_json(run):
    (run / "config.json").write_bytes((run / "config.json").read_bytes()[:100])


def cut_all(run):
    for path in run.glob("checkpoints/*/generator.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])


def remove_all(run):
    shutil.rmtree(run / "checkpoints")


def other_data(run):
    config = json.loads((run / "config.json").read_bytes())
    config["data"]["sha256"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config))


def other_recipe(run):
    config = json.loads((run / "config.json").read_bytes())
    (run / "config.json").write_text(json.dumps(config | {"recipe": "nonesuch"}))


RESUME = {
    "train --resume nonesuch": (None, "There is no run in nonesuch"),
    "train --resume .": (None, "There is no run in ."),
    "train nonesuch --resume RUN": (None, "is of recipe mlp, not nonesuch"),
    "train --resume RUN --lr 1": (None, "--lr cannot be given with --resume"),
    "train --resume RUN --schedule linear": (None, "--schedule cannot be given with --resume"),
    "train --resume RUN --seed 0": (None, "--seed cannot be given with --resume"),
    "train --resume RUN --z-dim 3": (None, "--z-dim cannot be given with --resume"),
    "train --resume RUN --drop-last": (None, "--drop-last cannot be given with --resume"),
    "train --resume RUN --flip": (None, "--flip cannot be given with --resume"),
    "train --resume RUN --out other": (None, "--out cannot be given with --resume"),
    "train --resume RUN --steps 9 --data mine.npy": (None, "The data are not those of the run"),
    "train --resume RUN --steps 9": (foreign, "is not the config.json of a run"),
    "train --resume RUN --steps 8": (foreign_json, "config.json"),
    "train --resume RUN --steps 7": (no_json, "is damaged"),
    "train --resume RUN --steps 6": (cut_all, "is damaged"),
    "train --resume RUN --steps 5": (other_data, "The data are not those of the run"),
    "train --resume RUN --steps 4": (other_recipe, "Unknown recipe 'nonesuch'"),
    "sample RUN": (cut_all, "is damaged"),
    "sample RUN -n 1": (remove_all, "has no checkpoint: give another run"),
    "sample RUN -n 2": (foreign, "is not the config.json of a run"),
    "sample RUN --real": (other_data, "is not what the run was trained on"),
}


@pytest.mark.parametrize("arguments", RESUME)
def test_runs(arguments, capsys, tmp_path, trained):
    shutil.copytree(trained, "RUN")
    np.save("mine.npy", IMAGES)
    spoil, part = RESUME[arguments]
    if spoil:
        spoil(Path("RUN"))
    fails(arguments, capsys, tmp_path, part)
