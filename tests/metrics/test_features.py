"""The feature net that comes with the package: its accuracy, its SHA-256, its likeness in PyTorch."""

import hashlib
import runpy
from pathlib import Path

import numpy as np
import pytest
from torch_oracle import torch_module

from scratchgan import data
from scratchgan.data import mnist
from scratchgan.errors import UserError
from scratchgan.metrics import feature_net, feature_record, features


def test_its_files():
    record, weights = feature_record(), features.WEIGHTS.read_bytes()
    assert hashlib.sha256(weights).hexdigest() == record["sha256"] and len(weights) < 1e6
    assert record["accuracy"] >= 0.993 and record["command"].startswith("scratchgan train classifier --data mnist")
    assert feature_net().network.theta.size < 250_000 and feature_net() is feature_net("cpu")


@pytest.mark.skipif(bool(mnist.missing(files=mnist.SPLITS["test"])), reason="MNIST is not on this machine")
def test_its_accuracy_on_the_test_images():
    test = data.load_mnist("test")
    assert feature_net().accuracy(test.images, test.labels) == pytest.approx(feature_record()["accuracy"], abs=1.5e-4)


def test_features_and_probabilities(device):
    images = data.load("digits", size=28).images[:50]
    p, x = feature_net(device).probabilities(images), feature_net(device).features(images)
    assert p.shape == (50, 10) and x.shape == (50, 64)
    assert (p.argmax(axis=1) == data.load("digits").labels[:50]).mean() > 0.7  # digits of other hands, made larger


def test_the_example_has_the_same_net_in_pytorch():
    torch_module()
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "feature_net_pytorch.py"))
    images = data.load("digits", size=28).images[:20]
    theirs = example["features_and_probabilities"](example["network"](), images)
    for mine, other in zip(feature_net().features_and_probabilities(images), theirs, strict=True):
        assert np.abs(mine - other).max() < 1e-5


def test_other_files_are_refused(tmp_path, monkeypatch):
    features._made.cache_clear()
    monkeypatch.setattr(features, "WEIGHTS", tmp_path / "mnist.safetensors")
    with pytest.raises(UserError, match=r"cannot be read .*install scratchgan again"):
        feature_net()
    features.WEIGHTS.write_bytes(b"others")
    with pytest.raises(UserError, match=r"is not the file that mnist\.json describes"):
        feature_net()
