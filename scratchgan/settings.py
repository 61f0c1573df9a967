"""`Setting`: one number or choice of a recipe or a part, declared once, beside what it sets.

Command line, `--help`, records of runs and refusals are made from the same list.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

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


def whole(low, high=math.inf):
    """A whole number from low to high."""
    words = f"a whole number, {low} or more" if high == math.inf else f"a whole number from {low} to {high}"
    return Kind(int, lambda value: _is_whole(value) and low <= value <= high, words)


def number(low=-math.inf, high=math.inf, above=False):
    """A finite number from low to high; larger than low with `above`."""
    words = f"a finite number above {low}" if above else f"a finite number, {low} or more"
    words = words if high == math.inf else f"a number from {low} to {high}"
    def allows(value):
        return _is_number(value) and math.isfinite(value) and low <= value <= high and (value > low or not above)
    return Kind(float, allows, words, "X")


def choice(*names):
    """One of these words."""
    return Kind(str, lambda value: value in names, f"one of {', '.join(names)}", "|".join(names))


FLAG = Kind(lambda text: {"true": True, "false": False}[text], lambda value: isinstance(value, bool),
            "True or False", "")


def _is_whole(value):
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _is_number(value):
    return isinstance(value, float) or _is_whole(value) or (hasattr(value, "dtype") and value.dtype.kind == "f")


@dataclass(frozen=True)
class Setting:
    """A name, its default, one line of help, and what it may be. `--name-with-dashes` sets it."""

    name: str
    default: object
    help: str
    kind: Kind

    @property
    def option(self):
        return "--" + self.name.replace("_", "-")

    def checked(self, value, of):
        """The value as plain Python, or `UserError` naming whose setting it is."""
        if not self.kind.allows(value):
            raise UserError(f"{of}: {self.name} must be {self.kind.words}, not {value!r}.")
        if isinstance(value, bool | str):
            return value
        return int(value) if _is_whole(value) else float(value)
