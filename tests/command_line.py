"""Commands as tests call them."""

import numpy as np
from PIL import Image

from scratchgan.cli import main

TINY = ["train", "--data", "digits", "--steps", "30", "--device", "cpu", "--threads", "1"]


def call(capsys, *arguments, status=0):
    """What a command prints: its standard output, or the error if `status` tells of one."""
    assert main([str(argument) for argument in arguments]) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


def read(picture):
    with Image.open(picture) as image:
        return np.asarray(image)


def listing(folder):
    """Everything below a folder: names, and what is in the files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def fails(arguments, capsys, tmp_path, *parts):
    """The command must fail: one sentence that has the `parts`, status 2, no traceback, not a file more or less."""
    before = listing(tmp_path)
    capsys.readouterr()
    status = main(arguments.split() if isinstance(arguments, str) else arguments)
    error = capsys.readouterr().err
    assert status == 2, error
    assert error.startswith("scratchgan: error: ") and error.count("\n") == 1 and error.endswith("\n")
    assert "Traceback" not in error and len(error) < 700
    for part in parts:
        assert part in error, error
    assert listing(tmp_path) == before
