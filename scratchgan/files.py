"""Files that are there whole or not at all, and errors in words."""

import errno
import json
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path

from scratchgan.errors import UserError

ADVICE = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EFBIG: "the limit on the size of files is too low here",
}

PART = ".part"  # how the name of a file ends that is to take another's place


def expanded(path):
    """A path with ~ and ~user expanded; where there is no such user, or no home, it is taken as it stands."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def writing(what, path):
    """Tells an `OSError` inside as a `UserError`: cannot write WHAT PATH, why, and what to do."""
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno, "choose a folder that can be written to")
        raise UserError(f"Cannot write {what} {path}: {reason(error)}; {advice}.") from error


def reason(error):
    """"No space left on device" of an `OSError`."""
    return error.strerror or str(error)


@contextmanager
def replacing(path, synced=False):
    """A binary file to write to that takes the place of `path` at the end, if nothing goes wrong before.

    Whoever reads `path`, at whatever moment, finds the old bytes or the new ones; if `synced`, after a power cut too.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}{PART}")  # names have at most 255 bytes
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if synced:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:  # also on Ctrl-C; after the replacement there is nothing under this name
        with suppress(OSError):
            temporary.unlink()
    if synced:
        sync_folder(path.parent)


def replace_file(path, data):
    """Have these bytes take the place of a file, by `replacing`, and wait until the disk has them."""
    with replacing(path, synced=True) as file:
        file.write(data)


def sync(path):
    """Wait until the disk has what was written to a file."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path):
    """Wait until the disk has the folder's list of names, where the system can open folders (not Windows)."""
    with suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def to_json(value):
    """Readable JSON as bytes; NumPy's numbers become plain ones."""
    return (json.dumps(value, indent=2, default=lambda number: number.item()) + "\n").encode()
