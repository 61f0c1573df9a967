"""Schedules: their values, what they refuse, and how settings make them."""

import pickle
from types import SimpleNamespace

import pytest

from scratchgan.schedules import check, cosine, exponential_decay, linear, linear_ramp, over, settled, staircase, value


def test_values():
    decay = exponential_decay(0.1, 1.000004, floor=1e-6)
    assert decay(0) == 0.1 and decay(10**6) == pytest.approx(0.1 / 1.000004**10**6) and decay(10**8) == 1e-6
    assert exponential_decay(0.1, 2.0)(10**4) == 0
    ramp = linear_ramp(0.5, 0.7, 10, 20)
    assert [ramp(s) for s in (0, 10, 15, 20, 99)] == pytest.approx([0.5, 0.5, 0.6, 0.7, 0.7])
    assert [linear_ramp(1.0, 2.0, 5, 5)(s) for s in (4, 5, 6)] == [1.0, 2.0, 2.0]  # a step
    assert [linear(2.0, 1.0, 4)(s) for s in (0, 1, 2, 4, 9)] == [2.0, 1.75, 1.5, 1.0, 1.0]
    stairs = staircase(0.5, 0.7, 4, 10)
    assert [stairs(s) for s in (0, 9, 10, 39, 40, 10**6)] == pytest.approx([0.5, 0.5, 0.55, 0.65, 0.7, 0.7])
    half = cosine(3.0, 1.0, 6)
    assert [half(s) for s in (1, 2, 3, 4)] == pytest.approx([2 + 0.75**0.5, 2.5, 2.0, 1.5])
    assert (value(0.3, 7), value(half, 6)) == (0.3, 1.0)


@pytest.mark.parametrize("make", [linear, cosine])
def test_ends_are_exact(make):
    schedule = pickle.loads(pickle.dumps(make(0.1, 0.7, 3)))
    assert [schedule(s) for s in (0, 3, 4)] == [0.1, 0.7, 0.7] and schedule(1) == make(0.1, 0.7, 3)(1)
    assert make(0.1, 0.7, 0)(0) == 0.7


@pytest.mark.parametrize(("make", "message"), [
    (lambda: cosine(1, 0, -1), "cosine: steps must be a finite number >= 0, not -1"),
    (lambda: cosine(float("nan"), 0, 5), "cosine: first must be a finite number, not nan"),
    (lambda: linear(1, "0", 5), "linear: last must be a finite number, not 0"),
    (lambda: linear(1, 0, -5), "linear: its steps must go from 0 or more to as many or more, not from 0 to -5"),
    (lambda: linear_ramp(1, 0, 3, float("inf")), "linear: its steps must go .*, not from 3 to inf"),
    (lambda: staircase(1, 0, 0, 5), "staircase: stairs and length must be finite numbers above 0, not 0 and 5"),
    (lambda: exponential_decay(1, 0.0), r"exponential_decay: factor divides, and must be 1 or more, not 0\.0"),
    (lambda: exponential_decay(1, 0.99), r"exponential_decay: factor divides, .* give 1 / 0\.99"),
    (lambda: exponential_decay(1, float("inf")), "exponential_decay: factor must be a finite number, not inf"),
    (lambda: check("R1: gamma", -1), "R1: gamma must be a finite number >= 0, not -1"),
    (lambda: check("R1: gamma", linear(-1.0, 0, 5)), r"R1: gamma must be a finite number >= 0, not -1\.0"),
    (lambda: check("R1: gamma", float("inf")), "R1: gamma must be a finite number >= 0, not inf"),
    (lambda: check("b", 1, below=1), "b must be a number from 0 to below 1, not 1"),
])
def test_refuses_nonsense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_over_settings():
    chosen = SimpleNamespace(schedule="cosine", decay_steps=10)
    assert over(chosen, 3.0, 1.0)(5) == pytest.approx(2.0)
    assert over(chosen, 3.0, 1.0, every=5)(1) == pytest.approx(2.0)  # five steps of the run for each of its own
    assert over(chosen, 3.0, 3.0) == 3.0
    assert over(SimpleNamespace(schedule="linear", decay_steps=4), 3.0, 1.0)(1) == 2.5
    assert over(SimpleNamespace(schedule="constant", decay_steps=4), 3.0, 1.0) == 3.0


def test_settled():
    for schedule, given, found in (("cosine", 0, 7), ("linear", 3, 3), ("constant", 0, 0)):
        assert settled({"schedule": schedule, "decay_steps": given}, 7) == {"schedule": schedule, "decay_steps": found}
    assert settled({"hidden": 3}, 7) == {"hidden": 3}
