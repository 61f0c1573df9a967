"""What is said of probabilities, where it is known."""

import math

import numpy as np
import pytest

from scratchgan.metrics.classes import class_balance, conditional_accuracy, inception_score


def sure_of(labels, k=10):
    return np.eye(k)[labels]


def test_every_class_alike_and_surely():
    p = sure_of(np.arange(100) % 10)
    found = class_balance(p)
    assert found["counts"] == [10] * 10 and found["kl"] == pytest.approx(0) and found["sure"] == 1
    assert found["rarest"] == 0.1 and found["rarest_se"] == pytest.approx(math.sqrt(0.09 / 100))
    assert inception_score(p)["inception"] == pytest.approx(10)


def test_one_class_alone():
    found = class_balance(sure_of(np.full(50, 3)))
    assert found["counts"] == [0, 0, 0, 50, 0, 0, 0, 0, 0, 0] and found["rarest"] == 0
    assert found["kl"] == pytest.approx(math.log(10)) and found["kl_se"] == 0
    assert inception_score(sure_of(np.full(50, 3)))["inception"] == pytest.approx(1)


def test_a_classifier_that_knows_nothing():
    p = np.full((20, 10), 0.1)
    assert class_balance(p)["sure"] == 0 and inception_score(p)["inception"] == pytest.approx(1)


def test_values_counted_by_hand():
    p = np.array([[0.95, 0.05], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = class_balance(p)
    assert found["counts"] == [3, 1] and found["sure"] == 0.25 and found["rarest"] == 0.25
    assert found["kl"] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    mean = p.mean(axis=0)
    terms = [sum(q * math.log(q / m) for q, m in zip(row, mean)) for row in p]
    assert inception_score(p)["inception"] == pytest.approx(math.exp(sum(terms) / 4))
    assert conditional_accuracy(p, np.array([0, 1, 1, 0])) == {"conditional": 0.75,
                                                               "conditional_se": pytest.approx(math.sqrt(3 / 64))}


def test_the_errors_are_those_of_new_draws():
    rng, weights = np.random.default_rng(4), np.arange(1, 11) / 55
    found = []
    for _ in range(60):
        share = rng.uniform(0.7, 1, (500, 1))
        p = share * sure_of(rng.choice(10, 500, p=weights)) + (1 - share) * rng.dirichlet(np.ones(10), 500)
        found.append(class_balance(p) | inception_score(p))
    for name in ("kl", "inception", "rarest", "sure"):
        spread = np.std([each[name] for each in found])
        assert 0.7 < np.mean([each[f"{name}_se"] for each in found]) / spread < 1.4, name


def test_what_cannot_be_measured_is_named():
    good = sure_of(np.arange(10))
    for p, words in ((good[:0], "expected 1 or more rows"), (good[0], r"an array \(N, K\)"), (good / 2, "sum to 1"),
                     (good - 1, "0 or more"), (good[:, :1], "of two classes or more"), (good * np.nan, "NaN")):
        with pytest.raises(ValueError, match=words):
            class_balance(p)
        with pytest.raises(ValueError, match=words):
            inception_score(p)
    for labels in (np.arange(9), np.arange(10) / 1, np.arange(10) + 1):
        with pytest.raises(ValueError, match="labels must be one whole number from 0 to 9 for each of 10 samples"):
            conditional_accuracy(good, labels)
