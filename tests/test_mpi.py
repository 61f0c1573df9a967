"""Processes that mpiexec has started: `scratchgan train` and `fit`, killed, interrupted and resumed."""

import importlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import scratchgan
from scratchgan import training
from scratchgan.training import checkpoint, witness

pytest.importorskip("mpi4py")
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")

SYSTEM = """
import sys
import numpy as np
import scratchgan
from scratchgan import ranks, recipes, training

ranks.PATIENCE = 0.5
def system(seed=0):
    system = recipes.get("dcgan28").build(seed, **recipes.get("dcgan28").small)
    for network in system.networks.values():
        network.to(dtype="float64")
    return system
images = np.random.default_rng(0).integers(0, 256, (21, 1, 28, 28), np.uint8)  # an epoch: 9, 9 and 3, which is left out
"""
RUN = {"batch_size": 9, "log_every": 2, "checkpoint_every": 2, "drop_last": True, "sync_bn": True}


def started(ranks, *arguments, **more):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen([MPIEXEC, "-n", str(ranks), sys.executable, *map(str, arguments)], env=environment,
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def ended(process):
    """(status, standard output, standard error)"""
    try:
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()  # where it hangs
    return process.returncode, out, err


def fitted(ranks, code):
    status, out, err = ended(started(ranks, "-c", SYSTEM + code))
    assert status == 0, err
    return out


def distance(one, other):
    """Of the newest checkpoints of two runs: the largest of weights and buffers."""
    a, b = (checkpoint.newest(path / "checkpoints", print)[0] for path in (one, other))
    assert a.step == b.step and a.arrays.keys() == b.arrays.keys()
    return max(float(np.abs(a.arrays[name][key] - b.arrays[name][key]).max(initial=0))
               for name in a.arrays for key in a.arrays[name] if name != "optimizers")


def test_runs_of_any_number_of_ranks_are_one_run(tmp_path):
    """One process, 6 steps; two processes, 2 steps, resumed by three up to 4 and by one up to 6.

    Each builds the system from a seed of its own: that of the first counts.
    """
    settings = {}
    exec(SYSTEM, settings)
    one = scratchgan.fit(settings["system"](), settings["images"], 6, tmp_path / "one", announce=None, **RUN)
    out = tmp_path / "several"
    for ranks, steps in ((2, 2), (3, 4)):
        fitted(ranks, f"scratchgan.fit(system(ranks.joined().rank), images, {steps}, {str(out)!r}, "
                      f"resume={ranks == 3}, announce=print, **{RUN if ranks == 2 else {}})")
    several = scratchgan.fit(settings["system"](), settings["images"], 6, out, resume=True, announce=None)
    assert distance(tmp_path / "one", out) < 1e-10
    assert [row["step"] for row in several] == [2, 4, 6]
    for row, its in zip(one, several, strict=True):
        assert row.keys() == its.keys()
        assert all(abs(row[key] - its[key]) < 1e-9 for key in row if key not in ("images_per_second", "seconds"))


def test_train_with_two_processes_says_once_what_it_does(tmp_path):
    importlib.import_module("matplotlib.font_manager")  # now its cache is there: who has to build it says so
    common = "-m", "scratchgan", "train", "dcgan28", "--data", "digits", "--batch-size", 8, "--seed", 1, "--ngf", 2, \
        "--ndf", 2, "--device", "cpu"
    status, out, err = ended(started(2, *common, "--steps", 2, "--log-every", 1, "--out", tmp_path / "run"))
    assert (status, err) == (0, "")
    assert out.count("2 processes share each batch of 8, threads: ") == 1
    assert out.count("(BatchNorm2d); --sync-bn takes batch normalisation's of the whole batch.") == 1
    assert out.count("done: 2 steps") == 1 and len(list((tmp_path / "run" / "samples").iterdir())) > 1
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["ranks"] == 2 and config["sync_bn"] is False

    status, out, err = ended(started(2, *common, "--steps", 2, "--out", tmp_path / "run"))
    assert status == 2 and out == "" and err.count("already holds a run") == 1
    run = training.resume(tmp_path / "run", lambda config: scratchgan.data.load("digits", size=28), steps=3,
                          announce=None)
    assert run.step == 3 and json.loads((tmp_path / "run" / "config.json").read_text())["ranks"] == 1


def test_a_batch_that_is_too_small_is_refused():
    status, _, err = ended(started(2, "-m", "scratchgan", "train", "dcgan28", "--data", "digits", "--batch-size", 3,
                                   "--out", "nowhere"))
    assert (status, err) == (2, "scratchgan: error: The system does not take a batch of 3 examples: 2 processes share "
                                "it, and each needs 2 or more; start fewer.\n")


@pytest.mark.parametrize(("code", "said"), [
    ("out = 'taken'", "process 0 of 2: taken already holds a run"),
    ("images = images + np.uint8(ranks.joined().rank)", "process 1 of 2: The data are not those of process 0: array")])
def test_an_error_in_one_process_before_the_first_step_ends_all(tmp_path, code, said):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.json").touch()
    status, _, err = ended(started(2, "-c", SYSTEM + f"out = None\n{code}\nscratchgan.fit(system(), images, 3, out)",
                                   cwd=tmp_path))
    assert status and f"scratchgan: error: {said}" in err  # 2, or that of one that mpiexec ended


def test_an_error_in_one_process_ends_all(tmp_path):
    status, _, err = ended(started(2, "-c", SYSTEM + f"""
class Failing(type(system())):
    def step(self, batch, labels=None):
        if self.steps == 5 and ranks.joined().rank == 1:
            raise RuntimeError("the disk is on fire")
        return super().step(batch, labels)
game = system()
game.__class__ = Failing
scratchgan.fit(game, images, 100, {str(tmp_path / "run")!r}, announce=None, **{RUN})
"""))
    assert status and "scratchgan: error: process 1 of 2: the disk is on fire" in err
    folder = shlex.quote(str(tmp_path / "run"))
    assert f"continue from step 4 with: mpiexec -n 2 scratchgan train --resume {folder}" in err


def test_all_stop_where_one_has_a_number_that_is_not_finite(tmp_path):
    out = fitted(2, f"""
class Failing(type(system())):
    def step(self, batch, labels=None):
        metrics = super().step(batch, labels)
        wrong = self.steps == 4 and ranks.joined().rank == 1
        return scratchgan.system.Metrics({{**metrics, **({{"loss_d": float("inf")}} if wrong else {{}})}})
game = system()
game.__class__ = Failing
try:
    scratchgan.fit(game, images, 100, {str(tmp_path / "run")!r}, announce=None, **{RUN})
except training.Diverged as error:
    print(game.steps, str(error).partition(";")[0])
""")
    assert out.splitlines() == ["2 Training diverged: loss_d was inf at step 4"] * 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_killed_and_a_run_that_is_stopped(tmp_path, number):
    process = started(2, "-m", "scratchgan", "train", "mlp", "--data", "digits", "--steps", 100_000, "--out",
                      tmp_path / "run", "--checkpoint-every", 5, "--log-every", 1000, "--sample-every", 1000)
    checkpoints, end = tmp_path / "run" / "checkpoints", time.monotonic() + 60
    while not (checkpoints / "step-00000010").exists() and time.monotonic() < end:
        time.sleep(0.05)
    if number == signal.SIGKILL:
        os.kill(int(child_of(process.pid, rank=1)), number)
    else:
        process.send_signal(number)
    status, out, err = ended(process)
    newest = max(int(path.name[5:]) for path in checkpoints.iterdir() if path.name[0] != ".")
    again = f"with: mpiexec -n 2 scratchgan train --resume {shlex.quote(str(tmp_path / 'run'))}"
    assert status and newest >= 10 and f"If a process dies, all end; then go on {again}" in out
    if number == signal.SIGINT:  # a process that is killed ends mpiexec, and with it the way of what is said then
        assert f"Stopped at step {newest}; continue {again}" in err


def test_the_witness_of_a_process_that_died(tmp_path):
    (tmp_path / "my run" / "checkpoints" / "step-00000010").mkdir(parents=True)
    for word, said in (("done", ""), ("", "a process of the run has died; continue from step 10 with: mpiexec -n 3 "
                                         f"scratchgan train --resume '{tmp_path / 'my run'}'")):
        done = subprocess.run([sys.executable, "-I", witness.__file__, tmp_path / "my run", "3"], input=word, text=True,
                              capture_output=True, check=True)
        assert said in done.stderr and bool(said) == bool(done.stderr)


def child_of(pid, rank):
    """The process of this rank that an mpiexec has started: a descendant of it with that in its environment."""
    from pathlib import Path
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
            parents, parent = [], path.name
            while parent not in ("0", "1"):
                parent = (Path("/proc") / parent / "stat").read_text().rpartition(")")[2].split()[1]
                parents.append(parent)
        except OSError:
            continue
        if str(pid) in parents and f"PMI_RANK={rank}".encode() in environment:
            return path.name
    raise LookupError(f"no process of rank {rank} below {pid}")
