"""MNIST out of its four original files: found on this machine or downloaded, and always verified.

Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998: 60,000
training and 10,000 test images of 28x28 bytes, 0 for the background and 255 for ink.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from scratchgan.data.dataset import Dataset
from scratchgan.data.download import TIMEOUT, DownloadError, check_writable, download, reachable, store
from scratchgan.data.idx import GZIP_MAGIC, decompress, parse_idx, read_bytes
from scratchgan.errors import UserError
from scratchgan.files import expanded

CREDIT = "Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits"

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

# The shape of each file's array and the SHA-256 of its decompressed content. The files these were
# computed from have the MD5 sums that torchvision lists: f68b3c2d..., d53e105e..., 9fb629c4..., ec29112d...
FILES = {
    "train-images-idx3-ubyte": (
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        (60000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        (10000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
SPLITS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# Parts of these: the split and which of its examples. The training set as the first GAN paper divided it.
PARTS = {"train50k": ("train", slice(0, 50_000)), "validation10k": ("train", slice(50_000, 60_000))}
LARGEST_SET = 1 << 30  # bytes; a file that decompresses to more is not looked at
SUBFOLDERS = ("mnist", "", "MNIST/raw")  # the last is where torchvision puts them


def load_mnist(split="train", data_dir=None, download=True, timeout=TIMEOUT, announce=None, bars=True):
    """The `split` "train" (60,000) or "test" (10,000) of MNIST: images (N, 1, 28, 28), labels 0 to 9.

    "train50k" and "validation10k" are the first 50,000 and the last 10,000 of the training set.
    The files are looked for as `search_folders` says and, if any of the two is missing,
    downloaded where `fetch` says, unless `download` is false.
    """
    if split not in (*SPLITS, *PARTS):
        raise UserError(f"MNIST has the splits {', '.join(PARTS)}, {' and '.join(SPLITS)}, not {split!r}")
    whole, rows = PARTS.get(split, (split, slice(None)))
    if missing(data_dir, SPLITS[whole]):
        if not download:
            raise UserError(
                f"MNIST was not found {searched(data_dir)}: `scratchgan data fetch mnist` downloads it, "
                "and --data-dir names the folder that holds it"
            )
        try:
            fetch(data_dir, timeout=timeout, announce=announce, bars=bars)
        except DownloadError as error:
            raise DownloadError(f"MNIST was not found {searched(data_dir)}, and {error}") from error
    found = locate(data_dir)
    images, labels = (read_verified(found[file], file)[rows] for file in SPLITS[whole])
    source = f"MNIST {split} set ({CREDIT}), from {found[SPLITS[whole][0]].parent}"
    return Dataset.of("mnist", images[:, None], labels.astype(np.int64), source)


def fetch(data_dir=None, mirrors=None, timeout=TIMEOUT, announce=None, bars=True):
    """See to it that all four files are in one folder, download those that are not, return its path.

    The folder is `mnist` in `data_dir` or else in the first of `search_folders`. Files already
    there are verified and kept; a damaged one is an error, not a reason to write over it. Each
    file is asked of the `mirrors` (default: `MIRRORS`) in turn, verified, and only then written.
    A mirror that sends nothing for `timeout` seconds is given up.
    """
    root = search_folders(data_dir)[0]
    folder = root / "mnist"
    mirrors = [mirror.rstrip("/") + "/" for mirror in (MIRRORS if mirrors is None else mirrors)]
    found = locate_in([root])
    for file, path in found.items():
        if path is not None:
            read_verified(path, file)
            folder = path.parent
    absent = [file for file in FILES if found[file] is None]
    if absent:
        check_writable(folder)  # before megabytes come in for nothing
        if announce:
            announce(f"downloading MNIST ({len(absent)} of {len(FILES)} files) to {folder}")
    for file in absent:
        try:
            mirror, data = download(
                f"{file}.gz", mirrors, lambda data, file=file: verify(data, "what it sent", file), timeout, bars
            )
        except DownloadError as error:
            raise DownloadError(
                f"MNIST could not be downloaded ({error}): put {', '.join(f'{name}.gz' for name in absent)} into "
                f"{folder} yourself; the data set `digits` needs no download"
            ) from error
        # A server may decompress what it sends; the name then says so.
        store(folder / (f"{file}.gz" if data[:2] == GZIP_MAGIC else file), data)
        mirrors.remove(mirror)  # the one that works goes first from now on
        mirrors.insert(0, mirror)
    return folder


def can_download(seconds):
    """Whether a mirror begins to send MNIST within `seconds`."""
    return reachable([f"{mirror}{next(iter(FILES))}.gz" for mirror in MIRRORS], seconds)


def search_folders(data_dir=None):
    """Where MNIST is looked for: `data_dir`, the folder in SCRATCHGAN_DATA, the user's cache.

    In each, the files may be in the folder itself or in `mnist/`, plain or compressed (`.gz`).
    """
    named = [data_dir, os.environ.get("SCRATCHGAN_DATA")]
    return [expanded(folder) for folder in named if folder] + [cache_folder()]


def cache_folder():
    """$XDG_CACHE_HOME/scratchgan, or ~/.cache/scratchgan."""
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache:
        return Path(cache) / "scratchgan"
    try:
        return Path.home() / ".cache" / "scratchgan"
    except RuntimeError:  # a user without a home, as containers have them
        return Path(tempfile.gettempdir()) / "scratchgan"


def searched(data_dir=None):
    """Where `search_folders` looks, in words: for messages."""
    *folders, last = map(str, search_folders(data_dir))
    return f"in {', '.join(folders)} or {last}" if folders else f"in {last}"


def locate(data_dir=None):
    """A dictionary from each of the four files' names to where it is, or to None."""
    return locate_in(search_folders(data_dir))


def locate_in(folders):
    places = [folder / subfolder for folder in folders for subfolder in SUBFOLDERS]
    found = dict.fromkeys(FILES)
    for file in FILES:
        dotted = file.replace("-idx", ".idx")  # as some archives name them
        paths = (place / name for place in places for name in (file, f"{file}.gz", dotted, f"{dotted}.gz"))
        found[file] = next((path for path in paths if path.is_file()), None)
    return found


def missing(data_dir=None, files=None):
    """Which of `files` (default: all four) are nowhere on this machine."""
    found = locate(data_dir)
    return [file for file in files or FILES if found[file] is None]


def verify_found(data_dir=None):
    """Complain of any file that is on this machine but damaged."""
    for file, path in locate(data_dir).items():
        if path is not None:
            read_verified(path, file)


def read_verified(path, file):
    """The array in `path`, which must be the original `file`. Nobody is told to delete what may be another data set."""
    data = read_bytes(path)
    try:
        return parse_idx(verify(data, path, file), path, FILES[file][0])
    except UserError as error:
        if is_another_set(data):
            raise UserError(
                f"{path} is not MNIST (its SHA-256 is another: perhaps Fashion-MNIST or another set with MNIST's "
                f"names, or damaged): to train on it, give {path.parent} as the data; for MNIST, name another folder "
                "with --data-dir, to `scratchgan data fetch mnist`, too"
            ) from error
        raise UserError(f"{error}: move it elsewhere, and `scratchgan data fetch mnist` gets it again") from error


def is_another_set(data):
    """Whether this is a whole file in MNIST's format that is none of MNIST's."""
    try:
        content = decompress(data, "it", LARGEST_SET)
        parse_idx(content, "it")
    except UserError:
        return False
    return hashlib.sha256(content).hexdigest() not in [sha256 for _, sha256 in FILES.values()]


def verify(data, name, file):
    """The decompressed content of the original `file`; anything else is an error that says `name`."""
    shape, expected = FILES[file]
    content = decompress(data, name, limit(shape))
    if not content:
        raise UserError(f"{name} is empty")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(
            f"{name} is not the original {file} (its SHA-256 is {found[:12]}..., not {expected[:12]}...)"
        )
    return content


def limit(shape):
    """Where to stop decompressing what should hold an array of this shape: well past its end."""
    return 2 * int(np.prod(shape)) + 1024
