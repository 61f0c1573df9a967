"""The command line where standard output or error are not as usual, and as a process."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TINY

from scratchgan import training
from scratchgan.cli import main

pytestmark = pytest.mark.usefixtures("alone")


class Stream:
    """As a host may put in the place of stdout or stderr: no reconfigure, no isatty, no encoding."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


class WriteOnly:
    """With `write` and nothing else."""

    text = ""

    def write(self, text):
        self.text += text


@pytest.mark.parametrize("command", [["recipes"], ["recipes", "mlp"], ["info"], ["gradcheck", "Tanh"], ["data", "list"],
                                     ["--help"], ["--version"]])
def test_another_stdout(command, monkeypatch):
    for stream in (Stream(), WriteOnly()):
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(command) == 0 and len(stream.text) > 10
    monkeypatch.setattr(sys, "stdout", None)
    assert main(command) == 0


@pytest.mark.parametrize("stream", [Stream(), WriteOnly(), None])
def test_training_without_a_terminal(stream, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    assert main([*TINY, "--out", "run", "--preview"]) == 0
    assert main(["train", "--out", "run"]) == 2
    assert stream is None or ("done: 30 steps" in stream.text and "error: run already holds a run" in stream.text)
    assert main(["sample", "run"]) == main(["plot", "run"]) == 0


@pytest.mark.parametrize("close", [">&-", "2>&-", ">&- 2>&-"])
def test_training_with_streams_closed(close):
    command = f"exec {shlex.quote(sys.executable)} -m scratchgan {' '.join(TINY)} --out run {close}"
    assert subprocess.run(command, shell=True, capture_output=True, check=False, timeout=60).returncode == 0
    assert training.RunFolder.open("run").rows()[-1]["step"] == 30


def test_a_reader_that_goes_does_not_end_a_training():
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run([sys.executable, "-m", "scratchgan", *TINY, "--out", "run"], stdout=theirs, check=False,
                          stderr=subprocess.PIPE, timeout=60)
    os.close(theirs)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert training.RunFolder.open("run").rows()[-1]["step"] == 30


# -- as a process --------------------------------------------------------------------------------------------------


def test_python_m_scratchgan():
    code = "import sys, scratchgan.cli; scratchgan.cli.main(['--help']); sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
    done = subprocess.run([sys.executable, "-m", "scratchgan", "train", "--lr", "-1"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and done.stderr.startswith("scratchgan: error: --lr must") and not done.stdout


def test_the_console_script_and_a_pipe_that_nobody_reads():
    script = Path(sys.executable).with_name("scratchgan")
    if not script.exists():
        pytest.skip("the package is not installed beside this Python")
    # Closed before anything is written: the first flush fails, whatever the size of the pipe.
    ours, theirs = os.pipe()
    os.close(ours)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([script, "recipes"], stdout=theirs, stderr=subprocess.PIPE, env=buffered, check=False)
    os.close(theirs)
    assert done.returncode == 141 and done.stderr == b""
