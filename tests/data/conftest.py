"""No test here reaches beyond this machine: mirrors are servers on 127.0.0.1, folders are temporary."""

import gzip
import hashlib
import http.server
import socket
import threading
import time

import numpy as np
import pytest
from idx_files import idx_bytes

from scratchgan.data import mnist


@pytest.fixture
def dead_url():
    """The address of a port on which nobody listens, and which nobody else is given meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path, dead_url):
    """No MNIST of this machine's is seen and no mirror answers, unless a test says so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SCRATCHGAN_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(mnist, "MIRRORS", (dead_url, dead_url + "second/"))


class Tiny:
    """A small set of files in MNIST's place: `arrays`, `content` and `packed` by file name."""

    def __init__(self):
        rng = np.random.default_rng(0)
        shapes = {
            "train-images-idx3-ubyte": (6, 5, 5),
            "train-labels-idx1-ubyte": (6,),
            "t10k-images-idx3-ubyte": (3, 5, 5),
            "t10k-labels-idx1-ubyte": (3,),
        }
        self.arrays = {
            file: rng.integers(0, 256 if len(shape) == 3 else 10, shape).astype(np.uint8)
            for file, shape in shapes.items()
        }
        self.content = {file: idx_bytes(array) for file, array in self.arrays.items()}
        self.packed = {file: gzip.compress(content, mtime=0) for file, content in self.content.items()}

    def write(self, folder, compressed=True):
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.content:
            if compressed:
                (folder / f"{file}.gz").write_bytes(self.packed[file])
            else:
                (folder / file).write_bytes(self.content[file])
        return folder


@pytest.fixture
def tiny(monkeypatch):
    tiny = Tiny()
    files = {
        file: (array.shape, hashlib.sha256(tiny.content[file]).hexdigest())
        for file, array in tiny.arrays.items()
    }
    monkeypatch.setattr(mnist, "FILES", files)
    return tiny


class Server(http.server.ThreadingHTTPServer):
    """Serves `/BEHAVIOUR/FILE` by the method of `Handler` that is called so."""

    def __init__(self, packed):
        super().__init__(("127.0.0.1", 0), Handler)
        self.packed = {f"{file}.gz": data for file, data in packed.items()}
        self.log = []
        self.over = threading.Event()

    def url(self, behaviour):
        return f"http://127.0.0.1:{self.server_port}/{behaviour}/"

    def handle_error(self, request, client_address):
        pass  # clients that hang up are what these tests are about


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        _, behaviour, file = self.path.split("/")
        self.server.log.append(f"{behaviour}/{file}")
        getattr(self, behaviour)(self.server.packed[file], file)

    def head(self, length, status=200, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def good(self, data, file):
        self.head(len(data))
        self.wfile.write(data)

    def unpacked(self, data, file):
        self.good(gzip.decompress(data), file)

    def forbidden(self, data, file):
        self.head(4, 403)
        self.wfile.write(b"none")

    def moved(self, data, file):
        self.head(0, 302, Location=self.server.url("good") + file)

    def circling(self, data, file):
        self.head(0, 302, Location=self.server.url("circling") + file)

    def cut(self, data, file):
        self.head(len(data))
        self.wfile.write(data[:20])

    def altered(self, data, file):
        content = bytearray(gzip.decompress(data))
        content[-1] ^= 1
        self.good(gzip.compress(content), file)

    def corrupt(self, data, file):
        self.good(data[:15] + bytes(b ^ 0xFF for b in data[15:]), file)

    def login_page(self, data, file):
        self.good(b"<html>please sign in</html>", file)

    def empty(self, data, file):
        self.head(0)

    def endless(self, data, file):
        self.send_response(200)
        self.end_headers()
        while not self.server.over.is_set():
            self.wfile.write(bytes(1 << 16))

    def silent(self, data, file):
        self.server.over.wait(10)

    def stalled(self, data, file):
        self.head(len(data))
        self.wfile.write(data[:20])
        self.server.over.wait(10)

    def dripping(self, data, file):
        self.head(10000)
        self.drip(b"x")

    def dripping_headers(self, data, file):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        self.drip(b"X-Wait: yes\r\n")

    def drip(self, drop):
        while not self.server.over.is_set():
            self.wfile.write(drop)
            time.sleep(0.02)


@pytest.fixture
def server(tiny):
    with Server(tiny.packed) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()
