"""Kill a training 20 times, resume it each time, and compare the end with that of a training left alone.

    python benchmarks/kill_resume.py [--seed 0] [--steps 120]

The recipe mlp on the bundled digits, a checkpoint every 6 steps, metrics every 7. Half of the processes are killed
(SIGKILL) at a random time of their training, half at a random one of the calls that put a checkpoint
on the disk. Compared are the bytes of the weights and of the optimizers' state, the rest of the state, and
metrics.csv, times apart. Ends with status 1 if anything differs. Takes two to five minutes on two cores.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOMENTS = 20
TIMES = "images_per_second", "seconds"


# -- the process that is killed --------------------------------------------------------------------------------------


def child(out, steps, resumed, call):
    from scratchgan import training
    from scratchgan.data import load_digits

    class Tell(training.Callback):
        def on_start(self, run):
            print(f"resumed at {run.step}" if run.step else "started", flush=True)

        def on_step(self, run):
            print(run.step, flush=True)

    if call:
        kill_at(call)
    data = load_digits()
    if resumed:
        training.resume(out, lambda config: data, callbacks=[Tell()])
    else:
        training.start("mlp", data, out, device="cpu", steps=steps, log_every=7, checkpoint_every=6,
                       callbacks=[Tell()])


def kill_at(number):
    """Make this process kill itself at its n-th call of a function that changes what is on the disk for good."""
    calls = [0]

    def counting(original):
        def counted(*arguments, **options):
            calls[0] += 1
            if calls[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)
        return counted

    for name in ("fsync", "rename", "replace", "rmdir", "unlink"):
        setattr(os, name, counting(getattr(os, name)))


def run(out, steps, resumed=False, call=0, after=None):
    """Train in a process of its own, kill it `after` seconds of training; returns its status and its lines."""
    command = [sys.executable, __file__, "--child", str(out), str(int(resumed)), str(call), "--steps", str(steps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline().strip()]
        if after is not None:
            time.sleep(after)
            process.kill()
        lines += process.stdout.read().split("\n")[:-1]
    return process.returncode, lines


# -- the comparison --------------------------------------------------------------------------------------------------


def outcome(out):
    """(weights and optimizers as bytes and the state, metrics) of a run, times apart."""
    path = sorted((out / "checkpoints").glob("step-*"))[-1]
    files = {file.name: file.read_bytes() for file in path.iterdir()}
    state = json.loads(files.pop("state.json"))
    del state["seconds"]
    with open(out / "metrics.csv", newline="") as file:
        rows = [{name: cell for name, cell in row.items() if name not in TIMES} for row in csv.DictReader(file)]
    return (path.name, files, state), rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--child", nargs=3, metavar=("OUT", "RESUMED", "CALL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        out, resumed, call = options.child
        return child(out, options.steps, int(resumed), int(call))

    chance, began = random.Random(options.seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole")
        status, _ = run(whole, options.steps)
        assert status == 0, "the uninterrupted training failed"
        with open(whole / "metrics.csv", newline="") as file:
            duration = float(list(csv.DictReader(file))[-1]["seconds"])
        expected = outcome(whole)
        calls = 12 * (options.steps // 6)  # a run has a few more
        print(f"{'killed':<28}{'steps done':>10}{'resumed at':>12}{'half written':>14}{'weights':>10}{'metrics':>10}")
        same = 0
        for index in range(MOMENTS):
            out = Path(folder, f"run-{index}")
            if index % 2:
                moment = {"call": chance.randrange(10, calls)}
                words = f"at call {moment['call']} to the disk"
            else:
                moment = {"after": chance.uniform(0, 0.7 * duration)}  # a machine is not always equally fast
                words = f"after {moment['after']:.3f} s of training"
            status, lines = run(out, options.steps, **moment)
            assert status == -signal.SIGKILL, f"not killed {words}: status {status}"
            done = lines[-1] if lines[-1].isdigit() else "0"
            half = ", ".join(path.name.split(".")[-1] for path in (out / "checkpoints").glob(".step-*")) or "-"
            status, lines = run(out, options.steps, resumed=True)
            assert status == 0, f"resuming failed: {words}"
            weights, metrics = (got == wanted for got, wanted in zip(outcome(out), expected, strict=True))
            same += weights and metrics
            at = lines[0].removeprefix("resumed at ")
            print(f"{words:<28}{done:>10}{at if at.isdigit() else '-':>12}{half:>14}"
                  f"{'equal' if weights else 'DIFFER':>10}{'equal' if metrics else 'DIFFER':>10}", flush=True)
    print(f"{same} of {MOMENTS} equal to the uninterrupted training of {options.steps} steps, to the bit; "
          f"{time.perf_counter() - began:.0f} s in all")
    return int(same != MOMENTS)


if __name__ == "__main__":
    sys.exit(main())
