"""Every test that takes `device` runs on NumPy ("cpu") and, where CUDA or its emulation is there, on CuPy ("cuda").
One that takes `cuda` runs on CuPy alone.

`--device cuda` runs only the CuPy half (and fails where there is none); `--device cpu` only what needs no device.
"""

import os
import shutil
import signal
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as processors: then more threads are in each other's way
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from command_line import TINY
from hypothesis import settings

from scratchgan import backend
from scratchgan.cli import main
from scratchgan.data import mnist

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption("--device", choices=("all", "cpu", "cuda"), default="all")


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a job in the background; the tests send it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--device") == "cuda" and backend.cuda_problem():
        raise pytest.UsageError(f"--device cuda: {backend.cuda_problem()}")


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        devices = ["cpu"] if backend.cuda_problem() else ["cpu", "cuda"]
        metafunc.parametrize("device", devices)
    if "cuda" in metafunc.fixturenames:
        metafunc.parametrize("cuda", [] if backend.cuda_problem() else ["cuda"])


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--device")
    if backend.cuda_problem():  # what needs a device is not a test here
        impossible = [item for item in items if "cuda" in item.fixturenames]
        config.hook.pytest_deselected(items=impossible)
        items[:] = [item for item in items if "cuda" not in item.fixturenames]
    if wanted != "all":
        def on(item):
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            return "cuda" if "cuda" in parameters else parameters.get("device", "cpu")
        config.hook.pytest_deselected(items=[item for item in items if on(item) != wanted])
        items[:] = [item for item in items if on(item) == wanted]


@pytest.fixture
def rng():
    """The tests' own random numbers, on the host."""
    return np.random.default_rng(0)


@pytest.fixture
def launches():
    """launches(function, *arguments): the kernels that a call launches, by the emulation of CUDA. It must not wait, or
    copy between host and device. Where CUDA is not emulated the test is skipped."""
    cupysim = pytest.importorskip("cupysim", reason="launches are counted by the emulation of CUDA")
    def count(function, *arguments):
        function(*arguments)  # the first time makes what is kept
        before = cupysim.counters()
        function(*arguments)
        after = cupysim.counters()
        assert all(after[name] == before[name] for name in ("syncs", "h2d", "d2h"))
        return after["launches"] - before["launches"]
    return count


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An empty folder to work in; no MNIST is here and no mirror answers."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SCRATCHGAN_DATA", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", ())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 30 steps, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main([*TINY, "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def run(trained):
    """The run, as runs/mlp in the folder we are in."""
    shutil.copytree(trained, "runs/mlp")
    return Path("runs/mlp")
