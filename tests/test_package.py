"""The package as a whole."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

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


def test_parts_are_there_without_an_import_of_their_own():
    code = "import scratchgan; print(scratchgan.data.load, scratchgan.training.fit is scratchgan.fit, dir(scratchgan))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert " True " in done.stdout and "'gradcheck'" in done.stdout and "'metrics'" in done.stdout
    for name in ("data", "export", "gradcheck", "metrics", "plots", "report", "training"):
        assert getattr(scratchgan, name).__name__ == f"scratchgan.{name}"


@pytest.mark.parametrize("asked, waits", [(None, "18"), ("26", "26")])
def test_idle_threads_of_openblas_wait_for_a_short_time_unless_another_is_asked_for(asked, waits):
    environment = {**os.environ, "OPENBLAS_THREAD_TIMEOUT": asked or ""}
    if asked is None:
        del environment["OPENBLAS_THREAD_TIMEOUT"]
    code = "import scratchgan, os; print(os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [waits]
