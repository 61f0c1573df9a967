"""One's own images as arrays: .npy and .npz files."""

import zipfile
import zlib

import numpy as np

from scratchgan.data.dataset import Dataset, describe
from scratchgan.data.pixels import check_format, fit, tell_conversion
from scratchgan.errors import UserError
from scratchgan.files import expanded

IMAGE_KEYS = ("images", "x_train", "x", "data")
LABEL_KEYS = ("labels", "y_train", "y")
SHAPES = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
SLACK = 1e-3  # how far beyond [0, 1] or [-1, 1] rounding may have put a value: a float16's last place


def load_array(path, size=28, channels=1, announce=None):
    """The images, and labels if there are any, in a .npy or .npz file.

    Images are an array of shape (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1 or 3, of uint8 or
    of floats in [0, 1] or [-1, 1]. In an .npz they are called "images", "x_train", "x" or "data",
    or are its only array; labels are called "labels", "y_train" or "y".
    """
    check_format(size, channels)
    path = expanded(path)
    images, labels = read_arrays(path)
    given = describe(images)
    images, told = to_uint8(to_nchw(images, path), path)
    channels = channels or images.shape[1]
    if labels is not None:
        labels = to_labels(labels, path)
    path = path.resolve()
    tell_conversion(path.name, images.shape[1], channels, announce)
    return Dataset.of(path.name, fit(images, size, channels), labels, f"{path} ({given}{told})")


def read_arrays(path):
    """`(images, labels or None)`, as they are in the file. Nothing is ever unpickled."""
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded, None
            with loaded:
                keys = loaded.files
                images = next((key for key in IMAGE_KEYS if key in keys), None)
                labels = next((key for key in LABEL_KEYS if key in keys), None)
                if images is None and len(keys) == 1:
                    images, labels = keys[0], None
                if images is not None:
                    return tuple(None if key is None else array_of(loaded, key) for key in (images, labels))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        why = " ".join(str(error).split())
        if "pickle" in why:  # what NumPy makes of anything that it does not know, with advice that nobody should take
            why = "it holds no array, or one of Python's objects"
        raise UserError(
            f"{path} is not a NumPy file of plain numbers ({why}): save it with numpy.save or numpy.savez"
        ) from error
    raise UserError(
        f"{path} holds {', '.join(keys) or 'nothing'}: call the images one of {', '.join(IMAGE_KEYS)}, "
        f"and the labels one of {', '.join(LABEL_KEYS)}"
    )


def array_of(loaded, key):
    """An array of an open .npz file; `ValueError` for a member that is none, of which NumPy gives the bytes."""
    array = loaded[key]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{key} is no array")
    return array


def to_nchw(images, path):
    """(N, H, W), (N, H, W, C) or (N, C, H, W) to (N, C, H, W). If both could be, C comes second."""
    if images.size and images.ndim == 3:
        return images[:, None]
    if images.size and images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.size and images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    if not images.size:
        raise UserError(f"{path} holds no images: its array has shape {images.shape}")
    raise UserError(f"{path} holds an array of shape {images.shape}, where images are {SHAPES}")


def to_uint8(images, path):
    """`(images as uint8, what to tell of the conversion)`.

    Floats are in [0, 1] if none is below 0, and x -> 255 x; else in [-1, 1], and x -> 127.5 (x + 1).
    """
    if images.dtype == np.uint8:
        return images, ""
    if images.dtype.kind != "f":
        raise UserError(
            f"{path} holds {images.dtype} images: convert them to uint8, or to floats in [0, 1] or [-1, 1]"
        )
    if not np.isfinite(images).all():
        raise UserError(f"{path} holds values that are NaN or infinite: remove the images that have them")
    low, high = float(images.min()), float(images.max())
    if high > 1 + SLACK or low < -1 - SLACK:
        raise UserError(
            f"{path} holds floats from {low:g} to {high:g}: "
            "scale them to [0, 1] or [-1, 1], or convert them to uint8"
        )
    symmetric = low < -SLACK
    out = np.empty(images.shape, np.uint8)
    for i, image in enumerate(images):  # one by one: the whole in float64 may not fit into memory
        x = image.astype(np.float64)
        out[i] = np.rint(((x + 1) * 127.5 if symmetric else x * 255).clip(0, 255))
    return out, f", values in {'[-1, 1]' if symmetric else '[0, 1]'}"


def to_labels(labels, path):
    """Integers of shape (N,) or (N, 1) to int64 (N,)."""
    if labels.dtype.kind not in "iu" or labels.ndim not in (1, 2) or labels.shape[1:] not in ((), (1,)):
        raise UserError(f"{path} holds labels of {describe(labels)}: they must be integers of shape (N,)")
    return labels.reshape(-1).astype(np.int64)
