"""Evaluations: the samples of a system, measured while it trains, and the checkpoint that is the best by a figure.

    RUN/evaluations.jsonl      a line for each: {"step", "epoch", "n", "seed", "against", "against_sha256", "net", each
                               figure and its standard error "..._se"}, as `scratchgan evaluate --json` has them

An evaluation changes nothing of the training: samples have noise of their own, a function of a seed.
"""

import math

import numpy as np

from scratchgan import data
from scratchgan.errors import UserError
from scratchgan.metrics import feature_record
from scratchgan.metrics.measures import MEASURES, measured, seen, validation_images
from scratchgan.settings import Kind, whole
from scratchgan.system import Panel, unit

# The measures, each with those of its figures that a checkpoint can be the best by. (Of a density, more than 1 is no
# better; the net is sure of noise, too, so that `sure` comes last.) Of LOWER the smallest is the best, of the others
# the largest. Memorisation and the Inception net's distance are for runs that are finished: `scratchgan evaluate`.
FIGURES = {"frechet": ("frechet",), "kernel": ("kernel",), "precision-recall": ("precision", "recall"),
           "density-coverage": ("coverage",), "classes": ("kl", "rarest", "sure"), "inception": ("inception",),
           "conditional": ("conditional",), "parzen": ("parzen",)}
LOWER = ("frechet", "kernel", "kl")
USUAL, SAMPLES, SEED = ("frechet", "precision-recall", "classes", "conditional"), 10_000, 0
EVERY, NUMBER = whole(1), whole(100, 50_000)
DIGITS, SHAPE = ("mnist", "digits"), (1, 28, 28)
PANELS = (
    Panel("Frechet distance", {"frechet": "to MNIST's test images"}),
    Panel("kernel distance", {"kernel": "to MNIST's test images"}),
    Panel("share", {"precision": "precision", "recall": "recall", "density": "density", "coverage": "coverage",
                    "sure": "surer than .9 of their digit", "rarest": "the rarest digit (fair: .1)",
                    "conditional": "of the class asked for"}),
    Panel("KL (nats)", {"kl": "of the digits to uniform"}),
    Panel("Inception-style score", {"inception": "score"}),
    Panel("Parzen log-likelihood (nats)", {"parzen": "log-likelihood"}))


def _is_record(value):
    return (isinstance(value, dict) and value.keys() == {"every", "measures", "best_by", "samples"}
            and EVERY.allows(value["every"]) and NUMBER.allows(value["samples"])
            and isinstance(value["measures"], list) and all(name in [*FIGURES] for name in value["measures"])
            and value["best_by"] in figures_of(value["measures"]))


def figures_of(measures):
    """The figures of these measures that a checkpoint can be the best by."""
    return [figure for name in measures for figure in FIGURES[name]]


RECORD = Kind(None, lambda value: value is None or _is_record(value), "a description of evaluations, or null")


class Evaluation:
    """Every so many steps of a run, and at its end, its samples are measured against MNIST's test images.

    every      steps
    measures   names in `scratchgan.metrics.measures.MEASURES`
    best_by    the figure that decides which checkpoint is kept besides the newest; the first of the first measure
               unless said
    samples    how many are measured; figures of other numbers do not compare
    data_dir   where MNIST is looked for first

    `UserError` for what is none of these.
    """

    def __init__(self, every, measures=USUAL, best_by=None, samples=SAMPLES, data_dir=None):
        for name, value, kind in (("every", every, EVERY), ("samples", samples, NUMBER)):
            if not kind.allows(value):
                raise UserError(f"Evaluation: {name} must be {kind.words}, not {value!r}.")
        wrong = next((name for name in measures if name not in FIGURES), None)
        if wrong in MEASURES:
            raise UserError(f"{wrong} is for runs that are finished, in `scratchgan evaluate`: choose among "
                            f"{', '.join(FIGURES)}.")
        if wrong is not None or not measures:
            raise UserError(f"There is no measure {wrong or ''!r} of samples: choose among {', '.join(FIGURES)}.")
        choice = figures_of(measures)
        if best_by not in (None, *choice):
            raise UserError(f"A checkpoint cannot be the best by {best_by!r} here: choose among {', '.join(choice)}, "
                            "or have other measures evaluated.")
        self.every, self.samples, self.data_dir = int(every), int(samples), data_dir
        self.measures, self.best_by = tuple(measures), best_by or choice[0]
        self.reference = None  # the test images, with what the feature net sees in them

    @classmethod
    def of(cls, config, data_dir=None):
        """That of a run, or None."""
        record = config["evaluation"]
        return record and cls(**record, data_dir=data_dir)

    def record(self):
        """What config.json says of it."""
        return {"every": self.every, "measures": list(self.measures), "best_by": self.best_by,
                "samples": self.samples}

    def prepare(self, system, source, announce):
        """See to it that samples of the system can be measured: `UserError` where they cannot, or MNIST is not had."""
        without = "train without evaluations"
        if not system.makes_samples:
            raise UserError(f"A {type(system).__name__} makes no samples that could be evaluated: {without}.")
        shape = tuple(system.sample_shape or ())
        if shape == (2,) and source.modes:
            raise UserError(f"Samples of {source.name} are measured in every row of metrics.csv (modes, high quality, "
                            f"KL): {without}.")
        if shape != SHAPE:
            raise UserError(f"Samples of shape {shape} cannot be evaluated, since all figures are of digits of "
                            f"MNIST's shape, {SHAPE}: {without}.")
        if source.name not in DIGITS:
            raise UserError(f"Samples that are learned from {source.name} cannot be evaluated, since all figures are "
                            f"of digits, against MNIST's: train on {' or '.join(DIGITS)}, or {without}.")
        if self.best_by == "conditional" and system.classes != 10:
            raise UserError("A checkpoint cannot be the best by 'conditional' here, since the system is not "
                            "conditional: choose another figure.")
        try:
            self.test = data.load_mnist("test", self.data_dir, announce=announce, bars=False)
            self.validation = None if "parzen" not in self.measures else validation_images(
                data.load_mnist("train", self.data_dir, announce=announce, bars=False))
        except data.DownloadError as error:
            raise UserError(f"Evaluations need MNIST, which was not found {data.mnist.searched(self.data_dir)} and "
                            "could not be downloaded: `scratchgan data fetch mnist` gets it, --data-dir names the "
                            f"folder that holds it; or {without}.") from error

    def row(self, system):
        """{"n", "seed", "against", "against_sha256", "net", figures and their errors} of the system as it is: figures
        are missing where a sample holds what is no number, None where they are none."""
        facts = {"n": self.samples, "seed": SEED, "against": self.test.name, "against_sha256": self.test.sha256,
                 "net": feature_record()["sha256"]}
        return {**facts, **{name: plain(value) for name, value in self.figures(system).items()}}

    def figures(self, system):
        """{figure: number}"""
        device = system.device
        self.reference = self.reference or seen("test images", self.test.images, device=device)
        images = system.sample(self.samples, SEED)
        if not np.isfinite(images).all():
            return {}
        images = unit(images, system.value_range)
        labels = np.arange(self.samples) % 10 if system.classes == 10 else None  # as the classes take turns
        return measured(seen("samples", images, labels, device), self.reference, self.validation, self.measures, SEED)

    def best(self, rows):
        """The row that is the best, the first of several; None if none has the figure."""
        rows = [row for row in rows if isinstance(row.get(self.best_by), int | float)]
        sign = 1 if self.best_by in LOWER else -1
        return min(rows, key=lambda row: sign * row[self.best_by], default=None)

    def words(self):
        """"evaluated every 500 steps: ..." """
        every = "step" if self.every == 1 else f"{self.every:,} steps"
        return (f"evaluated every {every} against MNIST's test images: {', '.join(self.measures)} of "
                f"{self.samples:,} samples; the checkpoint that is the best by {self.best_by} is kept")


def plain(value):
    """A number as JSON takes it: one that is none is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def told(row):
    """"frechet 12.34 +- 0.05, precision 0.871 +- 0.003": the figures of a row that checkpoints can be compared by."""
    parts = []
    for name in figures_of(FIGURES):
        if row.get(name) is not None:
            error = row.get(f"{name}_se")
            parts.append(f"{name} {row[name]:.4g}" + ("" if error is None else f" +- {error:.2g}"))
    return ", ".join(parts) or "no figures, since samples hold values that are no numbers"
