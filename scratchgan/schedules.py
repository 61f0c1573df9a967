"""Schedules: how a rate, a beta or a weight goes from its first value to its last, as a function of the steps done.

A number is a constant schedule. Any function of the step is one; those made here can be pickled.
"""

import math
from functools import partial
from numbers import Real

from scratchgan import settings


def value(schedule, step):
    """What a schedule, or a number, is after `step` steps."""
    return schedule(step) if callable(schedule) else schedule


def in_words(schedule):
    """"0.1", "from 1 to 0.1"."""
    if not callable(schedule):
        return f"{schedule:g}"
    last = schedule(2**62)
    return f"from {schedule(0):g}" + (f" to {last:g}" if math.isfinite(last) else "")


def check(what, schedule, below=math.inf):
    """`ValueError` unless a number, or what a schedule begins with, is finite, at least 0 and below a bound."""
    first = value(schedule, 0)
    if not isinstance(first, Real) or not 0 <= first < below:
        words = "a finite number >= 0" if below == math.inf else f"a number from 0 to below {below:g}"
        raise ValueError(f"{what} must be {words}, not {first}")


def linear(first, last, steps):
    """first + (last - first) t,  t = min(step / steps, 1)."""
    return linear_ramp(first, last, 0, steps)


def linear_ramp(first, last, start, stop):
    """`first` until step `start`, `last` from step `stop` on, a straight line between."""
    _require("linear", first=first, last=last)
    if not 0 <= start <= stop < math.inf:
        raise ValueError(f"linear: its steps must go from 0 or more to as many or more, not from {start} to {stop}")
    return partial(_linear, first, last, start, stop)


def cosine(first, last, steps):
    """first + (last - first) (1 - cos(pi t)) / 2,  t = min(step / steps, 1): half a wave (Loshchilov and Hutter 2017).
    """
    _require("cosine", first=first, last=last)
    if not 0 <= steps < math.inf:
        raise ValueError(f"cosine: steps must be a finite number >= 0, not {steps}")
    return partial(_cosine, first, last, steps)


def exponential_decay(initial, factor, floor=0.0):
    """max(floor, initial / factor^step), factor 1 or more."""
    _require("exponential_decay", initial=initial, factor=factor, floor=floor)
    if factor < 1:
        raise ValueError(f"exponential_decay: factor divides, and must be 1 or more, not {factor}: for a rate that "
                         "falls to 0.99 of itself in each step give 1 / 0.99")
    return partial(_exponential, initial, factor, floor)


def staircase(first, last, stairs, length):
    """first + (last - first) min(k / stairs, 1),  k = floor(step / length): level for `length` steps at a time."""
    _require("staircase", first=first, last=last)
    if not (0 < stairs < math.inf and 0 < length < math.inf):
        raise ValueError(f"staircase: stairs and length must be finite numbers above 0, not {stairs} and {length}")
    return partial(_staircase, first, last, stairs, length)


def _linear(first, last, start, stop, step):
    if step >= stop:
        return last
    return first if step <= start else first + (last - first) * (step - start) / (stop - start)


def _staircase(first, last, stairs, length, step):
    return _linear(first, last, 0, stairs, step // length)


def _cosine(first, last, steps, step):
    return last if step >= steps else first + (last - first) * (1 - math.cos(math.pi * step / steps)) / 2


def _exponential(initial, factor, floor, step):
    return max(floor, initial * factor**-step)  # which may underflow, but not overflow


def _require(name, **numbers):
    for what, number in numbers.items():
        if not isinstance(number, Real) or not math.isfinite(number):
            raise ValueError(f"{name}: {what} must be a finite number, not {number}")


# -- from settings -------------------------------------------------------------------------------------------------

SHAPES = {"linear": linear, "cosine": cosine}
SCHEDULE = settings.Setting("schedule", "constant",
                            "how rates, beta2 and gamma go to their final values, where these are others",
                            settings.choice("constant", *SHAPES))
DECAY_STEPS = settings.Setting("decay_steps", 0, "length of the schedule in steps; 0: the steps that the run is first "
                               "asked for", settings.whole(0))


def over(chosen, first, last, every=1):
    """The schedule from `first` to `last` that the settings ask for; `first` where it is constant.

    chosen   a namespace with `schedule` and `decay_steps`, which the recipe or the run has made 1 or more
    every    steps of the run for each step that the schedule counts: n_critic for G's optimizer
    """
    if chosen.schedule == "constant" or first == last:
        return first
    return SHAPES[chosen.schedule](first, last, chosen.decay_steps / every)


def settled(chosen, steps, always=False):
    """Settings as a dict, with `steps` for their `decay_steps` where that is 0 and something decays, or `always`."""
    if chosen.get("decay_steps") == 0 and (always or chosen.get("schedule") != "constant"):
        return {**chosen, "decay_steps": steps}
    return chosen
