"""Devices, dtypes and moving arrays."""

import subprocess
import sys

import numpy as np
import pytest

from scratchgan import backend
from scratchgan.errors import UserError


def test_arrays_move_and_know_where_they_are(device, rng):
    x = rng.standard_normal((2, 3)).astype(np.float32)
    moved = backend.to_device(x, device)
    assert backend.device_of(moved) == device
    assert backend.array_module(moved) is backend.module_of(device)
    assert backend.is_array(moved)
    assert backend.to_host(moved).tobytes() == x.tobytes()
    assert backend.to_device(moved, device) is moved


def test_device_names():
    assert backend.device("cpu") == "cpu"
    assert backend.device("auto") == ("cuda" if backend.cuda_problem() is None else "cpu")
    with pytest.raises(UserError, match="Unknown device 'gpu': choose cpu, cuda or auto"):
        backend.device("gpu")


def test_cuda_without_a_device_is_one_clear_sentence(monkeypatch):
    monkeypatch.setattr(backend, "cuda_problem", lambda: "no CUDA device was found")
    assert backend.device("auto") == "cpu"
    with pytest.raises(UserError, match="cuda was asked for, but no CUDA device was found; use --device cpu"):
        backend.device("cuda")


def test_a_cupy_that_cannot_make_its_folders_is_none(monkeypatch):
    def refused(name):
        raise PermissionError(13, "Permission denied", "/nonexistent")
    monkeypatch.setattr("importlib.import_module", refused)
    assert backend.cuda_problem.__wrapped__() == (
        "CuPy cannot be imported ([Errno 13] Permission denied: '/nonexistent')")


def test_dtype_names():
    assert backend.dtype("complex64") == np.complex64
    with pytest.raises(TypeError, match="must be one of float32, float64, complex64, complex128, not int64"):
        backend.dtype("int64")


def test_importing_the_package_imports_neither_cupy_nor_matplotlib_nor_torch():
    code = "import sys, scratchgan; print([m for m in ('cupy', 'matplotlib', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
