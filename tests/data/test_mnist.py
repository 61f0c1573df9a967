import os
from pathlib import Path

import numpy as np
import pytest

from scratchgan import recipes
from scratchgan.cli import datasets
from scratchgan.data import content_sha256, download, fetch, load_mnist, mnist
from scratchgan.data.download import DownloadError
from scratchgan.errors import UserError

REAL = os.environ.get("SCRATCHGAN_DATA")  # read before the tests' own surroundings hide it
HAVE_REAL = bool(REAL) and None not in mnist.locate_in([Path(REAL)]).values()
needs_mnist = pytest.mark.skipif(not HAVE_REAL, reason="SCRATCHGAN_DATA is not set or does not hold MNIST")


@pytest.mark.parametrize("place", ["mnist", "", "MNIST/raw"])
@pytest.mark.parametrize("compressed", [True, False])
def test_found_in_any_of_the_places(tmp_path, tiny, place, compressed):
    tiny.write(tmp_path / "data" / place, compressed)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        data = load_mnist(split, tmp_path / "data", download=False)
        assert np.array_equal(data.images[:, 0], tiny.arrays[f"{prefix}-images-idx3-ubyte"])
        assert np.array_equal(data.labels, tiny.arrays[f"{prefix}-labels-idx1-ubyte"])
        assert data.labels.dtype == np.int64 and data.name == "mnist"
        assert data.sha256 == content_sha256(data.images, data.labels)
        assert str(tmp_path / "data") in data.origin and "LeCun" in data.origin and "\n" not in data.origin


def test_order_of_search(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("SCRATCHGAN_DATA", str(tmp_path / "environment"))
    order = [tmp_path / "explicit", tmp_path / "environment", tmp_path / "cache" / "scratchgan"]
    assert mnist.search_folders(tmp_path / "explicit") == order
    for folder in reversed(order):
        assert mnist.missing(tmp_path / "explicit") == ([] if folder != order[-1] else list(mnist.FILES))
        tiny.write(folder / "mnist")
        assert str(folder) in load_mnist("train", tmp_path / "explicit", download=False).origin
    monkeypatch.setenv("SCRATCHGAN_DATA", "")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mnist.search_folders() == [tmp_path / ".cache" / "scratchgan"]


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(mnist.Path, "home", no_home)
    assert mnist.cache_folder().is_absolute() and mnist.cache_folder().name == "scratchgan"


def damage(path, how):
    data = path.read_bytes()
    if how == "altered":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "longer":
        path.write_bytes(data + b"\0")
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("compressed", "how"),
    [
        (True, "altered"),
        (True, "cut"),
        (True, "emptied"),
        (False, "altered"),
        (False, "cut"),
        (False, "longer"),  # not of a gzip file, which may end in zeros
        (False, "emptied"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, tiny, server, how, compressed, monkeypatch):
    folder = tiny.write(tmp_path / "data", compressed)
    path = folder / f"train-labels-idx1-ubyte{'.gz' if compressed else ''}"
    damage(path, how)
    before = path.read_bytes()
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("good"),))
    for attempt in (lambda: load_mnist("train", folder), lambda: fetch(folder)):
        with pytest.raises(UserError, match=r"move it elsewhere|is not MNIST") as caught:
            attempt()
        assert str(path) in str(caught.value) and not isinstance(caught.value, DownloadError)
    assert path.read_bytes() == before and server.log == []


def test_swapped_files_are_told(tmp_path, tiny):
    folder = tiny.write(tmp_path / "data")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(tiny.packed["t10k-images-idx3-ubyte"])
    with pytest.raises(UserError, match="is not the original train-images-idx3-ubyte"):
        load_mnist("train", folder)


def test_fetch_downloads_all_four_and_then_none(tmp_path, tiny, server):
    folder = fetch(tmp_path / "data", [server.url("good").rstrip("/")])
    assert folder == tmp_path / "data" / "mnist"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{file}.gz" for file in tiny.packed)
    for file, data in tiny.packed.items():
        assert (folder / f"{file}.gz").read_bytes() == data
    assert server.log == [f"good/{file}.gz" for file in tiny.packed]
    stats = {path: path.stat() for path in folder.iterdir()}
    assert fetch(tmp_path / "data", [server.url("good")]) == folder
    assert len(server.log) == 4
    for path, stat in stats.items():  # the same files, not equal ones
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_fetch_downloads_only_what_is_missing(tmp_path, tiny, server):
    folder = tiny.write(tmp_path / "data", compressed=False)
    (folder / "t10k-images-idx3-ubyte").unlink()
    kept = (folder / "train-images-idx3-ubyte").stat().st_ino
    said = []
    assert fetch(tmp_path / "data", [server.url("good")], announce=said.append) == folder
    assert server.log == ["good/t10k-images-idx3-ubyte.gz"] and "1 of 4 files" in said[0]
    assert (folder / "train-images-idx3-ubyte").stat().st_ino == kept
    assert len(load_mnist("test", folder, download=False)) == 3


def test_the_mirror_that_works_is_asked_first_from_then_on(tmp_path, server, tiny):
    fetch(tmp_path / "data", [server.url("forbidden"), server.url("good")])
    assert server.log[0].startswith("forbidden/")
    assert [entry.split("/")[0] for entry in server.log[1:]] == ["good"] * 4


def test_what_a_server_decompressed_is_stored_under_the_plain_name(tmp_path, tiny, server):
    folder = fetch(tmp_path / "data", [server.url("unpacked")])
    assert sorted(path.name for path in folder.iterdir()) == sorted(tiny.content)
    assert len(load_mnist("train", tmp_path / "data", download=False)) == 6


def test_when_all_mirrors_fail_each_is_named_and_nothing_is_written(tmp_path, tiny, server, dead_url):
    mirrors = [server.url("forbidden"), server.url("altered"), server.url("stalled"), dead_url]
    with pytest.raises(DownloadError, match="could not be downloaded") as caught:
        fetch(tmp_path / "data", mirrors, timeout=0.3)
    for mirror in mirrors:
        assert f"{mirror}: " in str(caught.value)
    assert str(tmp_path / "data" / "mnist") in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_ctrl_c_in_mid_download_leaves_nothing_behind(tmp_path, tiny, server, monkeypatch):
    receive = download.receive

    def interrupted(response, *arguments):
        if len(server.log) == 2:  # the first file is through
            raise KeyboardInterrupt
        return receive(response, *arguments)

    monkeypatch.setattr(download, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "data", [server.url("good")])
    assert [path.name for path in (tmp_path / "data" / "mnist").iterdir()] == ["train-images-idx3-ubyte.gz"]
    monkeypatch.undo()


def test_load_downloads_into_the_cache(tmp_path, tiny, server, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("moved"),))
    said = []
    data = load_mnist("train", announce=said.append)
    assert len(data) == 6 and str(tmp_path / "cache" / "scratchgan" / "mnist") in data.origin
    assert len(said) == 1 and "4 of 4 files" in said[0]


def test_an_impossible_folder_is_told_before_anything_is_downloaded(tmp_path, tiny, server):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match="not a folder that can be written to"):
        fetch(tmp_path / "file", [server.url("good")])
    assert server.log == []


def test_not_found_says_where_it_was_looked_for(tmp_path, tiny):
    with pytest.raises(UserError, match="scratchgan data fetch mnist") as caught:
        load_mnist("train", tmp_path / "no such folder", download=False)
    assert f"in {tmp_path / 'no such folder'} or {tmp_path / 'cache' / 'scratchgan'}" in str(caught.value)
    with pytest.raises(DownloadError, match="Connection refused") as caught:
        load_mnist("train", tmp_path / "no such folder")
    assert f"in {tmp_path / 'no such folder'} or {tmp_path / 'cache' / 'scratchgan'}" in str(caught.value)
    assert not (tmp_path / "no such folder").exists()


def test_unknown_split(tiny):
    with pytest.raises(UserError, match="train and test, not 'validation'"):
        load_mnist("validation")


def test_parts_of_the_training_set(tmp_path, tiny, monkeypatch):
    """A recipe may name the split that it learns from; its runs find it again."""
    assert [rows for _, rows in mnist.PARTS.values()] == [slice(0, 50_000), slice(50_000, 60_000)]
    monkeypatch.setattr(mnist, "PARTS", {"train50k": ("train", slice(0, 4)), "validation10k": ("train", slice(4, 6))})
    tiny.write(tmp_path / "mnist")
    whole, first, last = (load_mnist(split, tmp_path) for split in ("train", "train50k", "validation10k"))
    assert (whole.size, first.size, last.size) == (6, 4, 2) and first.name == "mnist"
    assert np.array_equal(whole.labels, np.concatenate([first.labels, last.labels]))
    assert np.array_equal(last.images, whole.images[4:])
    for name in ("auto", "mnist"):
        found = datasets.of_recipe(recipes.get("goodfellow"), name, tmp_path, announce=None)
        for again in (datasets.of_run({"data": found.record()}),
                      datasets.of_run({"data": found.record()}, "mnist", tmp_path)):
            assert found.size == 4 and again.sha256 == found.sha256


def test_the_table_is_of_mnist():
    assert [shape[0] for shape, _ in mnist.FILES.values()] == [60000, 60000, 10000, 10000]
    assert len({sha256 for _, sha256 in mnist.FILES.values()}) == 4
    assert all(len(sha256) == 64 for _, sha256 in mnist.FILES.values())
    assert sorted(file for files in mnist.SPLITS.values() for file in files) == sorted(mnist.FILES)


@needs_mnist
def test_real_mnist():
    test = load_mnist("test", REAL, download=False)
    assert test.images.shape == (10000, 1, 28, 28)
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    train = load_mnist("train", REAL, download=False)
    assert train.images.shape == (60000, 1, 28, 28)
    assert abs(train.images.mean() / 255 - 0.1307) < 5e-5  # the mean every tutorial normalises by
    assert train.sha256 == "4d103bf74662df2bc51cc2c6b343f4ccf3baf142aad7d029b602148f9c438b79"
