"""Ctrl-C, SIGTERM, and numbers that are not finite."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny_recipe
from tiny_recipe import RECIPE, metrics, weights

from scratchgan import training
from scratchgan.data import load_digits
from scratchgan.errors import UserError
from scratchgan.optimizers import SGD
from scratchgan.training import checkpoint
from scratchgan.training.stopping import Interrupts


class Send(training.Callback):
    def __init__(self, step, *signals):
        self.step, self.signals, self.ended = step, signals, []

    def on_step(self, run):
        if run.step == self.step:
            for number in self.signals:
                os.kill(os.getpid(), number)

    def on_end(self, run):
        self.ended.append((run.step, run.finished))


@pytest.mark.parametrize("number", Interrupts.SIGNALS)
def test_a_signal_saves_and_stops(begun, data, tmp_path, number, monkeypatch):
    previous = signal.signal(number, signal.default_int_handler)
    try:
        whole, send, out = begun(20), Send(7, number), tmp_path / "a run"
        with pytest.raises(training.Stopped) as stopped:
            training.start("tiny", data, out, device="cpu", steps=20, log_every=5, checkpoint_every=5,
                           callbacks=[send])
        assert str(stopped.value) == f"Stopped at step 7; continue with: scratchgan train --resume '{out}'"
        assert stopped.value.signal == number and send.ended == [(7, False)]
        assert checkpoint.found(out / "checkpoints")[-1][0] == 7
        assert signal.getsignal(number) is signal.default_int_handler
        training.resume(out, lambda config: data)
        assert weights(whole) == weights(out) and metrics(whole) == metrics(out)
    finally:
        signal.signal(number, previous)


def test_a_second_signal_aborts_at_once(data, tmp_path):
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        send = Send(7, signal.SIGINT, signal.SIGINT)
        said = []
        with pytest.raises(training.Stopped, match=r"^Interrupted at step 7, the newest checkpoint is of step 5; co"):
            training.start("tiny", data, tmp_path / "run", device="cpu", steps=20, checkpoint_every=5,
                           callbacks=[send], announce=said.append)
        assert said == ["Stopping soon; once more stops at once, and loses what was not saved."]
        assert checkpoint.found(tmp_path / "run" / "checkpoints")[-1][0] == 5 and send.ended == []
    finally:
        signal.signal(signal.SIGINT, previous)


def test_a_second_signal_while_callbacks_end(data, tmp_path):
    class End(Send):
        def on_end(self, run):
            signal.raise_signal(signal.SIGINT)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(training.Stopped, match=r"^Interrupted at step 7; continue with: "):
            training.start("tiny", data, tmp_path / "run", device="cpu", steps=20, callbacks=[End(7, signal.SIGINT)])
    finally:
        signal.signal(signal.SIGINT, previous)


def test_a_signal_in_the_last_step_comes_too_late(data):
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert len(training.fit(RECIPE.build(), data, 7, log_every=7, callbacks=[Send(7, signal.SIGINT)])) == 1
        with pytest.raises(training.Stopped, match=r"^Stopped at step 6\.$"):
            training.fit(RECIPE.build(), data, 7, callbacks=[Send(6, signal.SIGINT)])
    finally:
        signal.signal(signal.SIGINT, previous)


def test_ignored_signals_stay_ignored_and_other_threads_train(data):
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert training.fit(RECIPE.build(), data, 7, callbacks=[Send(3, signal.SIGINT)])[-1]["step"] == 7
    finally:
        signal.signal(signal.SIGINT, previous)
    found = []
    thread = threading.Thread(target=lambda: found.append(training.fit(RECIPE.build(), data, 3)))
    thread.start()
    thread.join()
    assert found[0][-1]["step"] == 3


def test_ctrl_c_from_outside(tmp_path):
    """A signal that arrives between any two instructions of a real process."""
    child = os.path.join(os.path.dirname(tiny_recipe.__file__), "child.py")
    code = ("import signal, sys, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')")
    paths = os.pathsep.join([os.path.dirname(child), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen([sys.executable, "-c", code, child, tmp_path / "run", "5000", "0", "0", "2"],
                          cwd=os.path.dirname(child), env={**os.environ, "PYTHONPATH": paths},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "step 9":
                break
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    last = errors.strip().splitlines()[-1]
    step = checkpoint.found(tmp_path / "run" / "checkpoints")[-1][0]
    assert 9 <= step < 5000
    folder = shlex.quote(str(tmp_path / "run"))
    assert last.endswith(f"Stopped at step {step}; continue with: scratchgan train --resume {folder}")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminals here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_terminal_that_is_closed(tmp_path):
    """Its lines go nowhere any more, and the run is saved all the same."""
    import pty
    out = tmp_path / "run"
    pid, terminal = pty.fork()
    if not pid:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever these tests were started with
        os.execv(sys.executable, [sys.executable, "-m", "scratchgan", "train", "--data", "digits", "--steps", "1000000",
                                  "--log-every", "1", "--out", str(out)])
    seen = b""
    while b"Ctrl-C stops it" not in seen:
        seen += os.read(terminal, 1000)
    os.close(terminal)  # the system tells the session whose terminal it was
    ended = time.monotonic() + 60
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < ended:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)  # which is nothing to one that has ended
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    assert checkpoint.found(out / "checkpoints")[-1][0] > 0


# -- divergence ----------------------------------------------------------------------------------------------------


class Poison(training.Callback):
    """Puts what is not finite somewhere."""

    def __init__(self, step, where, value=np.nan):
        self.step, self.where, self.value = step, where, value

    def on_step(self, run):
        if run.step == self.step:
            self.where(run)[0] = self.value


@pytest.mark.parametrize("where, name", [
    (lambda run: run.system.discriminator.theta, "the weights of discriminator|loss_d was"),
    (lambda run: run.system.optimizer_g.state["v"], "the (weights|optimizer's state) of generator"),
    (lambda run: run.system.generator[0].buffers["mean"], "the buffers of generator")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_ends_the_run_at_the_last_good_state(data, tmp_path, begun, where, name, value):
    good = begun(6, log_every=3)
    system = RECIPE.build()
    system.generator[0].buffers["mean"] = np.zeros(3, np.float32)
    if "buffers" not in name:
        del system.generator[0].buffers["mean"]
    with pytest.raises(training.Diverged, match=f"^Training diverged: ({name}).* back at step 6, the last good state, "
                                                "saved in .*step-00000006; start again"):
        training.fit(system, data, 20, tmp_path / "out", [Poison(8, where, value)], log_every=3, checkpoint_every=5)
    assert system.steps == 6
    assert [step for step, _ in checkpoint.found(tmp_path / "out" / "checkpoints")] == [0, 5, 6]
    assert np.isfinite(system.generator.theta).all() and np.isfinite(system.discriminator.theta).all()
    if "buffers" not in name:
        assert weights(tmp_path / "out") == weights(good)
    assert [row["step"] for row in metrics(tmp_path / "out")] == ["3", "6"]


def test_no_checkpoint_is_made_of_a_bad_state(data, tmp_path):
    """Checkpoints are more frequent than log intervals here."""
    system = RECIPE.build()
    with pytest.raises(training.Diverged, match="back at step 4"):
        training.fit(system, data, 20, tmp_path / "out", [Poison(5, lambda run: run.system.generator.theta)],
                     log_every=10, checkpoint_every=2)
    assert [step for step, _ in checkpoint.found(tmp_path / "out" / "checkpoints")] == [0, 2, 4]
    state = json.loads((tmp_path / "out" / "checkpoints" / "step-00000004" / "state.json").read_text())
    assert len(state["pending"]) == 4


def test_a_real_game_that_blows_up(device, data, tmp_path):
    """Every warning of NumPy is an error here: none may come out."""
    system = tiny_recipe.make(0, device, 8, 1e3, optimizer_d=lambda D: SGD(D, 1e30))
    with pytest.raises(training.Diverged, match=r"was (nan|inf|-inf) at step \d+; the system is back at step 0"):
        training.fit(system, data, 50, tmp_path / "out", log_every=10)
    assert system.steps == 0 and system.optimizer_g.state == {} and system.optimizer_g.steps == 0
    assert checkpoint.found(tmp_path / "out" / "checkpoints")[-1][0] == 0
    assert not (tmp_path / "out" / "metrics.csv").exists()
    fresh = tiny_recipe.make(0, device, 8, 1e3, optimizer_d=lambda D: SGD(D, 1e30))
    assert system.generator.theta.tobytes() == fresh.generator.theta.tobytes()


def test_the_threads_among_which_a_step_is_split_do_not_warn_either():
    with pytest.raises(training.Diverged):
        training.start("mlp", load_digits(), settings={"lr_d": 1e12, "lr_g": 1e12}, device="cpu", batch_size=64,
                       steps=30, log_every=10, threads=2)


def test_a_system_that_is_bad_from_the_start(data):
    system = RECIPE.build()
    system.generator.theta[0] = np.nan
    with pytest.raises(UserError, match="cannot be trained: the weights of generator"):
        training.fit(system, data, 5)
