"""Warnings that a person needs while a run goes on."""

from collections import Counter

import numpy as np

from scratchgan.training.callbacks import Callback

EXAMPLES = 64  # of the data, whose standard deviation that of the samples is compared with


class Watch(Callback):
    """Says what the system warns of (`System.warnings`), each in one line and once an episode.

    A warning must hold for `patience` log intervals in a row; an episode ends with the first interval where it does
    not. The row given to the system has "sample_std" besides: the standard deviation of each number of a sample over
    `samples` samples, averaged, as a share of that of the data; missing where the system makes no samples, where the
    data are all the same, and where they are a pair.

    Numbers that are not finite are no matter of warnings: they end a run (`Diverged`), watched or not.
    """

    def __init__(self, patience=3, samples=16):
        self.patience, self.samples = patience, samples

    def on_start(self, run):
        self.times = Counter()  # warning -> intervals in a row
        examples = run.examples(EXAMPLES)
        comparable = run.system.makes_samples and not isinstance(examples, tuple)
        self.data_std = standard_deviation(examples) if comparable else 0
        for row in run.history:  # of before, where the run is resumed
            run.system.warnings(row)

    def on_log(self, run, row):
        if self.data_std:
            row = {**row, "sample_std": standard_deviation(run.system.sample(self.samples)) / self.data_std}
        told = list(run.system.warnings(row))
        self.times = Counter({warning: self.times[warning] + 1 for warning in told})
        for warning in told:
            if self.times[warning] == self.patience:
                run.announce(f"Warning at step {run.step}: {warning}.")


def standard_deviation(examples):
    """That of each number over a few examples, averaged over the numbers; exactly 0 where they are all the same."""
    return float(np.std(examples - examples[:1], axis=0).mean())
