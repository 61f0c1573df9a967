"""The Inception net's Frechet distance: what the net is shown, and what is told where there is none."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from torch_oracle import torch_module

from scratchgan.errors import UserError
from scratchgan.metrics import frechet, inception, inception_features, inception_frechet


@pytest.fixture(autouse=True)
def new_net():
    inception.inception_net.cache_clear()
    yield
    inception.inception_net.cache_clear()


@pytest.fixture
def stub(monkeypatch):
    """A package in torch-fidelity's place, whose net returns what it is shown; the calls of its class."""
    torch, calls = torch_module(), []

    class Net(torch.nn.Module):
        def __init__(self, name, features_list):
            super().__init__()
            calls.append((name, features_list))
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, x):
            assert x.dtype == torch.uint8 and x.shape[1:] == (3, 28, 28) and not self.training
            return (x.reshape(len(x), -1)[:, :inception.SIZE] * self.weight,)
    monkeypatch.setitem(sys.modules, "torch_fidelity",
                        SimpleNamespace(FeatureExtractorInceptionV3=Net, __version__="0.4.0"))
    return calls


def test_the_net_of_pytorch_is_shown_bytes_in_three_channels(stub, rng):
    images = rng.integers(0, 256, (inception.AT_ONCE + 3, 1, 28, 28), np.uint8)
    expected = images.repeat(3, axis=1).reshape(len(images), -1)[:, :inception.SIZE].astype(np.float32)
    for given in (images, images / np.float32(255)):
        assert (inception_features(given) == expected).all()
    between = (images + rng.uniform(-0.4, 0.4, images.shape)).clip(0, 255) / 255
    assert (inception_features(between.astype(np.float32)) == expected).all()
    assert stub == [("inception-v3-compat", ["2048"])]
    assert inception.inception_facts() == {"inception_net": "inception-v3-compat of torch-fidelity 0.4.0"}


def test_the_distance_is_that_of_two_gaussians(rng):
    real, fake = rng.standard_normal((2, 30, 4))
    assert list(inception_frechet(real, fake).values()) == list(frechet(real, fake).values())
    assert list(inception_frechet(real, fake)) == ["inception-frechet", "inception-frechet_se"]


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UserError, match=r"torch_fidelity is not installed here: pip install \"scratchgan\[fidelity\]"):
        inception.inception_net()


def test_weights_of_pytorch_that_cannot_be_had_are_told(monkeypatch):
    torch_module()
    def offline(*_):
        raise OSError("<urlopen error Name or service not known>")
    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace(FeatureExtractorInceptionV3=offline))
    with pytest.raises(UserError, match=r"not known>\): its weights are downloaded from github\.com at first use"):
        inception.inception_net()
