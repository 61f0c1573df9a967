"""Do the measures of `scratchgan evaluate` put sets into the order that they should have, whatever the seed?

    scratchgan train mlp --data mnist --epochs 5 --out runs/mlp
    scratchgan train dcgan28 --data mnist --steps 1000 --out runs/dcgan28
    python benchmarks/measures.py runs/dcgan28 runs/mlp

Runs are given from the best to the worst. A table of Frechet distance and Parzen windows, 10,000 samples of each set:
test images, training images, the runs, noise; with two seeds, with the features made in batches of another size, and
how long Parzen windows with their search for sigma take. It ends with an error if the Frechet distances are not in
that order, or the training images' Parzen row is not within a nat of 242.9. The error of that of Parzen windows is
the larger of the published one, over the test images, and the one over draws of the samples.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from same_bits import processor

import scratchgan
from scratchgan import data, plots
from scratchgan.metrics import measures, parzen
from scratchgan.systems import classifier

N, MEASURES, REAL = 10_000, ("frechet", "parzen"), 242.9


def sets(runs, train, test, seed):
    yield measures.seen("test images", test.images)
    real, noise, _ = measures.yardsticks(train, N, seed)
    yield real
    for run in runs:
        system = scratchgan.load(run, "cpu")
        yield measures.seen(str(run), plots.unit(system.sample(N, seed), system.value_range))
    yield noise


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", type=Path, help="from the best to the worst")
    runs = parser.parse_args().runs
    train, test = (data.load_mnist(split) for split in ("train", "test"))
    validation, found = measures.validation_images(train), {}
    for seed, at_once in ((0, 200), (0, 77), (1, 200)):
        classifier.AT_ONCE = at_once
        reference = measures.seen("test images", test.images)
        for it in sets(runs, train, test, seed):
            chosen = MEASURES if at_once == 200 else MEASURES[:1]
            found.setdefault(it.name, []).append(measures.measured(it, reference, validation, chosen, seed))
    print(f"{processor()}, {os.cpu_count()} processors, {N:,} samples of each set")
    wide = max(map(len, found))
    print(f"{'':<{wide}} {'Frechet distance':>17} {'batches of 77':>13} {'seed 1':>17} {'Parzen':>14} {'seed 1':>14}")
    for name, (one, batches, other) in found.items():
        distances = [f"{row['frechet']:.4f} +- {row['frechet_se']:.4f}" for row in (one, other)]
        windows = [f"{row['parzen']:.1f} +- {max(row['parzen_se'], row['parzen_draw_se']):.1f}" for row in (one, other)]
        print(f"{name:<{wide}} {distances[0]:>17} {batches['frechet']:>13.4f} {distances[1]:>17} {windows[0]:>14} "
              f"{windows[1]:>14}")
    pixels, begun = test.images / np.float32(255), (time.perf_counter(), time.process_time())
    parzen(pixels, pixels, validation)
    seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    print(f"Parzen windows with their search for sigma: {seconds[0]:.1f} s, {seconds[1]:.1f} of one processor")
    for i in (0, 2):
        distances = [rows[i]["frechet"] for rows in found.values()]
        assert distances == sorted(distances), distances
        assert abs(found["training images"][i]["parzen"] - REAL) < 1


if __name__ == "__main__":
    main()
