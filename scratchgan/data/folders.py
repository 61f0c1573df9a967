"""One's own images: a folder of picture files, its sub-folders the classes."""

from collections import Counter
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from scratchgan.data.dataset import Dataset
from scratchgan.data.pixels import check_format, is_colour, raw_mode, square, tell_conversion
from scratchgan.errors import UserError
from scratchgan.files import expanded

# Formats that Pillow knows by name only, or reads with the help of other programs.
NOT_READ = ("BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")


def load_folder(folder, size=28, channels=1, bar=True, announce=None):
    """The images in `folder`, sorted by path; if it has sub-folders with images, these are the classes.

    Classes are numbered by the sorted names of the sub-folders, whatever lies deeper belongs to its class, and
    labels are None where there are no sub-folders. Files and folders whose names begin with a dot are not seen, nor
    is what a training has written there; files that are no images by their extension are passed over, and `announce`
    is told how many.
    """
    check_format(size, channels)
    folder = expanded(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    endings = extensions()
    entries = visible(folder)
    files = [path for path in entries if path.is_file()]
    below = {path: files_below(path) for path in entries if path.is_dir()}
    loose = [path for path in files if is_image(path, endings)]
    classes = {path: [file for file in found if is_image(file, endings)] for path, found in below.items()}
    classes = {path: images for path, images in classes.items() if images}
    if loose and classes:
        raise UserError(
            f"{folder} holds images both directly ({loose[0].name}) and in sub-folders "
            f"({next(iter(classes)).name}): put all of them into sub-folders, one for each class, or none"
        )
    paths = loose or [path for images in classes.values() for path in images]
    others = [path for found in (files, *below.values()) for path in found if not is_image(path, endings)]
    if not paths:
        raise UserError(f"{folder} holds no images{counted(others)}: name a folder of pictures (.png, .jpg, .tif, ...) "
                        "or of IDX files as MNIST's")
    if others and announce is not None:
        announce(f"{folder.resolve().name}: passing over {len(others)} of {len(others) + len(paths)} files, which are "
                 f"no pictures by their names{counted(others)}")
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


def extensions():
    """The ends of the names of files that the installed Pillow reads as pictures: ".png", ".jpg", ..."""
    known = Image.registered_extensions()  # asks every reader, those of other packages, too
    return {ending for ending, kind in known.items()
            if (kind in Image.OPEN or kind == "MPO") and kind not in NOT_READ}


def visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_image(path, endings):
    return path.suffix.lower() in endings


def files_below(folder):
    """Every file in `folder` and below, sorted, but for runs; links to folders are not followed (they may loop)."""
    found = []
    if is_run(folder):
        return found
    for path in visible(folder):
        if path.is_file():
            found.append(path)
        elif path.is_dir() and not path.is_symlink():
            found.extend(files_below(path))
    return found


def is_run(folder):
    """Whether a training has made this folder: its pictures are no data."""
    return (folder / "config.json").is_file() and (folder / "checkpoints").is_dir()


def counted(paths):
    """" (3 .txt, 1 .heic)" of files, the most frequent endings first; "" of none."""
    endings = Counter(path.suffix.lower() or "without an ending" for path in paths)
    endings = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    some = [f"{count} {ending}" for ending, count in endings[:4]] + ["..."] * (len(endings) > 4)
    return f" ({', '.join(some)})" if some else ""


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

    Turned upright as its EXIF data says; of an animation the first picture; what is transparent is put on white, as
    a page would show it; 16-bit grey is divided by 257.
    """
    with opened(path) as image:
        raw = raw_mode(image)
        image.load()
        mend_transparency(image, raw)
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            image = in_8_bits(image)
        if image.mode == "F":
            raise ValueError("its values are floating-point numbers, which do not tell what is black or white: 8 or 16 "
                             "bits do")
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return square(image, size, channels)


def mend_transparency(image, raw):
    """The transparent value of a PNG as 8 bits have it: Pillow makes 8 bits of its pixels only."""
    value, steps = image.info.get("transparency"), {"L;2": 85, "L;4": 17}
    if raw in steps and isinstance(value, int):
        image.info["transparency"] = value * steps[raw]
    elif raw == "RGB;16B" and value is not None:
        image.info["transparency"] = tuple(each >> 8 for each in value)


def in_8_bits(image):
    """Grey of 16 bits, which Pillow's own conversion would clip at 255; a transparent value becomes white."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its values go from {values.min()} to {values.max()}, beyond 16 bits")
    grey = np.rint(values / 257)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8))
