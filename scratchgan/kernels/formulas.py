"""Where the formulas are kept, by name."""

from types import SimpleNamespace


class Functions(SimpleNamespace):
    """Functions by name; what is not among them is the formula of that name."""

    def __getattr__(self, name):
        if self is FORMULAS or name.startswith("__"):
            raise AttributeError(f"there is no formula {name!r}: import the file of its layer")
        return getattr(FORMULAS, name)


FORMULAS = Functions()


def formula(function):
    """Decorator: take a plain formula in under its name, which must be new. It stays the function that it is."""
    there = vars(FORMULAS).get(function.__name__)
    if there is not None and there.__module__ != function.__module__:
        raise ValueError(f"{there.__module__} has a formula {function.__name__!r} already: choose another name")
    setattr(FORMULAS, function.__name__, function)
    return function
