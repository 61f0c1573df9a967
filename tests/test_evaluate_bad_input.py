"""What `scratchgan evaluate` cannot measure: one sentence on standard error, no traceback, nothing written."""

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import fails
from safetensors.numpy import load_file, save_file

from scratchgan import backend, data, recipes, training
from scratchgan.cli import main

pytestmark = pytest.mark.usefixtures("alone")
GOOD = np.zeros((100, 1, 28, 28), np.float32)


def image(value, dtype=np.float32):
    images = GOOD.astype(dtype)
    images[3, 0, 4, 5] = value
    return images


# -- arrays --------------------------------------------------------------------------------------------------------

ARRAYS = {
    "larger": (np.zeros((100, 1, 32, 32)), "(100, 1, 32, 32): MNIST's images are (N, 1, 28, 28)"),
    "two channels": (np.zeros((100, 2, 28, 28), np.uint8), "(100, 2, 28, 28): MNIST's images are (N, 1, 28, 28)"),
    "four channels": (np.zeros((100, 28, 28, 4), np.uint8), "those of stacked digits (N, 3, 28, 28)"),
    "points": (np.zeros((100, 2)), "(100, 2): MNIST's"),
    "video": (np.zeros((100, 1, 1, 28, 28), np.uint8), "(100, 1, 1, 28, 28)"),
    "one image": (np.zeros((28, 28)), "(28, 28): MNIST's"),
    "number": (np.zeros(()), "an array of shape ()"),
    "row": (np.zeros(784), "an array of shape (784,)"),
    "empty": (GOOD[:0], "holds 0 images: give 100 to 50,000"),
    "empty pixels": (np.zeros((100, 0)), "(100, 0)"),
    "too few": (GOOD[:99], "holds 99 images: give 100 to 50,000"),
    "too few of three": (np.zeros((99, 3, 28, 28), np.uint8), "holds 99 images: give 100 to 50,000, best 26,000"),
    "too many": (np.zeros((50_001, 784), np.uint8), "holds 50,001 images: give 100 to 50,000"),
    "nan": (image(np.nan), "values that are NaN or infinite: remove"),
    "infinite": (image(np.inf), "values that are NaN or infinite"),
    "nan of three": (np.full((100, 3, 28, 28), np.nan, np.float16), "values that are NaN or infinite"),
    "bytes as floats": (image(255), "floats from 0 to 255: scale them"),
    "below": (image(-2), "floats from -2 to 0: scale them"),
    "huge": (image(1e300, np.float64), "floats from 0 to 1e+300: scale them"),
    "int64": (GOOD.astype(np.int64), "holds int64 images: convert them to uint8"),
    "int8": (GOOD.astype(np.int8), "holds int8 images"),
    "bool": (GOOD.astype(bool), "holds bool images: convert them to uint8, or to floats"),
    "complex": (GOOD.astype(complex), "holds complex128 images"),
    "text": (np.full((100, 28, 28), "a"), "holds <U1 images"),
    "dates": (GOOD.astype("datetime64[s]"), "holds datetime64[s] images"),
    "records": (np.zeros((100, 28, 28), [("grey", "f4")]), "images: convert them to uint8"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name, capsys, tmp_path):
    array, words = ARRAYS[name]
    np.save("samples.npy", array)
    fails("evaluate samples.npy", capsys, tmp_path, "samples.npy holds ", words)


# -- files ---------------------------------------------------------------------------------------------------------


def saved(save=np.save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def zipped(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def damaged():
    """An archive whose compressed numbers are not those that were written."""
    content = bytearray(saved(np.savez_compressed, images=np.random.default_rng(0).random((100, 784), np.float32)))
    content[len(content) // 2] ^= 255
    return bytes(content)


def encrypted():
    """An archive that asks for a password: the first flag of its member, in its own header and in the directory."""
    content = bytearray(saved(np.savez, images=GOOD))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.rindex(mark) + at] |= 1
    return bytes(content)


NO_ARRAY = "not a NumPy file of plain numbers"
FILES = {
    "text.npy": (b"0.1 0.2\n" * 9, NO_ARRAY),
    "text.npz": (b"images\n", NO_ARRAY),
    "nothing.npy": (b"", NO_ARRAY),
    "nothing.npz": (b"", NO_ARRAY),
    "picture.npy": (b"\x89PNG\r\n\x1a\n" + bytes(99), NO_ARRAY),
    "short.npy": (saved(np.save, GOOD)[:-99], NO_ARRAY),
    "header.npy": (saved(np.save, GOOD)[:40], NO_ARRAY),
    "endless.npy": (saved(np.save, GOOD).replace(b"(100, 1, 28, 28), }", b"(9999999999999,), }"), NO_ARRAY),
    "short.npz": (saved(np.savez, images=GOOD)[:-99], NO_ARRAY),
    "damaged.npz": (damaged(), NO_ARRAY),
    "secret.npz": (encrypted(), NO_ARRAY),
    "objects.npy": (saved(np.save, np.array([{}, 1], object)), NO_ARRAY),
    "objects.npz": (saved(np.savez, images=np.array([{}, 1], object)), NO_ARRAY),
    "other.npz": (zipped("images.txt", "0 1 2"), NO_ARRAY),
    "words.npz": (zipped("images.npy", "0 1 2"), NO_ARRAY),
    "folder.npz": (zipped("images/", ""), NO_ARRAY),
    "none.npz": (saved(np.savez), "holds nothing: call the images one of images"),
    "names.npz": (saved(np.savez, a=GOOD, b=GOOD), "holds a, b: call the images one of"),
    "notes.txt": (b"no run", "neither the folder of a run nor a .npy or .npz file"),
    "samples": (saved(np.save, GOOD), "neither the folder of a run nor a .npy or .npz file"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name, capsys, tmp_path):
    content, words = FILES[name]
    Path(name).write_bytes(content)
    fails(f"evaluate {name}", capsys, tmp_path, name, words)


# -- options -------------------------------------------------------------------------------------------------------

OPTIONS = {
    "": "RUN|FILE; see scratchgan evaluate --help",
    "nowhere": "no run in nowhere",
    "nowhere.npy": "nowhere.npy cannot be read: No such file",
    "folder": "no run in folder",
    "folder.npy": "no run in folder.npy",
    "good.npy other.npy": "other.npy",
    "good.npy -n 200": "-n is for runs",
    "nowhere -n 5": "must be a whole number, from 100 to 50,000, not '5'",
    "nowhere -n 50001": "must be a whole number, from 100 to 50,000, not '50001'",
    "nowhere -n 1e3": "must be a whole number, from 100 to 50,000, not '1e3'",
    "good.npy --metrics frechet,beauty": "not 'beauty'",
    "good.npy --metrics frechet,": "not ''",
    "good.npy --metrics=": "not ''",
    "good.npy --metrics": "--metrics",
    "good.npy --metrics Frechet": "not 'Frechet'",
    "good.npy --metrics classes,conditional": "conditional is for runs whose samples are asked to be of a class",
    "good.npy --seed -1": "--seed must be a whole number, 0 or more, not '-1'",
    "good.npy --seed x": "--seed must be a whole number, 0 or more, not 'x'",
    "good.npy --against cifar": "--against: invalid choice: 'cifar'",
    "good.npy --against stacked": "--against stacked is for samples of shape (3, 28, 28)",
    "three.npy --against mnist": "--against mnist is for samples of shape (1, 28, 28)",
    "three.npy --metrics frechet": "--metrics is for images of one digit",
    "three.npy --pairs pairs.png": "--pairs is for images of digits",
    "good.npy --pairs pairs.gif": "--pairs must be a file NAME.png, not 'pairs.gif'",
    "good.npy --pairs nowhere/pairs.png": "there is no folder nowhere to write pairs.png to",
    "good.npy --device tpu": "--device",
    "good.npy --beauty": "--beauty",
}


@pytest.mark.parametrize("arguments", OPTIONS)
def test_options(arguments, capsys, tmp_path):
    np.save("good.npy", GOOD)
    np.save("three.npy", np.zeros((100, 3, 28, 28), np.uint8))
    Path("folder").mkdir()
    Path("folder.npy").mkdir()
    fails(f"evaluate {arguments}", capsys, tmp_path, OPTIONS[arguments])


@pytest.mark.skipif(backend.cuda_problem() is None, reason="there is a CUDA device here")
def test_a_device_that_is_not_here(capsys, tmp_path):
    np.save("good.npy", GOOD)
    fails("evaluate good.npy --device cuda", capsys, tmp_path, "Device cuda was asked for")


@pytest.mark.parametrize("shape", [(100, 1, 28, 28), (100, 3, 28, 28)])
def test_without_mnist(shape, capsys):
    np.save("good.npy", np.zeros(shape, np.uint8))
    assert main(["evaluate", "good.npy", "--device", "cpu"]) == 2
    assert "error: MNIST was not found" in capsys.readouterr().err.splitlines()[-1]


# -- runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of some runs of two steps."""
    folder = tmp_path_factory.mktemp("runs")
    digits = data.load("digits", size=28)
    colour, large = (data.Dataset.of(name, np.zeros((8, 3, size, size), np.uint8), None, "made by a test")
                     for name, size in (("colour", 28), ("large", 64)))
    for name, source in (("classifier", digits), ("mlp", digits), ("r3gan28", colour), ("dcgan64", large),
                         ("ring8", data.load("ring8")), ("spiral", data.load("spiral"))):
        training.start(name, source, folder / name, recipes.get(name).small, device="cpu", steps=2, batch_size=8,
                       announce=lambda line: None)
    return folder


RUNS = {
    "classifier": "a run of a Classifier, which makes no samples to measure: give the run of a GAN",
    "spiral": "points of spiral, which has no modes",
    "r3gan28": "samples of shape (3, 28, 28) of colour, and MNIST's are (1, 28, 28)",
    "dcgan64": "samples of shape (3, 64, 64) of large, and MNIST's are (1, 28, 28)",
    "ring8 --metrics frechet": "--metrics is for images",
    "ring8 --pairs pairs.png": "--pairs is for images of digits",
    "ring8 --against mnist": "--against mnist is for samples of shape (1, 28, 28), and those of",
    "mlp -n 100 --against stacked": "--against stacked is for samples of shape (3, 28, 28), and those of",
    "mlp/checkpoints": "mlp/checkpoints",
    "mlp/checkpoints/step-00000009": "step-00000009",
    "mlp/config.json": "neither the folder of a run nor a .npy or .npz file",
    "mlp/checkpoints/step-00000002/generator.safetensors": "neither the folder of a run nor a .npy or .npz file",
}


@pytest.mark.parametrize("arguments", RUNS)
def test_runs(arguments, runs, capsys, tmp_path):
    fails(f"evaluate {runs}/{arguments} --device cpu", capsys, tmp_path, RUNS[arguments])


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def diverged(weights):
    """Weights that are NaN, with the SHA-256 that belongs to them."""
    save_file({key: np.full_like(value, np.nan) for key, value in load_file(weights).items()}, weights)
    state = json.loads(weights.with_name("state.json").read_text())
    assert weights.name in state["sha256"]
    state["sha256"][weights.name] = hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.with_name("state.json").write_text(json.dumps(state))


BROKEN = {
    "no checkpoints": (lambda run: shutil.rmtree(run / "checkpoints"), "checkpoint"),
    "empty checkpoints": (lambda run: [shutil.rmtree(each) for each in run.glob("checkpoints/*")], "checkpoint"),
    "weights cut": (lambda run: [cut(each) for each in run.glob("checkpoints/*/generator.safetensors")], "generator"),
    "no weights": (lambda run: [each.unlink() for each in run.glob("checkpoints/*/generator.safetensors")],
                   "generator"),
    "state cut": (lambda run: [cut(each) for each in run.glob("checkpoints/*/state.json")], "state.json"),
    "no state": (lambda run: [each.unlink() for each in run.glob("checkpoints/*/state.json")], "checkpoint"),
    "no configuration": (lambda run: (run / "config.json").unlink(), "config.json"),
    "configuration cut": (lambda run: cut(run / "config.json"), "config.json"),
    "diverged": (lambda run: [diverged(each) for each in run.glob("checkpoints/*/generator.safetensors")],
                 "samples that are NaN or infinite: give an earlier checkpoint"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_runs(name, runs, capsys, tmp_path):
    harm, words = BROKEN[name]
    shutil.copytree(runs / "mlp", "RUN")
    harm(Path("RUN"))
    fails("evaluate RUN -n 100 --device cpu", capsys, tmp_path, words)
