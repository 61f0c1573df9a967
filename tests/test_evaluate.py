"""`scratchgan evaluate`: figures beside their yardsticks, and what cannot be measured."""

import errno
import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from command_line import call, fails
from PIL import Image

from scratchgan import data, recipes, training
from scratchgan.cli import evaluating, main
from scratchgan.metrics import feature_record, inception, measures

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
    monkeypatch.setattr(measures, "TRAINED", 300)
    return digits


def start(name, settings, source=None, **more):
    training.start(name, source or data.load("digits", size=28), f"runs/{name}", settings, device="cpu", steps=2,
                   batch_size=8, announce=lambda line: None, **more)


def rows_of(text):
    return {row["set"]: row for row in map(json.loads, text.splitlines())}


def test_the_measures_are_those_that_are_offered():
    assert tuple(measures.MEASURES) == evaluating.NAMES
    assert evaluating.chosen(None) == measures.USUAL
    assert {*evaluating.NAMES} - {*measures.USUAL} == {"inception-frechet"}


def test_the_inception_net_is_asked_where_it_is_named(small_mnist, monkeypatch, capsys, tmp_path):
    np.save("good.npy", small_mnist.images[700:1000])
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    fails("evaluate good.npy --metrics inception-frechet", capsys, tmp_path, 'pip install "scratchgan[fidelity]"')
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.SimpleNamespace(__version__="0.4.0"))
    monkeypatch.setattr(inception, "inception_net", lambda device: None)
    monkeypatch.setattr(measures, "inception_features", lambda images, device: images[:, 0, 14])
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


@pytest.mark.parametrize("low, high", [(-5e-4, 1), (0, 1.0005), (-1.0005, 1), (-1, 1.0005)])
def test_values_a_little_beyond_their_range(low, high):
    """As rounding to float16 makes them; which of the two ranges it is stays as it was."""
    images = np.zeros((100, 1, 28, 28), np.float64)
    images[0, 0, 0, :2] = low, high
    np.save("beyond.npy", images)
    found = evaluating.of_file(Path("beyond.npy"))
    assert found.dtype == np.float32 and found[0, 0, 0, :3].tolist() == [0, 1, 0.5 if low < -0.5 else 0]


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
    assert all({"hq_se", "kl_se"} <= row.keys() for row in rows.values())
    assert "the 8 modes of ring8" in call(capsys, "evaluate", "runs/ring8", "--device", "cpu")


def test_figures_that_are_not_written_are_a_failure(monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")
    start("ring8", {}, data.load("ring8"))
    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["evaluate", "runs/ring8", "--json", "-n", "100", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == "scratchgan: error: No space left on device\n"


def test_images_of_three_digits(small_mnist, capsys):
    images = small_mnist.images[np.arange(300).reshape(100, 3), 0]  # (100, 3, 28, 28)
    np.save("three.npy", images)
    np.save("last.npy", images.transpose(0, 2, 3, 1) / np.float32(127.5) - 1)
    rows = rows_of(call(capsys, "evaluate", "three.npy", "--json", "--device", "cpu"))
    assert list(rows) == ["samples", "perfect", "noise", "collapsed"]
    for row in rows.values():
        assert row["net"] == feature_record()["sha256"] and (row["n"], row["against"]) == (100, "stacked")
        assert {"modes_se", "kl_se", "sure_se"} <= row.keys()
    assert rows["samples"]["modes"] > 70 < rows["perfect"]["modes"] and rows["collapsed"]["modes"] <= 10
    assert rows["collapsed"]["kl"] > rows["perfect"]["kl"] + 1
    other = rows_of(call(capsys, "evaluate", "last.npy", "--json", "--device", "cpu", "--against", "stacked"))
    assert other["samples"] == rows["samples"] | {"of": "last.npy"}


def test_a_run_of_stacked_as_a_table(small_mnist, monkeypatch, capsys):
    monkeypatch.setattr(evaluating, "STACKED", 100)
    start("stacked", recipes.get("stacked").small, data.Stacked(small_mnist))
    out = call(capsys, "evaluate", "runs/stacked", "--device", "cpu")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:lines.index("")]] == ["modes", "kl", "sure"]
    assert all(line.count("+-") == 4 and line.endswith(feature_record()["sha256"][:16]) for line in lines[1:4])
    assert lines[-1].startswith("100 samples of runs/stacked against the 1,000 modes of stacked MNIST")


def test_help(capsys):
    assert "26,000" in call(capsys, "evaluate", "--help")


def test_what_was_not_learned_from_digits_is_said(small_mnist, capsys):
    shapes = data.Dataset.of("shapes", np.zeros((20, 1, 28, 28), np.uint8), np.arange(20) % 10, "made by a test")
    start("cgan", recipes.get("cgan").small, shapes)
    assert main(["evaluate", "runs/cgan", "-n", "100", "--metrics", "classes", "--device", "cpu"]) == 0
    assert "runs/cgan has learned from shapes: its samples are measured as if" in capsys.readouterr().err
    assert main(["evaluate", "runs/cgan", "-n", "100", "--metrics", "conditional", "--device", "cpu"]) == 2
