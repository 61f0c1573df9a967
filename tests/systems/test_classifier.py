"""The classifier: its step against PyTorch and the complex step, what it knows of images, runs of its recipe."""

import numpy as np
import pytest
from torch_oracle import assert_close, torch_module

from scratchgan import backend, data, gradcheck, recipes
from scratchgan.cli import main
from scratchgan.errors import UserError
from scratchgan.layers import Flatten, Linear, ReLU, Sequential
from scratchgan.optimizers import Adam
from scratchgan.recipes.classifier import held_out
from scratchgan.systems import Classifier
from scratchgan.systems.classifier import shifted

TINY = {"width": 3, "hidden": 7}


def build(device="cpu", dtype="float32", **settings):
    system = recipes.get("classifier").build(seed=3, device=device, **{**TINY, **settings})
    system.network.to(dtype=dtype)
    return system


def digits(n):
    everything = data.load("digits")
    return everything.images[:n] / np.float32(255), everything.labels[:n]


def in_torch(system):
    torch = torch_module()
    nn, (c, w, f) = torch.nn, (system.sample_shape[0], system.network[0].out_channels, system.network[9].out_features)
    theirs = nn.Sequential(nn.Conv2d(c, w, 4, 2, 1), nn.ReLU(), nn.Conv2d(w, 2 * w, 4, 2, 1), nn.ReLU(),
                           nn.Conv2d(2 * w, 2 * w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                           nn.Dropout(0.4), nn.Linear(18 * w, f), nn.ReLU(), nn.Linear(f, system.classes))
    state = {key: torch.from_numpy(value) for key, value in system.network.state_dict().items()}
    theirs.to(next(iter(state.values())).dtype).load_state_dict(state, strict=True)
    return torch, theirs


# -- a step -------------------------------------------------------------------------------------------------------


def test_loss_and_gradients_of_torch():
    system, (x, labels) = build(dtype="float64", dropout=0.0, shift=0), digits(8)
    torch, theirs = in_torch(system)
    scores = theirs.eval()(torch.from_numpy(x.astype(np.float64)))
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels))
    loss.backward()
    metrics = system.gradient(x, labels)
    assert_close(metrics["loss"], loss, 1e-9, "loss")
    assert metrics["accuracy"] == (scores.detach().numpy().argmax(axis=1) == labels).mean()
    grads = {f"{prefix}{name}": grad for prefix, sub in system.network.named_layers()
             for name, grad in sub.grads.items()}
    for key, parameter in theirs.named_parameters():
        assert_close(grads[key], parameter.grad, 1e-9, key)


def test_gradients_by_complex_step(device):
    """Dropout and shifts are those of the step."""
    x, labels = digits(3)
    report = gradcheck.check_system(build(device), x, labels, directions=2, entries=8).raise_if_failed()
    assert report.worst("complex step") <= 1e-12


def test_first_3_steps_are_the_same_on_every_device(device):
    host, there = build(), build(device)
    for i in range(3):
        x, labels = (array[8 * i:8 * i + 8] for array in digits(24))
        mine, theirs = host.step(x, labels), there.step(backend.to_device(x, device), labels)
        assert set(mine) == {"loss", "accuracy"} and abs(mine["loss"] - theirs["loss"]) < 1e-4
    assert np.abs(host.network.theta - backend.to_host(there.network.theta)).max() < 1e-4
    assert np.abs(host.probabilities(x) - there.probabilities(x)).max() < 1e-4


def test_images_are_shifted_each_by_its_own(device):
    x = backend.to_device(np.arange(1.0, 25).reshape(2, 1, 3, 4), device)
    moved = backend.to_host(shifted(x, backend.to_device(np.array([[0, 0], [1, -2]]), device), 2))
    assert np.array_equal(moved[0], backend.to_host(x)[0])
    assert moved[1, 0].tolist() == [[0, 0, 0, 0], [15, 16, 0, 0], [19, 20, 0, 0]]


def test_shifts_are_as_likely_and_change_with_the_step():
    """Seen in the gradient of a network without dropout: the same in the same step, others in another."""
    system, (x, labels) = build(dropout=0.0), digits(8)
    losses = []
    for steps in (0, 0, 1):
        system.steps = steps
        losses.append(float(system.gradient(x, labels)["loss"]))
    assert losses[0] == losses[1] != losses[2]


def test_it_learns():
    system, (x, labels) = build(width=8, hidden=32, dropout=0.1, lr=3e-3), digits(100)
    for _ in range(60):
        metrics = system.step(x, labels)
    assert metrics["loss"] < 0.5 and system.accuracy(x, labels) > 0.9


# -- what it knows ------------------------------------------------------------------------------------------------


def test_features_and_probabilities_are_of_eval_mode_whatever_is_asked_together(device):
    system, (x, _) = build(device), digits(230)
    p, features = system.probabilities(x), system.features(x)
    assert p.shape == (230, 10) and features.shape == (230, 6) and p.dtype == features.dtype == np.float32
    assert np.allclose(p.sum(axis=1), 1, atol=1e-5) and features.min() >= 0
    assert np.allclose(p[101:103], system.probabilities(x[101:103]), atol=1e-6)
    pixels = data.load("digits").images[:230]
    assert np.allclose(p, system.probabilities(pixels), atol=1e-5)
    for mine, expected in zip(system.features_and_probabilities(x), (features, p), strict=True):
        assert np.allclose(mine, expected, atol=1e-6)
    maps = system.network.twin().eval()[:7].forward(backend.to_device(x[:5], device))
    assert maps.shape == (5, 6, 3, 3)
    assert np.allclose(features[:5], backend.to_host(maps).mean(axis=(2, 3)), atol=1e-6) and system.network.training
    with pytest.raises(ValueError, match=r"expected a batch of shape \(N, 1, 28, 28\), got \(0, 1, 28, 28\)"):
        system.probabilities(x[:0])
    system.body = 11  # the last layer's input
    assert system.features(x[:5]).shape == (5, 7)


def test_it_is_measured_on_held_out_images(monkeypatch):
    x, labels = digits(30)
    system = build()
    system.held_out = None
    assert system.measure() == {}
    system.held_out = lambda: (x, labels)
    assert system.measure() == {"accuracy_held_out": system.accuracy(x, labels)}
    assert held_out("digits") is None


@pytest.mark.usefixtures("alone")
def test_commands_know_it(capsys):
    small = ["--width", "2", "--hidden", "3", "--device", "cpu"]
    assert main(["train", "classifier", "--data", "digits", "--steps", "3", "--batch-size", "4", *small]) == 0
    assert "accuracy in training" in capsys.readouterr().out
    assert main(["plot", "runs/classifier"]) == 0
    assert main(["sample", "runs/classifier"]) == 2
    assert "Classifier makes no samples" in capsys.readouterr().err


# -- bad input ----------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused():
    system, (x, labels) = build(), digits(4)
    for given, words in ((labels[:3], "one whole number for each of 4 images"), (labels / 1, "got float64"),
                         (labels + 10, "labels must be from 0 to 9"), (None, "got object")):
        with pytest.raises(ValueError, match=words):
            system.step(x, given)
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
        system.step(x * 2 - 1, labels)
    with pytest.raises(UserError, match="Recipe classifier needs examples with labels"):
        recipes.get("classifier").build(facts={"classes": 0})
    network = Sequential(Flatten(), Linear(16, 4), ReLU(), Linear(4, 3))
    with pytest.raises(ValueError, match="optimizer is not one of the network"):
        Classifier(network, Adam(Linear(2, 2)), sample_shape=(1, 4, 4), classes=3)
    with pytest.raises(TypeError, match="network must be a Sequential"):
        Classifier(network[1], Adam(network), sample_shape=(1, 4, 4), classes=3)
