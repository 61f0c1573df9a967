"""The feature net that comes with the package: its accuracy, its SHA-256, its likeness in PyTorch."""

import hashlib

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


def test_the_weights_are_those_of_a_network_of_pytorch():
    from safetensors.numpy import load_file
    torch = torch_module()
    nn = torch.nn
    theirs = nn.Sequential(nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(),
                           nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                           nn.Dropout(0.4), nn.Linear(576, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in load_file(features.WEIGHTS).items()})
    images = data.load("digits", size=28).images[:20] / np.float32(255)
    scores = theirs(torch.from_numpy(images)).softmax(dim=1).detach().numpy()
    assert np.abs(scores - feature_net().probabilities(images)).max() < 1e-5


def test_other_files_are_refused(tmp_path, monkeypatch):
    features._made.cache_clear()
    monkeypatch.setattr(features, "WEIGHTS", tmp_path / "mnist.safetensors")
    with pytest.raises(UserError, match=r"cannot be read .*install scratchgan again"):
        feature_net()
    features.WEIGHTS.write_bytes(b"others")
    with pytest.raises(UserError, match=r"is not the file that mnist\.json describes"):
        feature_net()
