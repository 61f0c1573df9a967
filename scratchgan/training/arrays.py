"""Training on arrays in memory: images that are floats already, beside the uint8 images of a `Dataset`."""

from dataclasses import dataclass, field

import numpy as np

from scratchgan.data.dataset import Dataset, content_sha256
from scratchgan.errors import UserError


@dataclass(frozen=True, eq=False)
class FloatImages:
    """What a `Dataset` is to a run, with images float32 (N, ...) in [-1, 1]."""

    name: str
    images: np.ndarray = field(repr=False)
    labels: None
    sha256: str
    source: str

    def __len__(self):
        return len(self.images)


def as_dataset(data):
    """A `Dataset` as it is; an array uint8 (N, C, H, W), or float (N, ...) in [-1, 1], as a data set named "array"."""
    if not isinstance(data, np.ndarray):
        if all(hasattr(data, name) for name in ("name", "images", "labels", "sha256", "source")):
            return data
        raise UserError(f"The data must be a Dataset or a NumPy array of images, not {type(data).__name__}: see "
                        "scratchgan.data.load.")
    source = "an array in memory"
    if data.dtype == np.uint8:
        return Dataset.of("array", data, None, source)
    if data.dtype.kind != "f" or data.ndim < 2 or not data.size:
        raise UserError("An array to train on must be uint8 (N, C, H, W) or float (N, ...) with values from -1 to 1, "
                        f"not {data.dtype} of shape {data.shape}.")
    images = np.array(data, np.float32, order="C")
    if not np.abs(images).max() <= 1:  # also where a value is not a number
        raise UserError("A float array to train on must have values from -1 to 1: scale it, for instance "
                        "x / 127.5 - 1 for 0 to 255.")
    return FloatImages("array", images, None, content_sha256(images), source)


def description(dataset):
    """What config.json says of the data."""
    return {"name": dataset.name, "source": dataset.source, "sha256": dataset.sha256, "size": len(dataset),
            "shape": list(dataset.images.shape[1:])}
