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
    """Decorator: take a plain formula in under its name. It stays the function that it is."""
    setattr(FORMULAS, function.__name__, function)
    return function
