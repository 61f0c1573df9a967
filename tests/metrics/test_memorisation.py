"""Memorisation: copies are told from images that are merely near, whatever the blocks."""

import numpy as np
import pytest

from scratchgan import data
from scratchgan.metrics.memorisation import memorisation, neighbours


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", size=28).images


def test_the_two_nearest_are_those_of_all_distances(rng):
    x, training = rng.random((30, 1, 3, 3)), rng.random((50, 3, 3))
    d = np.sqrt(((x.reshape(30, 1, 9) - training.reshape(1, 50, 9)) ** 2).sum(axis=2))
    for block in (1, 7, 49, 1000):
        r, nearest = neighbours(x, training, block)
        assert (nearest == d.argmin(axis=1)).all()
        assert r == pytest.approx(np.sort(d)[:, 0] / np.sort(d)[:, 1], rel=1e-5)


def test_a_copy_has_distance_0(digits):
    r, nearest = neighbours(digits[40:60] / np.float32(255), digits[:500])  # of floats and bytes
    assert (r == 0).all() and (nearest == np.arange(40, 60)).all()
    assert (neighbours(digits[:9], np.concatenate([digits[:9]] * 2))[0] == 0).all()  # two copies are there


def test_copies_are_told_from_images_of_the_same_kind(digits, rng):
    training, test, fresh = digits[:900], digits[900:1300], digits[1300:]
    noisy = np.clip(training[:400] / 255 + 0.05 * rng.standard_normal(test.shape), 0, 1)
    null, copies, others = (neighbours(x, training)[0] for x in (test, noisy, fresh))
    assert memorisation(np.zeros(50), null) == {"memorised": 1, "memorised_se": 0, "copied": 1, "copied_se": 0}
    assert memorisation(copies, null)["memorised"] > 0.95
    found = memorisation(others, null, seed=1)
    assert abs(found["memorised"] - 0.01) <= 3 * found["memorised_se"] and found["copied"] < 0.01


def test_shares_counted_by_hand():
    """The 1% of 1 to 200 thousandths is 2.99 thousandths, between the second and the third smallest."""
    test, fake = np.arange(1, 201) / 1000, np.array([0.002, 0.0029, 0.003, 0.33, 0.34])
    found = memorisation(fake, test)
    assert found["memorised"] == 2 / 5 and found["copied"] == 4 / 5
    assert found["copied_se"] == pytest.approx(np.sqrt(0.8 * 0.2 / 5))


def test_what_does_not_fit_is_told(digits):
    for images, training, words in ((digits[:3], digits[:1], "two or more training images of 784"),
                                    (digits[:3], digits[:5, :, 1:], r"got shape \(5, 756\)"),
                                    (np.full((1, 784), np.nan), digits[:5], "NaN or infinite")):
        with pytest.raises(ValueError, match=words):
            neighbours(images, training)
    with pytest.raises(ValueError, match="ratios of test images"):
        memorisation(np.ones(5), np.array([np.nan]))
