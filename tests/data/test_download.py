import threading
import time

import pytest

from scratchgan import files
from scratchgan.data import download, mnist
from scratchgan.data.download import DownloadError, check_writable, get, reachable, store, within

FILE = "train-images-idx3-ubyte"
URL = f"{FILE}.gz"


def fetch_one(server, *behaviours, timeout=0.3):
    """Download the first file only, from mirrors that behave so."""
    mirrors = [server.url(behaviour) for behaviour in behaviours]
    return download.download(URL, mirrors, lambda data: mnist.verify(data, "what it sent", FILE), timeout)


@pytest.mark.parametrize("behaviour", ["good", "moved", "unpacked"])
def test_downloads(server, tiny, behaviour):
    mirror, data = fetch_one(server, behaviour)
    assert mirror == server.url(behaviour)
    assert data == (tiny.content if behaviour == "unpacked" else tiny.packed)[FILE]


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("forbidden", "answered 403 Forbidden"),
        ("circling", "answered 302 "),
        ("cut", "broke off after 20 of "),
        ("altered", f"what it sent is not the original {FILE} (its SHA-256 is "),
        ("login_page", f"what it sent is not the original {FILE}"),
        ("corrupt", "what it sent is a damaged or incomplete gzip file"),
        ("empty", "what it sent is empty"),
        ("silent", "no answer within 0.3 s"),
        ("stalled", "no answer within 0.3 s"),
        ("dripping", "sent less than 4096 bytes a second"),
        ("dripping_headers", "no answer within 0.3 s"),
        ("endless", "sent more than 1 MiB"),
    ],
)
def test_a_bad_mirror_is_named_and_passed_over(server, tiny, behaviour, says, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 1 << 20)
    start = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        fetch_one(server, behaviour)
    assert f"{server.url(behaviour)}: {says}" in str(caught.value)
    mirror, data = fetch_one(server, behaviour, "good")
    assert mirror == server.url("good") and data == tiny.packed[FILE]
    assert time.monotonic() - start < 9  # the silent ones would answer after 10


def test_a_dead_mirror_and_an_impossible_one_are_told(server, dead_url):
    with pytest.raises(DownloadError) as caught:
        download.download(URL, [dead_url, "nonsense/"], bytes, 0.3)
    refused, unknown = str(caught.value).split("; ")
    assert refused == f"{dead_url}: Connection refused"
    assert unknown.startswith("nonsense/: unknown url type")
    with pytest.raises(DownloadError, match="no mirror"):
        download.download(URL, [], bytes, 0.3)


def test_a_slow_but_steady_mirror_is_waited_for(server, tiny, monkeypatch):
    monkeypatch.setattr(download, "MINIMUM_SPEED", 10)
    monkeypatch.setattr(download, "LARGEST", 60)
    start = time.monotonic()
    with pytest.raises(
        OSError, match="sent more than"
    ):  # it got as far as the limit: 60 bytes at 50 a second
        get(server.url("dripping") + URL, timeout=0.3)
    assert time.monotonic() - start > 0.9


def test_reachable(server, dead_url):
    assert reachable([server.url("silent") + URL, server.url("good") + URL], 2)
    assert reachable([server.url("moved") + URL], 2)
    start = time.monotonic()
    bad = ("silent", "forbidden", "login_page", "empty", "dripping_headers")
    assert not reachable([dead_url + URL] + [server.url(behaviour) + URL for behaviour in bad], 0.3)
    assert 0.25 < time.monotonic() - start < 9  # the silent one would answer after 10
    assert not reachable([], 0.3)


class Closable:
    closed = False

    def close(self):
        self.closed = True


def test_within():
    assert within(1, int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        within(1, int, "seven")
    late, release, finished = Closable(), threading.Event(), threading.Event()

    def slow():
        release.wait(5)
        finished.set()
        return late

    with pytest.raises(TimeoutError):
        within(0.05, slow)
    assert not late.closed
    release.set()
    assert finished.wait(5)
    deadline = time.monotonic() + 5
    while not late.closed and time.monotonic() < deadline:
        time.sleep(0.005)
    assert late.closed  # a connection that opens too late is not left open


def test_store_replaces_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    store(path, b"one")
    assert path.read_bytes() == b"one"
    seen = []
    replace = files.os.replace

    def look(source, target):
        seen.append((source.read_bytes(), target.read_bytes(), source.parent == target.parent))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", look)
    store(path, b"two")
    assert seen == [(b"two", b"one", True)]
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("raised", "expected"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left"), DownloadError)],
)
def test_an_interrupted_store_leaves_nothing_behind(tmp_path, monkeypatch, step, raised, expected):
    def fail(*arguments):
        raise raised

    path = tmp_path / "file"
    path.write_bytes(b"before")
    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(expected):
        store(path, b"after")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"before"


def test_check_writable(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match="file is not a folder that can be written to"):
        check_writable(tmp_path / "file" / "mnist")
