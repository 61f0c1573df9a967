"""Downloads that cannot hang, cannot be mistaken for the real file, and leave no half of one behind."""

import http.client
import os
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, as_completed

from tqdm import tqdm

from scratchgan import files
from scratchgan.data.idx import GZIP_MAGIC
from scratchgan.errors import UserError

TIMEOUT = 10.0  # seconds without an answer, or under the minimum speed, before a mirror is given up
MINIMUM_SPEED = 4096  # bytes a second
LARGEST = 64 << 20  # bytes; no file here comes near it
CHUNK = 1 << 16
FAILURES = (OSError, http.client.HTTPException, ValueError)  # OSError: sockets, TLS, URLError, TimeoutError


class DownloadError(UserError):
    """Nothing that could be used came from any mirror, or it could not be stored."""


def download(file, mirrors, check, timeout=TIMEOUT, bar=True):
    """`(mirror, data)` of the first of `mirrors` to serve a `file` that `check(data)` does not refuse.

    `check` raises `UserError` to refuse. A `DownloadError` tells what each mirror said.
    """
    reasons = []
    for mirror in mirrors:
        try:
            data = get(mirror + file, timeout, bar)
            check(data)
            return mirror, data
        except (UserError, *FAILURES) as error:
            reasons.append(f"{mirror}: {reason(error, timeout)}")
    raise DownloadError("; ".join(reasons) or "there is no mirror to ask")


def get(url, timeout=TIMEOUT, bar=True):
    """The bytes at `url`, with a progress bar, if wanted, where somebody is watching. Redirects are followed."""
    with within(timeout, request, url, timeout) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        # disable=None: no bar unless standard error is a terminal.
        name = url.rpartition("/")[2]
        disable = None if bar else True
        with tqdm(total=total, desc=name, unit="B", unit_scale=True, leave=False, disable=disable) as shown:
            return receive(response, total, timeout, shown.update)


def receive(response, total, timeout, progress=lambda count: None):
    """The body of a response, piece by piece.

    A socket's time-out starts again with every byte, so a server that sends one now and then would
    hold it for ever: the speed over each stretch of `timeout` seconds must reach `MINIMUM_SPEED`.
    """
    data, mark, start = bytearray(), 0, time.monotonic()
    while piece := response.read1(CHUNK):
        data += piece
        progress(len(piece))
        if len(data) > LARGEST:
            raise OSError(f"sent more than {LARGEST >> 20} MiB")
        elapsed = time.monotonic() - start
        if elapsed >= timeout:
            if len(data) - mark < MINIMUM_SPEED * elapsed:
                raise OSError(f"sent less than {MINIMUM_SPEED} bytes a second")
            mark, start = len(data), start + elapsed
    if total is not None and len(data) < total:  # http.client says nothing of this in `read1`
        raise OSError(f"broke off after {len(data)} of {total} bytes")
    return bytes(data)


def request(url, timeout, **headers):
    """An open response. A fresh opener each time: proxies are read from the environment of now."""
    ask = urllib.request.Request(url, headers={"User-Agent": "scratchgan", **headers})
    return urllib.request.build_opener().open(ask, timeout=timeout)


def reachable(urls, seconds):
    """Whether any of the gzip files at `urls` begins to arrive within `seconds`, all asked at once."""
    try:
        for future in as_completed([background(serves_gzip, url, seconds) for url in urls], timeout=seconds):
            if future.exception() is None and future.result():
                return True
    except TimeoutError:
        pass
    return False


def serves_gzip(url, timeout):
    """Whether the first two bytes at `url` are a gzip file's: a login page in between answers 200, too."""
    try:
        with request(url, timeout, Range="bytes=0-1") as response:
            return response.read(2) == GZIP_MAGIC
    except FAILURES as error:
        close(error)
        return False


def background(function, *arguments):
    """A `Future` of `function(*arguments)` in a daemon thread, which never holds up the end of the program.

    If the future was cancelled meanwhile, a result that can be closed is closed.
    """
    future = Future()

    def work():
        try:
            result, error = function(*arguments), None
        except BaseException as caught:  # handed to whoever waits
            result, error = None, caught
        if not future.set_running_or_notify_cancel():
            close(result)
            close(error)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, daemon=True).start()
    return future


def within(seconds, function, *arguments):
    """`function(*arguments)`, or `TimeoutError` when it takes longer than `seconds`.

    For opening a connection: a socket's time-out covers neither looking up the name nor headers
    that come in drop by drop.
    """
    future = background(function, *arguments)
    try:
        return future.result(seconds)
    except BaseException:  # the time-out, the function's own error, Ctrl-C
        if not future.cancel() and future.exception() is None:  # it came just now, too late
            close(future.result())
        raise


def reason(error, timeout):
    """What went wrong, in a few words; closes the response that an HTTP error carries."""
    close(error)
    if isinstance(error, urllib.error.HTTPError):
        return f"answered {error.code} {error.reason}"
    error = getattr(error, "reason", error)  # a URLError wraps the real one
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def close(thing):
    if hasattr(thing, "close"):
        thing.close()


def check_writable(folder):
    """Complain if `folder` can neither be written to nor made."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise DownloadError(f"{there} is not a folder that can be written to: name another with --data-dir")


def store(path, data):
    """Write a file so that at any moment either all of it is there under its name or nothing is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_file(path, data)
    except OSError as error:
        raise DownloadError(f"{path} cannot be written: {files.reason(error)}") from error
