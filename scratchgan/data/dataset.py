"""Sources in memory: `Dataset` of uint8 images, `FloatArray` of anything else."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from scratchgan.data.source import Facts, Pair, Source
from scratchgan.errors import UserError


class InMemory(Source):
    """A source that holds its examples in `images`, and `labels` or None."""

    def __len__(self):
        return len(self.images)

    @property
    def size(self):
        return len(self.images)

    @property
    def sample_shape(self):
        return self.images.shape[1:]

    @property
    def classes(self):
        """How many classes the labels name (the largest label plus one); 0 without labels."""
        return 0 if self.labels is None else int(self.labels.max()) + 1

    def take(self, rows, seed=0):
        return self.images[rows], None if self.labels is None else self.labels[rows]

    def facts(self):
        return Facts({**super().facts(), "pixel_means": self.pixel_means})

    def pixel_means(self):
        """The mean of each value over all examples, of images in [0, 1]; as lists."""
        means = self.images.mean(axis=0, dtype=np.float64)
        return (means / 255 if self.images.dtype == np.uint8 else means).tolist()


@dataclass(frozen=True, eq=False)
class Dataset(InMemory):
    """Images and, where there are any, labels.

    name    what the data is called: "mnist", "digits", or the name of a file or folder
    images  uint8 (N, C, H, W), 0 is black; C is 1 (grey) or 3 (red, green, blue)
    labels  int64 (N,), 0 and up, or None
    sha256  `content_sha256(images, labels)`, 64 hexadecimal digits
    origin  one line: the path it was read from and whom to credit
    """

    name: str
    images: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    sha256: str
    origin: str

    @classmethod
    def of(cls, name, images, labels, origin):
        """The data set with its checksum computed."""
        return cls(name, images, labels, content_sha256(images, labels), origin)

    def __post_init__(self):
        images, labels = self.images, self.labels
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
            raise UserError(f"{self.name}: images must be a uint8 array (N, C, H, W), not {describe(images)}")
        if images.shape[1] not in (1, 3) or images.size == 0:
            raise UserError(
                f"{self.name}: images must be one or more, with 1 or 3 channels, not of shape {images.shape}"
            )
        if labels is not None:
            if not isinstance(labels, np.ndarray) or labels.dtype != np.int64 or labels.ndim != 1:
                raise UserError(f"{self.name}: labels must be an int64 array (N,), not {describe(labels)}")
            if len(labels) != len(images):
                raise UserError(f"{self.name}: {len(labels)} labels do not fit {len(images)} images")
            if labels.min() < 0:
                raise UserError(f"{self.name}: labels must be 0 or more, but one is {labels.min()}")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise UserError(f"{self.name}: sha256 must be 64 hexadecimal digits, not {self.sha256!r}")


@dataclass(frozen=True, eq=False)
class FloatArray(InMemory):
    """Examples float32 (N, ...) in the range of the system that learns from them."""

    name: str
    images: np.ndarray = field(repr=False)
    sha256: str
    origin: str
    labels: None = None


def as_source(data, value_range=(-1, 1)):
    """What one trains on as a `Source`.

    data   a source, as it is; an array uint8 (N, C, H, W), or float (N, ...) with values in `value_range` (None: any
           that are finite); a tuple of two, for a `Pair`
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return Pair(*(as_source(each, value_range) for each in data))
    if not isinstance(data, np.ndarray):
        raise UserError(f"The data must be a data set, another Source or a NumPy array, not {type(data).__name__}: see "
                        "scratchgan.data.load.")
    origin = "an array in memory"
    if data.dtype == np.uint8:
        return Dataset.of("array", data, None, origin)
    low, high = value_range or (-np.inf, np.inf)
    if data.dtype.kind != "f" or data.ndim < 2 or not data.size:
        raise UserError("An array to train on must be uint8 (N, C, H, W) or float (N, ...)"
                        + (f" with values from {low:g} to {high:g}" if value_range else "")
                        + f", not {data.dtype} of shape {data.shape}.")
    examples = np.array(data, np.float32, order="C")
    if not np.isfinite(examples).all():
        raise UserError("A float array to train on must not hold values that are NaN or infinite: remove them.")
    if examples.min() < low or examples.max() > high:
        raise UserError(f"A float array to train on must have values from {low:g} to {high:g}: scale it, or convert "
                        "images from 0 to 255 to uint8.")
    return FloatArray("array", examples, content_sha256(examples), origin)


def content_sha256(images, labels=None):
    """SHA-256 of what the arrays hold, the same for every data set, whatever files it came from.

    For images, and then for labels if there are any, the bytes hashed are a line naming the type
    and the shape ("images uint8 60000 1 28 28", "labels int64 60000") with its line feed, then the
    values in C order, little-endian. It differs from the SHA-256 of a file, which depends on
    the format; MNIST's files are checked by their own before this is computed.
    """
    digest = hashlib.sha256()
    for name, array in (("images", images), ("labels", labels)):
        if array is not None:
            digest.update(" ".join([name, array.dtype.name, *map(str, array.shape)]).encode() + b"\n")
            array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def describe(x):
    """An array's type and shape, or the name of the type of what is no array: for messages."""
    return f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
