"""The package as a whole."""

from importlib import metadata

import scratchgan
from scratchgan.training import environment


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)
    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.delitem(vars(scratchgan), "__version__", raising=False)
    assert scratchgan.__version__ == "not installed"
    assert environment.versions()["scratchgan"] == "not installed"
    del scratchgan.__version__  # asked for again by the next
