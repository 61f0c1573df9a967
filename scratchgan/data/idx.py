"""The IDX format of MNIST's files, plain or compressed by gzip.

A file is: two zero bytes; a byte for the type of the values; a byte for the number of dimensions;
each dimension as a big-endian unsigned 32-bit number; the values, big-endian, the last dimension
changing fastest. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from scratchgan.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"  # no IDX file begins so: its first two bytes are zero
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def read_bytes(path):
    """What is in a file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def decompress(data, name, limit=None):
    """`data` out of its gzip wrapping if it has one; at most `limit` bytes where that is given.

    `name` is for the message.
    """
    if data[:2] != GZIP_MAGIC:
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return file.read(-1 if limit is None else limit)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{name} is a damaged or incomplete gzip file") from error


def parse_idx(content, name, shape=None):
    """The array that `content`, the bytes of an IDX file, describes; `name` is for the messages."""
    if not content:
        raise UserError(f"{name} is empty")
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise UserError(f"{name} is not an IDX file: it begins with the bytes {content[:4].hex(' ')}")
    dtype, ndim = np.dtype(TYPES[content[2]]), content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise UserError(f"{name} is cut off within its header")
    dims = struct.unpack(f">{ndim}I", content[4:start])
    expected = start + math.prod(dims) * dtype.itemsize  # Python's integers: no overflow
    if len(content) != expected:
        raise UserError(
            f"{name} is {'cut off' if len(content) < expected else 'too long'}: "
            f"its header tells of shape {dims}, {expected} bytes in all, and it has {len(content)}"
        )
    if shape is not None and dims != tuple(shape):
        raise UserError(f"{name} holds an array of shape {dims}, where {tuple(shape)} is wanted")
    return np.frombuffer(content, dtype.newbyteorder(">"), offset=start).reshape(dims).astype(dtype)
