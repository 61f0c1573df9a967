"""Modes of stacked digits: what is counted, its errors, and that images are judged channel by channel."""

import math

import numpy as np
import pytest

from scratchgan import data
from scratchgan.metrics import feature_net, stacked
from scratchgan.metrics.stacked import in_parts, judged, of_stacked


def sure_of(digits, k=10):
    return np.eye(k)[digits]


def test_every_mode_once():
    digits = np.stack(np.meshgrid(*[np.arange(10)] * 3), axis=-1).reshape(-1, 3)
    found = of_stacked(sure_of(digits))
    assert found["modes"] == 1000 and found["kl"] == pytest.approx(0) and found["sure"] == 1
    assert found["modes_se"] == 0  # every image alone in its mode: whichever is left out, 999 remain


def test_values_counted_by_hand():
    p = sure_of([[0, 0], [0, 0], [0, 1], [1, 0]], 2)  # modes 0, 0, 1, 2 of 4
    p[0, 0] = 0.8, 0.2
    found = of_stacked(p)
    assert found["modes"] == 3 and found["modes_se"] == pytest.approx(math.sqrt(2 * (1 - 2 / 4)))
    assert found["kl"] == pytest.approx(0.5 * math.log(0.5 * 4) + 2 * 0.25 * math.log(0.25 * 4))
    assert found["sure"] == 7 / 8 and found["sure_se"] == pytest.approx(math.sqrt(3) / 4 / 2 / 2)


def test_one_mode_alone():
    found = of_stacked(sure_of(np.tile([3, 1, 4], (50, 1))))
    assert (found["modes"], found["modes_se"], found["kl_se"], found["sure_se"]) == (1, 0, 0, 0)
    assert found["kl"] == pytest.approx(math.log(1000))


def test_the_order_of_the_channels_counts():
    assert of_stacked(sure_of([[1, 2, 3], [3, 2, 1], [1, 2, 3]]))["modes"] == 2


def test_the_errors_are_those_of_new_draws(rng):
    """Of samples that miss modes; the error of their number may be too large, and is never far too small."""
    weights, found = rng.dirichlet(np.full(10, 0.5)), []
    for _ in range(60):
        p = sure_of(rng.choice(10, (600, 3), p=weights)) * rng.uniform(0.8, 1, (600, 1, 1))
        found.append(of_stacked(p + (1 - p.sum(axis=2, keepdims=True)) / 10))
    for name, most in (("modes", 1.8), ("kl", 1.4), ("sure", 1.3)):
        spread = np.std([each[name] for each in found])
        assert 0.75 < np.mean([each[f"{name}_se"] for each in found]) / spread < most, name


def test_each_channel_is_judged_by_itself(device):
    digits = data.load("digits", size=28)
    images = digits.images[:12].reshape(4, 3, 28, 28)
    p = judged(images, device)
    assert np.array_equal(p.reshape(12, 10), feature_net(device).probabilities(digits.images[:12]))


def test_parts_of_any_size_make_the_same(monkeypatch):
    source = data.Stacked(data.load("digits", size=28))
    def draw(first, count):
        return source.draw(count, 3, first)[0]
    whole = judged(draw(0, 50))
    for part in (50, 7, 1):
        monkeypatch.setattr(stacked, "PART", part)
        p = in_parts(draw, 50)
        assert p.shape == (50, 3, 10) and np.abs(p - whole).max() < 1e-5
        assert of_stacked(p) == of_stacked(whole)


def test_yardsticks_are_a_function_of_the_seed(monkeypatch):
    test = data.load("digits", size=28)
    one, again, other = (dict(stacked.yardsticks(test, 60, seed)) for seed in (0, 0, 1))
    assert list(one) == ["perfect", "noise", "collapsed"] and all(p.shape == (60, 3, 10) for p in one.values())
    assert all(np.array_equal(one[name], again[name]) and not np.array_equal(one[name], other[name]) for name in one)
    assert of_stacked(one["collapsed"])["modes"] <= 10 < 40 < of_stacked(one["perfect"])["modes"]
    monkeypatch.setattr(stacked, "PART", 7)
    assert all(np.abs(p - one[name]).max() < 1e-5 for name, p in stacked.yardsticks(test, 60, 0))


def test_what_cannot_be_measured_is_named():
    good = sure_of(np.zeros((5, 3), int))
    for p, words in ((good[0], r"expected probabilities \(N, channels, classes\)"), (good[:0], "1 or more rows"),
                     (good / 2, "sum to 1"), (good * np.nan, "NaN")):
        with pytest.raises(ValueError, match=words):
            of_stacked(p)
