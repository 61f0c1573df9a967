import time

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

from scratchgan import data
from scratchgan.data import mnist
from scratchgan.errors import UserError


def test_auto_without_mnist_announces_the_digits(tmp_path, monkeypatch):
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("SCRATCHGAN_DATA", str(tmp_path / "nothing"))
    said = []
    start = time.monotonic()
    loaded = data.load("auto", announce=said.append)
    assert loaded.name == "digits" and len(loaded) == 1797
    assert said == [
        "MNIST is not on this machine and no mirror answered within 4 s: training on the bundled digits "
        "(1,797 images) instead; `scratchgan data fetch mnist` or --data-dir sets MNIST up"
    ]
    assert time.monotonic() - start < 4
    assert list((tmp_path / "nothing").iterdir()) == []


def test_auto_gives_silent_mirrors_up(server, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("silent"), server.url("dripping_headers")))
    monkeypatch.setattr(data, "PROBE_SECONDS", 0.3)
    said = []
    start = time.monotonic()
    assert data.load("auto", announce=said.append).name == "digits"
    assert time.monotonic() - start < 2
    assert len(said) == 1 and "within 0.3 s" in said[0]


def test_auto_takes_what_is_there_and_says_nothing(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("SCRATCHGAN_DATA", str(tiny.write(tmp_path / "data")))
    said = []
    loaded = data.load(size=5, announce=said.append)
    assert loaded.name == "mnist" and said == []
    assert np.array_equal(loaded.images[:, 0], tiny.arrays["train-images-idx3-ubyte"])


def test_auto_downloads_where_it_can(tmp_path, server, dead_url, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", (dead_url, server.url("good")))
    said = []
    loaded = data.load("auto", tmp_path / "data", announce=said.append)
    assert loaded.name == "mnist" and loaded.images.shape == (6, 1, 28, 28)
    assert said == [f"downloading MNIST (4 of 4 files) to {tmp_path / 'data' / 'mnist'}"]


def test_nothing_is_said_where_nobody_listens(tmp_path, server, monkeypatch, capsys):
    """announce=None, whatever there is to say."""
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "folder" / "a.png")
    (tmp_path / "folder" / "b.txt").write_text("passed over")
    np.save(tmp_path / "mine.npy", np.zeros((4, 9, 9, 3), np.uint8))
    for name in ("auto", "digits", tmp_path / "folder", tmp_path / "mine.npy"):
        for channels in (1, 3):
            assert data.load(name, channels=channels, announce=None).images.shape[1] == channels
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("altered"),))
    assert data.load("auto", tmp_path / "data", announce=None, bars=False).name == "digits"
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("good"),))
    assert data.load("auto", tmp_path / "data", announce=None, bars=False).name == "mnist"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("behaviour", ["altered", "cut", "corrupt", "stalled"])
def test_auto_announces_a_download_that_failed(tmp_path, server, monkeypatch, behaviour):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url(behaviour),))
    said = []
    assert data.load("auto", tmp_path / "data", announce=said.append, timeout=0.3).name == "digits"
    assert len(said) == 2 and server.url(behaviour) in said[1] and "training on the bundled digits" in said[1]
    assert not (tmp_path / "data").exists()


def test_auto_says_which_files_are_missing(tmp_path, tiny):
    (tiny.write(tmp_path / "data") / "t10k-labels-idx1-ubyte.gz").unlink()
    said = []
    assert data.load("auto", tmp_path / "data", announce=said.append).name == "digits"
    assert "(t10k-labels-idx1-ubyte missing)" in said[0]


@pytest.mark.parametrize("name", ["auto", "mnist"])
def test_a_damaged_file_is_an_error_for_auto_too(tmp_path, tiny, name):
    path = tiny.write(tmp_path / "data") / "train-images-idx3-ubyte.gz"
    path.write_bytes(tiny.packed["t10k-images-idx3-ubyte"])
    with pytest.raises(UserError, match="is not the original train-images") as caught:
        data.load(name, tmp_path / "data", announce=pytest.fail)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("behaviour", ["good", "forbidden"])
def test_a_damaged_file_is_an_error_even_if_others_are_missing(tmp_path, server, monkeypatch, behaviour):
    monkeypatch.setattr(mnist, "MIRRORS", (server.url(behaviour),))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-images-idx3-ubyte").write_bytes(b"junk")
    with pytest.raises(UserError, match="is not the original"):
        data.load("auto", tmp_path / "data", announce=pytest.fail)


def test_mnist_is_never_replaced_by_something_else(tmp_path):
    with pytest.raises(UserError, match=r"MNIST was not found in .*no such folder"):
        data.load("mnist", tmp_path / "no such folder", announce=lambda line: None)


@pytest.mark.parametrize("name", ["mnsit", "", "no/such/folder", "file.npz"])
def test_an_unknown_name_lists_the_choices(name):
    with pytest.raises(UserError, match=r"auto, mnist, .*, ring8, grid25, spiral, or the path of a folder") as caught:
        data.load(name)
    assert repr(name) in str(caught.value)


def test_a_size_and_channels_are_fitted_for_every_kind(tmp_path, tiny):
    tiny.write(tmp_path / "data")
    np.save(tmp_path / "mine.npy", np.zeros((4, 9, 9), np.uint8))
    (tmp_path / "folder").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "folder" / "a.png")
    for name, count in (
        ("mnist", 6),
        ("digits", 1797),
        (tmp_path / "mine.npy", 4),
        (str(tmp_path / "folder"), 1),
    ):
        loaded = data.load(name, tmp_path / "data", size=16, channels=3)
        assert loaded.images.shape == (count, 3, 16, 16)
        assert loaded.sha256 == data.content_sha256(loaded.images, loaded.labels)
        with pytest.raises(UserError, match="1 channel"):
            data.load(name, tmp_path / "data", channels=4)
        with pytest.raises(UserError, match="image size"):
            data.load(name, tmp_path / "data", size=0)
    assert "1x5x5 made 3x16x16" in data.load("mnist", tmp_path / "data", size=16, channels=3).origin


def test_find(tmp_path, tiny):
    assert data.find()[:3] == [("mnist", None), ("digits", "bundled with scratchgan"), ("stacked", None)]
    assert [name for name, _ in data.find()[3:]] == ["ring8", "grid25", "spiral"]
    tiny.write(tmp_path / "data" / "mnist")
    assert dict(data.find(tmp_path / "data"))["mnist"] == str(tmp_path / "data" / "mnist")
    (tmp_path / "data" / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    assert dict(data.find(tmp_path / "data"))["mnist"] is None


def test_no_bars_where_none_are_wanted(tmp_path, server, monkeypatch):
    seen = []

    def watched(*arguments, disable, **options):
        seen.append(disable)
        return tqdm(*arguments, disable=True, **options)
    monkeypatch.setattr("scratchgan.data.download.tqdm", watched)
    monkeypatch.setattr("scratchgan.data.folders.tqdm", watched)
    monkeypatch.setattr(mnist, "MIRRORS", (server.url("good"),))
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "images" / "a.png")
    for bars, disable in ((True, None), (False, True)):  # None: shown on a terminal
        for name in ("mnist", tmp_path / "images"):
            data.load(name, tmp_path / str(bars), bars=bars)
        assert seen == 5 * [disable]
        seen.clear()
