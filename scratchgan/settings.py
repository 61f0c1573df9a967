"""`Setting`: one number or choice of a recipe or a part, declared once, beside what it sets.

Command line, `--help`, records of runs and refusals are made from the same list.
"""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scratchgan.errors import UserError


@dataclass(frozen=True)
class Kind:
    """What a setting may be.

    parse    text -> value; `ValueError` where it is none
    allows   whether a value is one
    words    what to say it must be: "a whole number, 1 or more"
    metavar  what stands for it in `--help`
    """

    parse: Callable
    allows: Callable
    words: str
    metavar: str = "N"


def whole(low=-math.inf, high=math.inf):
    """A whole number from low to high."""
    words = "a whole number" if low == -math.inf else f"a whole number, {low} or more"
    words = words if high == math.inf else f"a whole number, from {low} to {high:,}"
    return Kind(int, lambda value: _is_whole(value) and low <= value <= high, words)


def wholes(low=1):
    """Some whole numbers, at least one: a tuple, with commas between them on the command line."""
    def allows(value):
        return isinstance(value, tuple | list) and len(value) > 0 and all(map(whole(low).allows, value))
    return Kind(lambda text: tuple(int(part) for part in text.split(",")), allows,
                f"whole numbers, {low} or more, such as 256,512", "N,N,...")


def number(low=-math.inf, high=math.inf, above=False, below=False):
    """A finite number from low to high; larger than low with `above`, smaller than high with `below`."""
    words = f"a finite number above {low:g}" if above else f"a finite number, {low:g} or more"
    words = "a finite number" if low == -math.inf else words
    words = words if high == math.inf else f"a number from {low:g} to {'below ' * below}{high:g}"

    def allows(value):
        return (_is_number(value) and math.isfinite(value) and low <= value <= high
                and (value > low or not above) and (value < high or not below))
    return Kind(float, allows, words, "X")


def choice(*names):
    """One of these words."""
    return Kind(str, lambda value: value in names, f"one of {', '.join(names)}", "|".join(names))


FLAG = Kind(lambda text: {"true": True, "false": False}[text], lambda value: isinstance(value, bool | np.bool_),
            "true or false", "")


def _is_whole(value):
    """Also NumPy's integers; not True and False."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class Setting:
    """A name, its default, one line of help, and what it may be. `--name-with-dashes` sets it.

    shared  a second name that several settings have in common: --lr sets both lr_d and lr_g, whose `shared` is "lr"
    needs   the settings without which this one has no effect: names, or tuples of names of which one is enough
    idle    the value with which it has none, where it `needs` the schedule
    """

    name: str
    default: object
    help: str
    kind: Kind
    shared: str | None = None
    needs: tuple = ()
    idle: object = None

    @property
    def option(self):
        return option(self.name)

    def checked(self, value, of=None):
        """The value as plain Python, or `UserError` naming whose setting it is."""
        if not self.kind.allows(value):
            raise UserError(f"{f'{of}: ' if of else ''}{self.name} must be {self.kind.words}, not {value!r}.")
        return plain(value)


def plain(value):
    """Numbers of NumPy as Python's own, lists as tuples."""
    if isinstance(value, tuple | list):
        return tuple(plain(each) for each in value)
    if isinstance(value, np.bool_):
        return bool(value)
    if _is_whole(value):
        return int(value)
    return float(value) if _is_number(value) else value


def option(name):
    """--name-with-dashes"""
    return "--" + name.replace("_", "-")


def checked(settings, given, of):
    """name -> value of all `settings`, those in `given` by name or by shared name; `UserError` for what is none."""
    shared = {setting.shared for setting in settings} - {None}
    names = [setting.name for setting in settings]
    for name in given:
        if name not in names and name not in shared:
            raise UserError(f"{of} has no setting {name!r}: it has {', '.join(names) or 'none'}.")
    values = {}
    for setting in settings:
        value = given.get(setting.name, given.get(setting.shared, setting.default))
        values[setting.name] = setting.checked(value, of)
    return values
