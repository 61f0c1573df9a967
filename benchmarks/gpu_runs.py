"""The stages `epochs` and `stacked` of `gpu_day.sh`: whole runs, as a user makes them."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np

EPOCHS, PER_EPOCH = 101, 938  # of `mlp`, whose batches are of 64
SECONDS = 30                  # of a run of epochs
TRAINING, MOST = 120, 200_000  # of a run of `stacked`, and its steps at most
JUDGED = 26_000               # samples, as published


def timed_run(recipe, data, steps, out=None, callbacks=(), **more):
    """(the run, seconds)."""
    from scratchgan import training
    start = time.perf_counter()
    run = training.start(recipe, data, out, device="cuda", steps=steps, callbacks=callbacks, announce=print, **more)
    return run, time.perf_counter() - start


def epochs_stage(short):
    """Epochs of `mlp` on bytes shaped as MNIST's, with the pictures and checkpoints of `scratchgan train`."""
    from scratchgan import report
    images = np.random.default_rng(0).integers(0, 256, (640 if short else 60_000, 1, 28, 28), np.uint8)
    per_epoch, small = (10, {"z_dim": 4, "widths_g": (8,), "widths_d": (8,)}) if short else (PER_EPOCH, {})

    all_steps = EPOCHS * per_epoch
    every = {"log_every": report.default_log_every(all_steps, "cuda"),
             "sample_every": report.default_sample_every(all_steps, per_epoch),
             "checkpoint_every": report.default_checkpoint_every(all_steps)}  # as `scratchgan train` has them

    def train(epochs, folder, steps=None):
        steps = steps or epochs * per_epoch
        return timed_run("mlp", images, steps, Path(folder, f"{epochs}-{steps}"), [report.Pictures()], settings=small,
                         **every)

    with tempfile.TemporaryDirectory() as folder:
        _, first = train(0, folder, per_epoch // 4)
        print(f"{per_epoch // 4} steps with all that is compiled: {first:.2f} s", flush=True)
        _, one = train(1, folder)
        print(f"1 epoch, {per_epoch} steps: {one:.2f} s", flush=True)
        count = 2 if short else max(2, min(EPOCHS, int(SECONDS / one)))
        run, many = train(count, folder)
        rate = (many - one) / (count - 1)
        print(f"{count} epochs, {run.step} steps: {many:.2f} s; {rate:.3f} s an epoch, "
              f"{1e6 * rate / per_epoch:.0f} us a step, pictures and checkpoints included\n{EPOCHS} epochs: "
              + (f"{many:.2f} s, measured" if count == EPOCHS else f"{one + rate * (EPOCHS - 1):.1f} s, extrapolated"))
        row = run.history[-1]
        print({name: round(float(value), 4) for name, value in row.items()})
        made = sorted({path.suffix for path in Path(folder).rglob("*") if path.is_file()})
        print(f"files of the kinds {', '.join(made)}")
    return all(np.isfinite(float(value)) for value in row.values())


def stacked_stage(short):
    """The recipe `stacked` for as many steps as the time allows; modes and KL of 26,000 samples of G's average."""
    folder = os.environ.get("SCRATCHGAN_DATA")
    if not folder or not Path(folder, "mnist").is_dir():
        print("SCRATCHGAN_DATA does not name a folder with mnist/ in it, which must be carried there: left out")
        return True
    from scratchgan import data
    from scratchgan.metrics import stacked
    from scratchgan.system import unit
    source = data.load("stacked", folder)
    more = {"settings": {"z_dim": 4, "width": 2}} if short else {}
    few, many = (2, 4) if short else (400, 2000)
    timed_run("stacked", source, few, **more)  # compiles
    (_, start), (_, end) = (timed_run("stacked", source, steps, **more) for steps in (few, many))
    each = max(1e-6, (end - start) / (many - few))
    steps = 4 if short else max(200, min(MOST, int(TRAINING / each) // 1000 * 1000))
    print(f"{1e3 * each:.2f} ms a step: {steps} steps are made", flush=True)
    run, seconds = timed_run("stacked", source, steps, log_every=max(1, steps // 5), **more)
    for row in run.history:
        print({name: round(float(value), 4) for name, value in row.items()})
    start = time.perf_counter()
    samples = unit(run.system.sample(60 if short else JUDGED), run.system.value_range)
    found = stacked.of_stacked(stacked.judged(samples, "cuda"))
    print(f"{steps} steps, {seconds:.1f} s, {1e3 * seconds / steps:.2f} ms a step; {len(samples)} samples judged "
          f"in {time.perf_counter() - start:.1f} s\nmodes {found['modes']} +- {found['modes_se']:.0f}, KL "
          f"{found['kl']:.4f} +- {found['kl_se']:.4f}, sure {found['sure']:.3f} +- {found['sure_se']:.3f}")
    return all(np.isfinite(value) for value in found.values())
