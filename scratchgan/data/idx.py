"""The IDX format of MNIST's files, plain or compressed by gzip: any set in it, Fashion-MNIST or one's own.

A file is: two zero bytes; a byte for the type of the values; a byte for the number of dimensions;
each dimension as a big-endian unsigned 32-bit number; the values, big-endian, the last dimension
changing fastest. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

import gzip
import io
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from scratchgan.data.arrays import to_labels, to_nchw, to_uint8
from scratchgan.data.dataset import Dataset
from scratchgan.data.pixels import check_format, fit, tell_conversion
from scratchgan.errors import UserError
from scratchgan.files import expanded

GZIP_MAGIC = b"\x1f\x8b"  # no IDX file begins so: its first two bytes are zero
IDX_NAME = re.compile(r"idx\d?([-.]u?byte)?(\.gz)?$", re.IGNORECASE)
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def load_idx(path, size=28, channels=1, announce=None):
    """The images, and labels if there are any, in IDX files: `path` is a folder of them, or the file of the images.

    The labels' file has the name of the images' with "labels" for "images" and 1 for the number of dimensions, or is
    the only one of labels in the folder. In a folder with several files of images the one with "train" in its name
    is taken.
    """
    check_format(size, channels)
    path = expanded(path)
    file = training_images(path) if path.is_dir() else path
    images = read_idx(file)
    if images.ndim < 3:
        raise UserError(f"{file} holds an array of shape {images.shape}, no images: name the file of the images")
    images, told = to_uint8(to_nchw(images, file), file)
    labels_file = labels_of(file)
    labels = None if labels_file is None else to_labels(read_idx(labels_file), labels_file)
    channels, path = channels or images.shape[1], path.resolve()
    tell_conversion(path.name, images.shape[1], channels, announce)
    told = f"{len(images)} images of {file.name}{told}, {labels_file.name if labels_file else 'no labels'}"
    return Dataset.of(path.name, fit(images, size, channels), labels, f"{path} ({told})")


def training_images(folder):
    """The file of images in a folder of IDX files, the training set's if there are several."""
    found = image_files(folder)
    train = [path for path in found if "train" in path.name.lower()] if len(found) > 1 else found
    if not found:
        raise UserError(f"{folder} holds no IDX file of images: name another folder")
    if len(train) != 1:
        names = ", ".join(path.name for path in train or found)
        raise UserError(f"{folder} holds several sets of images ({names}): name the file of one")
    return train[0]


def image_files(folder):
    """The IDX files of images in a folder, also damaged ones; plain and compressed by gzip are one."""
    found = {}
    for path in idx_files(folder):
        count = dimensions(path)
        if count in (3, 4) or (count is None and "images" in path.name):
            found.setdefault(path.name.removesuffix(".gz"), path)
    return list(found.values())


def labels_of(images):
    """The file of the labels that belong to a file of images, or None."""
    name = images.name.removesuffix(".gz").replace("images", "labels")
    name = re.sub(r"idx\d", "idx1", name)
    for other in (name, f"{name}.gz"):
        if other != images.name and images.with_name(other).is_file():
            return images.with_name(other)
    others = [path for path in idx_files(images.parent) if path != images]
    return others[0] if len(others) == 1 and dimensions(others[0]) == 1 else None


def idx_files(folder):
    """The files in a folder that are in IDX format by their names, sorted."""
    return sorted(path for path in Path(folder).iterdir()
                  if IDX_NAME.search(path.name) and not path.name.startswith(".") and path.is_file())


def dimensions(path):
    """How many dimensions the array of an IDX file has; None if it is none."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start[:2] == GZIP_MAGIC:
            with gzip.open(path) as file:
                start = file.read(4)
    except (OSError, EOFError, zlib.error):
        return None
    return start[3] if len(start) == 4 and start[:2] == b"\0\0" and start[2] in TYPES else None


def read_idx(path):
    """The array in an IDX file."""
    return parse_idx(decompress(read_bytes(path), path), path)


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
