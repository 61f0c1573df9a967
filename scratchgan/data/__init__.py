"""Data: MNIST, the bundled digits, one's own images, toy sets. A data set is a `Dataset` of uint8 images, a toy set a
`Sampler` without end.

`load` is the way in; `find` tells what is on this machine, and `fetch` downloads MNIST. What training takes its
batches from is a `Source`: a data set is one.
"""

from scratchgan.data import mnist
from scratchgan.data.arrays import load_array
from scratchgan.data.dataset import Dataset, as_source, content_sha256
from scratchgan.data.digits import load_digits
from scratchgan.data.download import TIMEOUT, DownloadError
from scratchgan.data.folders import load_folder
from scratchgan.data.idx import IDX_NAME, dimensions, image_files, load_idx
from scratchgan.data.mnist import fetch, load_mnist
from scratchgan.data.pixels import check_format, fit, tell_conversion
from scratchgan.data.source import Pair, Sampler, Source
from scratchgan.data.stacked import Stacked
from scratchgan.data.toys import TOYS
from scratchgan.errors import UserError
from scratchgan.files import expanded

__all__ = [
    "NAMES",
    "Dataset",
    "Pair",
    "Sampler",
    "Source",
    "as_source",
    "content_sha256",
    "fetch",
    "find",
    "load",
    "load_digits",
    "load_mnist",
    "load_path",
]

NAMES = ("auto", "mnist", "digits", "stacked", *TOYS)
PATHS = "a folder of images, an IDX file as MNIST's, a .npy or a .npz file"
PROBE_SECONDS = 4.0  # how long "auto" waits for a mirror to answer


def load(name="auto", data_dir=None, size=28, channels=1, announce=print, timeout=TIMEOUT, bars=True,
         split="train"):
    """What to train on: a data set, its images uint8 (N, channels, size, size), or a sampler without end.

    name      "mnist" (the training set, or `split`), "digits" (bundled), a path as for `load_path`, or "auto": MNIST if
              it is here or can be downloaded, else the digits; "ring8", "grid25", "spiral" (`scratchgan.data.toys`) or
              "stacked" (`Stacked`, of MNIST's training set), whose shapes are their own, whatever size and channels
    data_dir  where MNIST is looked for first and downloaded to
    channels  1 (grey), 3 (colour), or None: as the data are, MNIST and the digits grey
    announce  is called with one line when MNIST is downloaded, when "auto" means the digits, when files are passed
              over, and when images are made grey or get the channels of colour; None: nothing is said
    timeout   seconds without an answer after which a mirror is given up
    bars      whether a terminal shows progress bars while images are downloaded or read
    split     of MNIST, where that is loaded: see `load_mnist`

    A file with a name of MNIST's that is not the original is an error, also for "auto".
    """
    announce = announce or (lambda line: None)
    check_format(size, channels)
    if isinstance(name, str) and name in TOYS:
        return TOYS[name]()
    if name == "stacked":
        return Stacked(load_mnist("train", data_dir, timeout=timeout, announce=announce, bars=bars))
    if name == "auto":
        name = choose(data_dir, announce, timeout, bars)
    if name in ("mnist", "digits"):
        channels = channels or 1
        tell_conversion(name, 1, channels, announce)
    if name == "digits":
        return load_digits(size, channels)
    if name == "mnist":
        return resized(load_mnist(split, data_dir, timeout=timeout, announce=announce, bars=bars), size, channels)
    if not str(name) or not expanded(name).exists():
        raise UserError(
            f"there is no data set, file or folder {str(name)!r}: give {', '.join(NAMES)}, "
            f"or the path of {PATHS}"
        )
    return load_path(name, size, channels, bars, announce)


def load_path(path, size=28, channels=1, bars=True, announce=None):
    """One's own images as `channels` x `size` x `size`, with their labels if there are any.

    `path` is a folder of pictures, its sub-folders the classes (`load_folder`); a folder of IDX files as MNIST's or
    the file of the images (`load_idx`); or a .npy or .npz file (`load_array`). With None for `channels`: 3 for an
    array that has 3 or a folder in which any image is in colour, else 1.
    """
    path = expanded(path)
    if path.is_dir():
        if image_files(path):
            return load_idx(path, size, channels, announce)
        return load_folder(path, size, channels, bars, announce)
    if path.suffix.lower() in (".npy", ".npz"):
        return load_array(path, size, channels, announce)
    if not path.exists():
        raise UserError(f"there is no file or folder {path}")
    if dimensions(path) is not None or IDX_NAME.search(path.name):
        return load_idx(path, size, channels, announce)
    raise UserError(f"{path} is not {PATHS}")


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
    toys = [(name, make().origin) for name, make in TOYS.items()]
    return [("mnist", where), ("digits", "bundled with scratchgan"),
            ("stacked", where and f"three digits of MNIST, in {where}"), *toys]
