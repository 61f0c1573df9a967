"""The Parzen-window log-likelihood against its definition, written as loops."""

import math

import numpy as np
import pytest

from scratchgan.metrics.parzen import SIGMAS, best_sigma, log_densities, parzen


def by_loops(points, samples, sigma):
    values = []
    for x in points:
        densities = [math.prod(math.exp(-(a - b) ** 2 / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)
                               for a, b in zip(x, y)) for y in samples]
        values.append(math.log(math.fsum(densities) / len(densities)))
    return np.array(values)


def test_of_its_definition(rng):
    points, samples = rng.uniform(size=(7, 4)), rng.uniform(size=(11, 4))
    found = log_densities(points, samples, [0.3, 1.0])
    for sigma, values in zip([0.3, 1.0], found, strict=True):
        assert np.abs(values - by_loops(points, samples, sigma)).max() < 1e-12


def test_the_protocol(rng):
    samples, test, validation = (rng.uniform(size=(n, 1, 3, 3)) for n in (40, 30, 20))
    assert pytest.approx(np.logspace(-1, 0, 10)) == SIGMAS
    means = [by_loops(validation.reshape(20, 9), samples.reshape(40, 9), sigma).mean() for sigma in SIGMAS]
    sigma = SIGMAS[int(np.argmax(means))]
    values = by_loops(test.reshape(30, 9), samples.reshape(40, 9), sigma)
    found = parzen(samples, test, validation)
    assert found["sigma"] == sigma == best_sigma(samples, validation) and sigma not in (SIGMAS[0], SIGMAS[-1])
    assert found["parzen"] == pytest.approx(values.mean(), abs=1e-12)
    assert found["parzen_se"] == pytest.approx(values.std() / math.sqrt(30), abs=1e-12)


def test_the_error_of_a_draw_is_that_of_new_draws():
    rng = np.random.default_rng(6)
    test, validation = rng.uniform(size=(50, 3)), rng.uniform(size=(50, 3))
    found = [parzen(rng.uniform(size=(100, 3)), test, validation, [0.3]) for _ in range(60)]
    assert 0.7 < np.mean([each["parzen_draw_se"] for each in found]) / np.std([each["parzen"] for each in found]) < 1.4
    assert np.isnan(parzen(test[:1], test, validation)["parzen_draw_se"])


def test_the_error_of_a_draw_does_not_depend_on_the_order_of_the_samples():
    """As of a file that is sorted by digit."""
    rng = np.random.default_rng(7)
    samples = np.repeat(np.arange(10) / 10, 30)[:, None] + 0.1 * rng.uniform(size=(300, 2))
    test = samples[rng.permutation(300)[:50]] + 0.01
    ordered, mixed = (parzen(each, test, test, [0.1])["parzen_draw_se"] for each in (samples, rng.permutation(samples)))
    assert 0.5 < ordered / mixed < 2


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_change_nothing_but_rounding(rng, block):
    points, samples = rng.uniform(size=(20, 30)), rng.uniform(size=(65, 30))
    found, whole = (log_densities(points, samples, SIGMAS, size) for size in (block, 100))
    assert np.abs(found - whole).max() < 1e-11


def test_far_points_and_many_numbers_are_no_matter():
    """At sigma .1 each term is below the smallest float; float32 agrees with float64 to a hundredth of a nat."""
    rng = np.random.default_rng(1)
    points, samples = (rng.uniform(size=(n, 784)) for n in (5, 300))
    wide = log_densities(points, samples, SIGMAS)
    narrow = log_densities(points.astype(np.float32), samples.astype(np.float32), SIGMAS, 100)
    assert np.isfinite(wide).all() and np.abs(wide - narrow).max() < 1e-2
    nearest = ((points[:, None] - samples) ** 2).sum(axis=2).min(axis=1)  # the others do not count at this sigma
    assert wide[0] == pytest.approx(-nearest / 0.02 - math.log(300) - 392 * math.log(2 * math.pi * 0.01), abs=1e-3)


def test_one_sample_on_the_point():
    x = np.full((1, 784), 0.5)
    assert log_densities(x, x, [0.1])[0, 0] == pytest.approx(-392 * math.log(2 * math.pi * 0.01))


@pytest.mark.parametrize("samples, words", [
    (np.zeros((0, 4)), "samples: expected 1 or more rows of numbers"),
    (np.zeros((3, 5)), "samples have 5 numbers each, test images 4"),
    (np.full((3, 4), np.nan), "samples: some values are NaN or infinite"),
    (np.zeros(4), "samples: expected 1 or more rows"),
    (np.array([["a"] * 4]), "samples: expected 1 or more rows of numbers"),
])
def test_what_cannot_be_measured_is_named(samples, words):
    images = np.zeros((2, 4))
    with pytest.raises(ValueError, match=words):
        parzen(samples, images, images)
    with pytest.raises(ValueError, match="sigmas must be finite numbers above 0"):
        parzen(images, images, images, sigmas=[0.1, 0])
