"""All measures at once: what their figures do not depend on."""

import math

import numpy as np
import pytest

from scratchgan import data, metrics
from scratchgan.metrics import measures
from scratchgan.systems import classifier


@pytest.fixture
def digits(monkeypatch):
    """The bundled digits in MNIST's place: a function of rows that gives them as a data set; 900 to train on."""
    all_of = data.load("digits", size=28)
    monkeypatch.setattr(measures, "TRAINED", 800)
    return lambda start, stop: data.Dataset.of("digits", all_of.images[start:stop], all_of.labels[start:stop], "a test")


def test_each_measure_is_given_what_it_measures(digits):
    """Samples and reference in their places, and the seed."""
    train, other = digits(0, 900), digits(900, 960)
    validation = measures.validation_images(train)
    assert np.array_equal(validation, train.images[800:] / np.float32(255))
    it = measures.seen("samples", other.images, other.labels, training=train.images)
    real = measures.seen("test images", digits(1000, 1070).images, training=train.images)
    for each in (it, real):
        assert sorted(each.ratios) == sorted(metrics.neighbours(each.images, train.images)[0])
    assert measures.measured(it, real, validation, seed=3) == (
        metrics.frechet(real.features, it.features, 3) | metrics.kernel_distance(real.features, it.features, seed=3)
        | metrics.precision_recall(real.features, it.features) | metrics.density_coverage(real.features, it.features)
        | metrics.class_balance(it.probabilities, 3) | metrics.inception_score(it.probabilities, 3)
        | metrics.conditional_accuracy(it.probabilities, other.labels)
        | metrics.parzen(it.images, real.images, validation, seed=3) | metrics.memorisation(it.ratios, real.ratios, 3))


def test_yardsticks_are_a_function_of_the_seed(digits):
    train = digits(0, 900)
    one, again, other = ({it.name: it.images for it in measures.yardsticks(train, 50, seed)} for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert [name for name in one if np.array_equal(one[name], other[name])] == ["collapsed"]
    assert len(np.unique(one["collapsed"], axis=0)) == 10 and one["collapsed"].shape == (50, 1, 28, 28)


def test_the_batches_in_which_features_are_made_change_nothing(digits, monkeypatch):
    samples, test, validation = digits(0, 70), digits(900, 980), measures.validation_images(digits(0, 900))
    found = []
    for size in (200, 64, 7):
        monkeypatch.setattr(classifier, "AT_ONCE", size)
        reference = measures.seen("test images", test.images)
        found.append(measures.measured(measures.seen("samples", samples.images, samples.labels), reference,
                                         validation))
    first, *others = found
    counts = first.pop("counts")
    assert {"frechet", "kernel", "recall", "coverage", "inception", "conditional", "parzen"} <= set(first)
    for other in others:
        assert other.pop("counts") == counts and other == pytest.approx(first, rel=1e-4, abs=1e-6)


def test_other_seeds_agree_within_the_standard_errors(digits):
    """Of other training images and other noise; a share of 0 or 1 has no error, and is the same. The published error
    of Parzen windows is that over the test images, which stay."""
    train, reference = digits(0, 900), measures.seen("test images", digits(900, 1100).images)
    validation, compared = measures.validation_images(train), 0
    one, other = ({it.name: measures.measured(it, reference, validation, seed=seed)
                   for it in measures.yardsticks(train, 200, seed)} for seed in (0, 1))
    for name in ("training images", "noise"):
        for figure in (key for key in one[name] if f"{key}_se" in one[name]):
            error = "parzen_draw_se" if figure == "parzen" else f"{figure}_se"
            values, errors = ([row[name][key] for row in (one, other)] for key in (figure, error))
            assert abs(np.subtract(*values)) <= 3 * math.hypot(*errors), (name, figure, values, errors)
            compared += 1
    assert compared > 20 and one["training images"]["frechet"] != other["training images"]["frechet"]
