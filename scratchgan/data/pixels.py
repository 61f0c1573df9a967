"""Squares of one size out of images of any: cropping, resizing, grey and colour."""

from numbers import Integral

import numpy as np
from PIL import Image

from scratchgan.errors import UserError

MODES = {1: "L", 3: "RGB"}
GREY_MODES = ("1", "L", "LA", "La", "I", "F")


def check_format(size, channels):
    """Complain of a size or a number of channels that no data set can have; None channels: as many as it has."""
    if isinstance(size, bool) or not isinstance(size, Integral) or not 1 <= size <= 4096:
        raise UserError(f"the image size must be a whole number from 1 to 4096, not {size!r}")
    if channels is not None and channels not in MODES:
        raise UserError(f"images have 1 channel (grey) or 3 (colour), not {channels!r}")


def tell_conversion(name, given, wanted, announce):
    """One line if the images of a data set are made grey, or grey ones get the channels of colour."""
    if given != wanted and announce is not None:
        announce(f"{name}: images in colour are made grey" if wanted == 1
                 else f"{name}: grey images get three equal channels")


def is_colour(picture):
    """Whether a Pillow image is in colour, by its mode or palette; not by its pixels."""
    if picture.mode == "P":
        red, green, blue = (picture.getpalette("RGB")[band::3] for band in range(3))
        return not red == green == blue
    if raw_mode(picture).startswith("LA"):  # grey and alpha of 16 bits, which Pillow opens as RGBA
        return False
    return picture.mode not in GREY_MODES and not picture.mode.startswith("I;16")


def raw_mode(picture):
    """How the pixels of a Pillow image stand in its file, "I;16B" for instance; "" where that is unknown or read."""
    for _, _, _, how in getattr(picture, "tile", None) or ():
        return how if isinstance(how, str) else str(how[0]) if how else ""
    return ""


def fit(images, size, channels):
    """uint8 (N, C, H, W) to (N, channels, size, size): `square` on each image that needs it.

    What already fits is returned as it is, to the bit.
    """
    if images.shape[1:] == (channels, size, size):
        return images
    if images.shape[1] == 1 and channels == 3:  # one channel resized is all three
        return np.repeat(fit(images, size, 1), 3, axis=1)
    out = np.empty((len(images), channels, size, size), np.uint8)
    for i, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        out[i] = square(Image.fromarray(np.ascontiguousarray(pixels)), size, channels)
    return out


def square(picture, size, channels):
    """A Pillow image in grey or RGB as uint8 (channels, size, size): its central square, resized.

    Bicubic interpolation; Pillow widens the kernel when it shrinks an image, so nothing aliases.
    Grey is Pillow's luma, 0.299 R + 0.587 G + 0.114 B (ITU-R 601).
    """
    picture = picture.convert(MODES[channels])
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    # Cropped first: resizing with `box` would let what lies beside the square bleed into its edge.
    picture = picture.crop((left, top, left + side, top + side))
    picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(size, size, channels).transpose(2, 0, 1)
