"""Do the measures of `scratchgan evaluate` put sets into the order that they should have, whatever the seed?

    scratchgan train mlp --data mnist --epochs 5 --out runs/mlp
    scratchgan train dcgan28 --data mnist --epochs 2 --out runs/dcgan28
    python benchmarks/measures.py runs/dcgan28 runs/mlp

Runs are given from the best to the worst. A table of Frechet distance and Parzen windows, 10,000 samples of each set:
test images, training images, the runs, noise; with two seeds, with the features made in batches of another size, and
how long Parzen windows with their search for sigma take. It ends with an error if the Frechet distances are not in
that order, or if the training images' Parzen row is not within a nat of 242.9.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from same_bits import processor

import scratchgan
from scratchgan import data, plots
from scratchgan.metrics import evaluation, parzen
from scratchgan.systems import classifier

N, MEASURES, REAL = 10_000, ("frechet", "parzen"), 242.9


def sets(runs, train, test, seed):
    yield evaluation.seen("test images", test.images)
    real, noise, _ = evaluation.yardsticks(train, N, seed)
    yield real
    for run in runs:
        system = scratchgan.load(run, "cpu")
        yield evaluation.seen(str(run), plots.unit(system.sample(N, seed), system.value_range))
    yield noise


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", type=Path, help="from the best to the worst")
    runs = parser.parse_args().runs
    train, test = (data.load_mnist(split) for split in ("train", "test"))
    validation, found = evaluation.validation_images(train), {}
    for seed, at_once in ((0, 200), (0, 77), (1, 200)):
        classifier.AT_ONCE = at_once
        reference = evaluation.seen("test images", test.images)
        for it in sets(runs, train, test, seed):
            measures = MEASURES if at_once == 200 else MEASURES[:1]
            found.setdefault(it.name, []).append(evaluation.measured(it, reference, validation, measures, seed))
    print(f"{processor()}, {os.cpu_count()} processors, {N:,} samples of each set")
    print(f"{'':<18} {'Frechet distance':>18} {'batches of 77':>14} {'seed 1':>18} {'Parzen':>16} {'seed 1':>16}")
    for name, (one, batches, other) in found.items():
        distances, windows = ([f"{row[key]:.{digits}f} +- {row[f'{key}_se']:.{digits}f}" for row in (one, other)]
                              for key, digits in (("frechet", 4), ("parzen", 1)))
        print(f"{name:<18} {distances[0]:>18} {batches['frechet']:>14.4f} {distances[1]:>18} {windows[0]:>16} "
              f"{windows[1]:>16}")
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
