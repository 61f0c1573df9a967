"""Files that are there whole or not at all, and errors in words."""

import errno
import json
import os
from contextlib import contextmanager
from pathlib import Path

from scratchgan.errors import UserError

ADVICE = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EFBIG: "the limit on the size of files is too low here",
}


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


def write_synced(path, data):
    """Write bytes and wait until the disk has them."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path):
    """Wait until the disk has the folder's list of names, where the system can do that."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path, data):
    """Write bytes to a file so that whoever reads it, at whatever moment, finds the old ones or the new ones."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write_synced(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def to_json(value):
    """Readable JSON as bytes; NumPy's numbers become plain ones."""
    return (json.dumps(value, indent=2, default=lambda number: number.item()) + "\n").encode()
