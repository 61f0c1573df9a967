"""Modes covered, high quality and divergence, on samplers whose values are known."""

import math

import numpy as np
import pytest

from scratchgan.data.toys import TOYS
from scratchgan.metrics.modes import HIGH_QUALITY, divergence, errors, of_modes

N = 10_000


@pytest.mark.parametrize("name, k", [("ring8", 8), ("grid25", 25)])
def test_a_perfect_sampler(name, k):
    source = TOYS[name]()
    found = of_modes(source.examples(N)[0], **source.modes)
    assert found["modes"] == found["fair"] == k
    assert found["hq"] == pytest.approx(0.98889, abs=0.003) and 0 <= found["kl"] < 0.004
    assert pytest.approx(0.98889, abs=1e-5) == HIGH_QUALITY


def test_the_errors_are_those_of_new_draws():
    rng, modes = np.random.default_rng(3), TOYS["ring8"]().modes
    found = []
    for _ in range(60):
        chosen = rng.choice(8, 400, p=[.3, .2, .1, .1, .1, .1, .05, .05])
        samples = np.array(modes["centres"])[chosen] + 0.015 * rng.standard_normal((400, 2))
        found.append(of_modes(samples, **modes) | errors(samples, **modes))
    for name in ("hq", "kl"):
        draws, told = (np.array([each[key] for each in found]) for key in (name, f"{name}_se"))
        assert 0.7 < told.mean() / draws.std() < 1.4


def test_a_smear_hits_most_modes_and_is_told_by_the_rest():
    smear = np.random.default_rng(0).uniform(-5, 5, (N, 2))
    found = of_modes(smear, **TOYS["grid25"]().modes)
    area = 25 * math.pi * 0.15**2 / 100
    assert found["modes"] >= 20 and found["fair"] == 0
    assert found["hq"] == pytest.approx(area, abs=0.004) and found["kl"] > 3.5


def test_one_mode():
    found = of_modes(np.tile([[1.0, 0.0]], (N, 1)), **TOYS["ring8"]().modes)
    assert (found["modes"], found["fair"], found["hq"]) == (1, 1, 1.0)
    assert found["kl"] == pytest.approx(math.log(8 / HIGH_QUALITY))


def test_the_values_of_a_case_counted_by_hand():
    """Of 10: 5 within 3 sigma of the first centre, one just within it of the second, 4 off."""
    samples = [[0, 0]] * 5 + [[1, 0.2999]] + [[1, 0.3001], [0.5, 0], [np.nan, 0], [0, np.inf]]
    found = of_modes(samples, [[0, 0], [1, 0]], 0.1)
    assert (found["modes"], found["fair"], found["hq"]) == (2, 2, 0.6)
    t = HIGH_QUALITY / 2
    assert found["kl"] == pytest.approx(0.5 * math.log(0.5 / t) + 0.1 * math.log(0.1 / t)
                                        + 0.4 * math.log(0.4 / (1 - HIGH_QUALITY)))
    few = of_modes([[0, 0]] * 95 + [[1, 0]] * 5, [[0, 0], [1, 0]], 0.1)
    assert few["modes"] == 2 and few["fair"] == 1  # 5 of a share of 49.4


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_samples_that_are_no_numbers_lie_off_all_modes(bad):
    found = of_modes(np.full((100, 2), bad), **TOYS["ring8"]().modes)
    assert (found["modes"], found["fair"], found["hq"]) == (0, 0, 0.0)
    assert found["kl"] == pytest.approx(-math.log(1 - HIGH_QUALITY))


def test_the_divergence_is_zero_at_the_target_alone():
    assert divergence(np.full(8, HIGH_QUALITY / 8)) == pytest.approx(0, abs=1e-12)
    assert divergence(np.full(8, 1 / 8)) > 0.01


@pytest.mark.parametrize("samples", [np.empty((0, 2)), [[0, 0, 0]], [0, 0]])
def test_other_shapes_are_refused(samples):
    with pytest.raises(ValueError, match=r"of_modes: expected samples \(N, 2\)"):
        of_modes(samples, [[0, 0]], 0.1)
