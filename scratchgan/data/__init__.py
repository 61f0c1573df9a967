"""Data: MNIST, the bundled digits, one's own images. Every data set is a `Dataset` of uint8 images.

`load` is the way in; `find` tells what is on this machine, and `fetch` downloads MNIST.
"""

from pathlib import Path

from scratchgan.data import mnist
from scratchgan.data.dataset import Dataset, content_sha256
from scratchgan.data.digits import load_digits
from scratchgan.data.download import TIMEOUT, DownloadError
from scratchgan.data.files import load_path
from scratchgan.data.mnist import fetch, load_mnist
from scratchgan.data.pixels import check_format, fit, tell_conversion
from scratchgan.errors import UserError

__all__ = [
    "NAMES",
    "Dataset",
    "content_sha256",
    "fetch",
    "find",
    "load",
    "load_digits",
    "load_mnist",
    "load_path",
]

NAMES = ("auto", "mnist", "digits")
PROBE_SECONDS = 4.0  # how long "auto" waits for a mirror to answer


def load(name="auto", data_dir=None, size=28, channels=1, announce=print, timeout=TIMEOUT, bars=True):
    """A data set for training, its images uint8 (N, channels, size, size).

    name      "mnist" (the training set), "digits" (bundled), the path of a folder of images or of a .npy or
              .npz file, or "auto": MNIST if it is here or can be downloaded, else the digits
    data_dir  where MNIST is looked for first and downloaded to
    channels  1 (grey), 3 (colour), or None: as the data are, MNIST and the digits grey
    announce  is called with one line when MNIST is downloaded, when "auto" means the digits, and when images are
              made grey or get the channels of colour
    timeout   seconds without an answer after which a mirror is given up
    bars      whether a terminal shows progress bars while images are downloaded or read

    A file of MNIST's that is here but damaged is an error, also for "auto".
    """
    check_format(size, channels)
    if name == "auto":
        name = choose(data_dir, announce, timeout, bars)
    if name in ("mnist", "digits"):
        channels = channels or 1
        tell_conversion(name, 1, channels, announce)
    if name == "digits":
        return load_digits(size, channels)
    if name == "mnist":
        return resized(load_mnist("train", data_dir, timeout=timeout, announce=announce, bars=bars), size, channels)
    if not str(name) or not Path(name).expanduser().exists():
        raise UserError(
            f"there is no data set, file or folder {str(name)!r}: give {', '.join(NAMES)}, "
            "or the path of a folder of images, a .npy or a .npz file"
        )
    return load_path(name, size, channels, bars, announce)


def choose(data_dir, announce, timeout, bars):
    """What "auto" means here: "mnist", downloaded now if need be, or "digits", announced."""
    absent = mnist.missing(data_dir)
    if not absent:
        return "mnist"
    mnist.verify_found(data_dir)  # damage to the files that are here must not pass for their absence
    seconds = min(PROBE_SECONDS, timeout)
    if mnist.can_download(seconds):
        try:
            fetch(data_dir, timeout=timeout, announce=announce, bars=bars)
            return "mnist"
        except DownloadError as error:
            why = str(error)
    else:
        part = "" if len(absent) == len(mnist.FILES) else f" ({', '.join(absent)} missing)"
        why = f"MNIST is not on this machine{part} and no mirror answered within {seconds:g} s"
    announce(
        f"{why}: training on the bundled digits (1,797 images) instead; "
        "`scratchgan data fetch mnist` or --data-dir sets MNIST up"
    )
    return "digits"


def resized(dataset, size, channels):
    """The data set with its images fitted; itself if they are as they should be."""
    images = fit(dataset.images, size, channels)
    if images is dataset.images:
        return dataset
    c, h, w = dataset.images.shape[1:]
    origin = f"{dataset.origin}, {c}x{h}x{w} made {channels}x{size}x{size}"
    return Dataset.of(dataset.name, images, dataset.labels, origin)


def find(data_dir=None):
    """`[(name, where or None), ...]` of the named data sets: what is on this machine, not verified."""
    found = list(mnist.locate(data_dir).values())
    where = None if None in found else str(found[0].parent)
    return [("mnist", where), ("digits", "bundled with scratchgan")]
