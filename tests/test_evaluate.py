"""`scratchgan evaluate`: figures beside their yardsticks, and what cannot be measured."""

import json
import sys
import types

import numpy as np
import pytest
from command_line import call, fails
from PIL import Image

from scratchgan import data, training
from scratchgan.cli import evaluating, main
from scratchgan.metrics import evaluation, feature_record, inception

pytestmark = pytest.mark.usefixtures("alone")
FAST = "frechet,kernel,precision-recall,density-coverage,classes,inception,conditional"


@pytest.fixture
def small_mnist(monkeypatch):
    """The bundled digits in MNIST's place: 400 to train, 300 to test."""
    digits = data.load("digits", size=28)
    def load_mnist(split, *_, **__):
        rows = slice(0, 400) if split == "train" else slice(400, 700)
        return data.Dataset.of("mnist", digits.images[rows], digits.labels[rows], "made by a test")
    monkeypatch.setattr(data, "load_mnist", load_mnist)
    monkeypatch.setattr(evaluation, "TRAINED", 300)
    return digits


def start(name, settings, source=None, **more):
    training.start(name, source or data.load("digits", size=28), f"runs/{name}", settings, device="cpu", steps=2,
                   batch_size=8, announce=lambda line: None, **more)


def rows_of(text):
    return {row["set"]: row for row in map(json.loads, text.splitlines())}


def test_the_measures_are_those_that_are_offered():
    assert tuple(evaluation.MEASURES) == evaluating.NAMES
    assert set(evaluating.NAMES) - set(evaluating.chosen(None)) == {"inception-frechet"}


def test_the_inception_net_is_asked_where_it_is_named(small_mnist, monkeypatch, capsys, tmp_path):
    np.save("good.npy", small_mnist.images[700:1000])
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    fails("evaluate good.npy --metrics inception-frechet", capsys, tmp_path, 'pip install "scratchgan[fidelity]"')
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.SimpleNamespace(__version__="0.4.0"))
    monkeypatch.setattr(inception, "inception_net", lambda device: None)
    monkeypatch.setattr(evaluation, "inception_features", lambda images, device: images[:, 0, 14])
    rows = rows_of(call(capsys, "evaluate", "good.npy", "--metrics", "inception-frechet", "--json", "--device", "cpu"))
    assert rows["samples"]["inception-frechet"] < rows["noise"]["inception-frechet"]
    assert rows["samples"]["inception_net"] == "inception-v3-compat of torch-fidelity 0.4.0"


def test_good_samples_are_told_from_bad_ones(small_mnist, capsys):
    np.save("good.npy", small_mnist.images[700:1000] / np.float32(255))
    rows = rows_of(call(capsys, "evaluate", "good.npy", "--json", "--device", "cpu"))
    assert list(rows) == ["samples", "training images", "noise", "collapsed"]
    good, real, noise, collapsed = rows.values()
    for row in rows.values():
        assert row["net"] == feature_record()["sha256"] and (row["n"], row["seed"]) == (300, 0)
        assert row["against"] == "mnist" and len(row["against_sha256"]) == 64 and sum(row["counts"]) == 300
        errors = {f"{name}_se" for name in ("frechet", "kernel", "recall", "density", "kl", "inception", "parzen")}
        assert errors <= row.keys()
        assert "conditional" not in row
    assert max(good["frechet"], real["frechet"]) < 0.3 * collapsed["frechet"] < collapsed["frechet"] < noise["frechet"]
    assert noise["precision"] < 0.1 and min(good["precision"], collapsed["precision"]) > 0.5
    assert collapsed["recall"] < 0.1 < 0.5 < good["recall"]
    assert good["parzen"] > collapsed["parzen"] > noise["parzen"]
    assert real["memorised"] == collapsed["memorised"] == 1 and max(good["memorised"], noise["memorised"]) < 0.1


def test_a_picture_of_pairs(small_mnist, capsys, tmp_path):
    images = small_mnist.images[700:1000].copy()
    images[:3] = small_mnist.images[5]
    np.save("good.npy", images)
    out = call(capsys, "evaluate", "good.npy", "--metrics", "memorisation", "--pairs", "pairs.png", "--device", "cpu")
    assert out.startswith("wrote samples beside the training images nearest to them") and "of pixels" in out
    with Image.open("pairs.png") as picture:
        scale = picture.width // (4 * 60 + 4)
        pixels = np.asarray(picture)[::scale, ::scale]
    assert pixels.shape == (6 * 32 + 4, 4 * 60 + 4)
    copy, original, other, nearest = pixels[4:32, 4:32], pixels[4:32, 32:60], pixels[4:32, 64:92], pixels[4:32, 92:120]
    assert (copy == original).all() and (copy == small_mnist.images[5, 0]).all()  # once, though there are three
    assert (other != nearest).any() and (nearest == small_mnist.images[:400, 0]).all(axis=(1, 2)).any()


def test_a_file_of_bytes_or_of_another_range_is_the_same(small_mnist, capsys):
    images = small_mnist.images[700:800]
    np.save("bytes.npy", images)
    np.savez("wide.npz", images=images[:, 0] / 127.5 - 1)
    one, other = (rows_of(call(capsys, "evaluate", name, "--json", "--metrics", "frechet", "--device", "cpu"))
                  for name in ("bytes.npy", "wide.npz"))
    assert one["samples"]["frechet"] == pytest.approx(other["samples"]["frechet"], rel=1e-4)
    assert one["noise"]["frechet"] == other["noise"]["frechet"]


def test_a_run_as_a_table(small_mnist, capsys):
    start("cgan", {"widths_g": (8, 8, 8, 8), "widths_d": (8, 8, 8)})
    command = ["evaluate", "runs/cgan", "-n", "100", "--metrics", FAST, "--device", "cpu"]
    out = call(capsys, *command)
    assert out == call(capsys, *command) != call(capsys, *command, "--seed", "1")
    lines = out.splitlines()
    assert lines[0].split("  ")[-1].strip() == "net (SHA-256)"
    figures = [line.split()[0] for line in lines[1:lines.index("")]]
    assert figures == ["frechet", "kernel", "precision", "recall", "density", "coverage", "kl", "rarest", "sure",
                       "inception", "conditional"]
    assert all(line.endswith(feature_record()["sha256"][:16]) for line in lines[1:12])
    assert lines[-1] == "100 samples of runs/cgan against the 300 test images of mnist, seed 0"
    name, *counts = lines[-3].split()
    assert name == "collapsed" and len(counts) == 10 and all(int(count) % 10 == 0 for count in counts)  # ten images
    assert len({len(line) for line in lines[:12]}) == 1


def test_points_of_a_toy_set(capsys):
    start("ring8", {}, data.load("ring8"))
    rows = rows_of(call(capsys, "evaluate", "runs/ring8", "--json", "-n", "1000", "--device", "cpu"))
    assert rows["perfect"]["modes"] == rows["perfect"]["fair"] == 8 and rows["perfect"]["hq"] > 0.97
    assert rows["smear"]["hq"] < 0.05 and rows["samples"]["n"] == 1000
    assert "the 8 modes of ring8" in call(capsys, "evaluate", "runs/ring8", "--device", "cpu")


def test_what_cannot_be_measured_is_told_in_a_sentence(capsys, tmp_path):
    good = np.zeros((100, 1, 28, 28), np.float32)
    def image(value):
        other = good.copy()
        other[3, 0, 4, 5] = value
        return other
    files = {
        "shape": (np.zeros((100, 1, 32, 32)), "(100, 1, 32, 32): MNIST's images are (N, 1, 28, 28)"),
        "colour": (np.zeros((100, 3, 28, 28)), "MNIST's images are (N, 1, 28, 28)"),
        "number": (np.zeros(()), "holds an array of shape ()"),
        "empty": (good[:0], "holds 0 images: give 100 to 50,000"),
        "few": (good[:99], "holds 99 images: give 100 to 50,000"),
        "nan": (image(np.nan), "values that are NaN or infinite"),
        "infinite": (image(np.inf), "values that are NaN or infinite"),
        "range": (image(255), "floats from 0 to 255: scale them"),
        "negative": (image(-2), "floats from -2 to 0: scale them"),
        "whole": (good.astype(np.int64), "holds int64 images"),
        "complex": (good.astype(complex), "holds complex128 images"),
        "text": (np.full((100, 28, 28), "a"), "holds <U1 images"),
    }
    for name, (array, words) in files.items():
        np.save(f"{name}.npy", array)
        fails(f"evaluate {name}.npy", capsys, tmp_path, words)
    np.save("good.npy", good)
    with open("foreign.npy", "wb") as file:
        file.write(b"no array")
    with open("objects.npy", "wb") as file:
        np.save(file, np.array([{}]), allow_pickle=True)
    np.savez("names.npz", a=good, b=good)
    with open("notes.txt", "w") as file:
        file.write("no run")
    for arguments, words in (
            ("foreign.npy", "not a NumPy file of plain numbers"), ("objects.npy", "not a NumPy file of plain numbers"),
            ("names.npz", "holds a, b: call the images one of"),
            ("notes.txt", "neither the folder of a run nor a .npy or .npz file"),
            ("nowhere", "nowhere"), ("", "evaluate --help"), ("good.npy -n 200", "-n is for runs"),
            ("good.npy --metrics frechet,beauty", "not 'beauty'"), ("good.npy --metrics=", "not ''"),
            ("good.npy --pairs pairs.gif", "--pairs must be a file NAME.png, not 'pairs.gif'"),
            ("good.npy --pairs nowhere/pairs.png", "there is no folder nowhere to write pairs.png to"),
            ("good.npy --seed -1", "--seed must be"), ("runs -n 5", "must be a whole number, from 100 to 50,000"),
            ("good.npy --against cifar", "--against")):
        fails(f"evaluate {arguments}", capsys, tmp_path, words)
    assert main(["evaluate", "good.npy"]) == 2
    assert "error: MNIST was not found" in capsys.readouterr().err.splitlines()[-1]


def test_runs_that_cannot_be_measured_are_told(capsys, tmp_path):
    start("classifier", {"width": 2, "hidden": 2})
    start("spiral", {}, data.load("spiral"))
    colour = data.Dataset.of("colour", np.zeros((8, 3, 28, 28), np.uint8), None, "made by a test")
    start("vae", {"widths": (5,)}, colour)
    start("ring8", {}, data.load("ring8"))
    for arguments, words in (("runs/classifier", "a run of a Classifier, which makes no samples"),
                             ("runs/spiral", "points of spiral, which has no modes"),
                             ("runs/vae", "samples of shape (3, 28, 28)"),
                             ("runs/ring8 --pairs pairs.png", "--pairs is for images of digits"),
                             ("runs/ring8 --metrics frechet", "--metrics is for images")):
        fails(f"evaluate {arguments}", capsys, tmp_path, words)
    assert main(["evaluate", "--help"]) == 0
