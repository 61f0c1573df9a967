"""Precision, recall, density and coverage of sets that are equal, apart, or counted by hand."""

import numpy as np
import pytest

from scratchgan.metrics import arrays
from scratchgan.metrics.coverage import density_coverage, precision_recall, squared_radii


def test_the_same_set(rng):
    x = rng.standard_normal((50, 4)) + 100
    found = precision_recall(x, x) | density_coverage(x, x)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["density"] == pytest.approx(6 / 5)  # each ball holds its 5 neighbours, and its centre


def test_sets_apart(rng):
    x = rng.standard_normal((50, 4))
    assert set((precision_recall(x, x + 100) | density_coverage(x, x + 100)).values()) == {0}


def test_a_case_counted_by_hand():
    """On a line, k = 1. Balls of real points: [-100, 0], [-1, 1], [0, 2], [6, 14], [10, 18]; of fakes: [-2, 3],
    [.5, 5.5], [9, 17], [13, 21], [17, 63]."""
    real, fake = np.array([[-50.0], [0], [1], [10], [14]]), np.array([[0.5], [3], [13], [17], [40]])
    assert squared_radii(real, 1).tolist() == [2500, 1, 1, 16, 16]
    found = precision_recall(real, fake, 1) | density_coverage(real, fake, 1)
    assert found["precision"] == 3 / 5 and found["precision_se"] == pytest.approx(np.sqrt(0.6 * 0.4 / 5))
    assert found["recall"] == found["coverage"] == 4 / 5
    assert found["density"] == (2 + 0 + 2 + 1 + 0) / 5


def test_of_their_definitions(rng):
    real, fake, k = rng.standard_normal((30, 2)), rng.standard_normal((40, 2)) * 0.7 + 0.5, 3
    def distances(a, b):
        return np.linalg.norm(a[:, None] - b, axis=2)
    def radii(x):
        return np.sort(distances(x, x), axis=1)[:, k]  # the point itself is the first
    inside = distances(fake, real) <= radii(real)
    found = precision_recall(real, fake, k) | density_coverage(real, fake, k)
    assert found["precision"] == inside.any(axis=1).mean()
    assert found["recall"] == (distances(real, fake) <= radii(fake)).any(axis=1).mean()
    assert found["density"] == pytest.approx(inside.sum() / (k * 40))
    assert found["coverage"] == inside.any(axis=0).mean()


def test_a_perfect_sampler_and_one_that_collapsed():
    rng = np.random.default_rng(2)
    real, perfect = rng.standard_normal((2, 1000, 8))
    found = density_coverage(real, perfect)
    assert abs(found["density"] - 1) < 0.06 and abs(found["coverage"] - (1 - 2**-5)) < 0.02
    collapsed = real[:1] + 1e-3 * rng.standard_normal((1000, 8))
    found = precision_recall(real, collapsed) | density_coverage(real, collapsed)
    assert found["precision"] == 1 and found["recall"] < 0.01 and found["coverage"] < 0.02


@pytest.mark.parametrize("entries", [1, 100, 1 << 21])
def test_blocks_change_nothing(rng, monkeypatch, entries):
    real, fake = rng.standard_normal((2, 40, 3))
    expected = precision_recall(real, fake) | density_coverage(real, fake)
    monkeypatch.setattr(arrays, "ENTRIES", entries)
    assert precision_recall(real, fake) | density_coverage(real, fake) == expected


def test_what_cannot_be_measured_is_named(rng):
    x = rng.standard_normal((4, 2))
    for measure in (precision_recall, density_coverage):
        with pytest.raises(ValueError, match="fake features: expected 4 or more rows"):
            measure(x, x[:3], 3)
        for k in (0, 1.5, True):
            with pytest.raises(ValueError, match="k must be a whole number, 1 or more"):
                measure(x, x, k)
