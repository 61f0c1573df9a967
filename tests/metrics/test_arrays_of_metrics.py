"""What the measures share: the jackknife's standard error, its groups, distances."""

import math

import numpy as np
import pytest

from scratchgan.metrics.arrays import in_groups, jackknife, squared_distances


def test_the_jackknife_of_a_mean_is_its_standard_error(rng):
    """Exactly, where each row is a group; of two arrays the squares add up."""
    x, y = rng.standard_normal((2, 10))
    errors = [each.std(ddof=1) / math.sqrt(10) for each in (x, y)]
    assert jackknife(np.mean, x) == pytest.approx(errors[0])
    many = [jackknife(lambda a, b: a.mean() - b.mean(), x, y, seed=seed) for seed in range(200)]
    assert math.sqrt(np.mean(np.square(many))) == pytest.approx(math.hypot(*errors), rel=0.05)


def test_groups_are_of_one_size_and_random():
    found = in_groups(103, 10, 0)
    assert sorted(np.bincount(found)) == [10] * 7 + [11] * 3
    assert not any((found == in_groups(103, 10, *other)).all() for other in ((1,), (0, 1)))
    assert np.isnan(jackknife(np.mean, np.ones(1)))


def test_distances_are_those_of_the_differences(rng):
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    assert squared_distances(x, y) == pytest.approx(((x[:, None] - y) ** 2).sum(axis=2))
    assert squared_distances(x, x).min() >= 0
