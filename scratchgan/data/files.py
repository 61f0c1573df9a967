"""One's own images: a folder of them, or an array in a .npy or .npz file."""

import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from scratchgan.data.dataset import Dataset, describe
from scratchgan.data.pixels import check_format, fit, is_colour, square, tell_conversion
from scratchgan.errors import UserError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
IMAGE_KEYS = ("images", "x_train", "x", "data")
LABEL_KEYS = ("labels", "y_train", "y")
SHAPES = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
SLACK = 1e-3  # how far beyond [0, 1] or [-1, 1] rounding may have put a value: a float16's last place


def load_path(path, size=28, channels=1, bar=True, announce=None):
    """The data set in a folder of images, a .npy or a .npz file, as `channels` x `size` x `size`.

    With None for `channels`: 3 for an array that has 3 or a folder in which any image is in colour, else 1. `announce`
    is called with a line when images are made grey, or all of them were and get three channels.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return load_folder(path, size, channels, bar, announce)
    if path.suffix.lower() in (".npy", ".npz"):
        return load_array(path, size, channels, announce)
    if not path.exists():
        raise UserError(f"there is no file or folder {path}")
    raise UserError(f"{path} is neither a folder of images nor a .npy or .npz file")


def load_folder(folder, size=28, channels=1, bar=True, announce=None):
    """The images in `folder`, sorted by path; if it has sub-folders with images, these are the classes.

    Classes are numbered by the sorted names of the sub-folders, whatever lies deeper belongs to
    its class, and labels are None where there are no sub-folders. Files and folders whose names begin with
    a dot, and files that are no images by their extension, are passed over.
    """
    check_format(size, channels)
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    entries = visible(folder)
    loose = [path for path in entries if is_image(path)]
    classes = {path: images_below(path) for path in entries if path.is_dir()}
    classes = {path: images for path, images in classes.items() if images}
    if loose and classes:
        raise UserError(
            f"{folder} holds images both directly ({loose[0].name}) and in sub-folders "
            f"({next(iter(classes)).name}): put all of them into sub-folders, one for each class, or none"
        )
    paths = loose or [path for images in classes.values() for path in images]
    if not paths:
        raise UserError(f"{folder} holds no images ({' '.join(EXTENSIONS)}): name another folder")
    given = 3 if any(map(in_colour, paths)) else 1
    channels = channels or given
    tell_conversion(folder.resolve().name, given, channels, announce)
    images = np.empty((len(paths), channels, size, size), np.uint8)
    # delay: a bar only for what takes longer than a second; disable=None: only on a terminal.
    disable = None if bar else True
    for i, path in enumerate(tqdm(paths, desc="reading images", leave=False, delay=1, disable=disable)):
        images[i] = read_image(path, size, channels)
    labels, told = None, "no labels"
    if classes:
        counts = [len(found) for found in classes.values()]
        labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
        told = f"{len(classes)} {'class' if len(classes) == 1 else 'classes'} by sub-folder"
    folder = folder.resolve()
    return Dataset.of(folder.name, images, labels, f"{folder} ({len(paths)} images, {told})")


def visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_image(path):
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def images_below(folder):
    """Every image in `folder` and below, sorted; links to folders are not followed (they may loop)."""
    found = []
    for path in visible(folder):
        if is_image(path):
            found.append(path)
        elif path.is_dir() and not path.is_symlink():
            found.extend(images_below(path))
    return found


@contextmanager
def opened(path):
    """A Pillow image whose pixels are not read yet; whatever goes wrong with it inside is told as a `UserError`."""
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # Pillow's readers let through whatever goes wrong inside them
        raise UserError(f"{path} cannot be read as an image ({error}): mend or remove it") from error


def in_colour(path):
    with opened(path) as image:
        return is_colour(image)


def read_image(path, size, channels):
    """One image file as uint8 (channels, size, size).

    Turned upright as its EXIF data says; of an animation the first picture; what is transparent
    is put on white, as a page would show it; 16-bit grey is divided by 257.
    """
    with opened(path) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # Pillow's own conversion would clip at 255
            grey = np.rint(np.asarray(image) / 257).clip(0, 255)
            image = Image.fromarray(grey.astype(np.uint8))
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return square(image, size, channels)


def load_array(path, size=28, channels=1, announce=None):
    """The images, and labels if there are any, in a .npy or .npz file.

    Images are an array of shape (N, H, W), (N, H, W, C) or (N, C, H, W), C = 1 or 3, of uint8 or
    of floats in [0, 1] or [-1, 1]. In an .npz they are called "images", "x_train", "x" or "data",
    or are its only array; labels are called "labels", "y_train" or "y".
    """
    check_format(size, channels)
    path = Path(path).expanduser()
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
                    return loaded[images], None if labels is None else loaded[labels]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
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


def to_nchw(images, path):
    """(N, H, W), (N, H, W, C) or (N, C, H, W) to (N, C, H, W). If both could be, C comes second."""
    if images.size and images.ndim == 3:
        return images[:, None]
    if images.size and images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.size and images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
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
