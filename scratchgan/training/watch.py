"""Warnings that a person needs while a run goes on."""

import math

from scratchgan.system import scaled
from scratchgan.training.callbacks import Callback


class Watch(Callback):
    """Says, in one line and once an episode, that D has won or that the samples have collapsed.

    Both must hold for `patience` log intervals in a row; an episode ends with the first interval where it does not.

    D has won: mean d_real above `sure`, mean d_fake below 1 - `sure`, and the norm of G's gradient below `vanished`
    times the largest so far. Only where D's scores are logits, so that d_real and d_fake are probabilities.

    Collapse: of `samples` samples from different z, the standard deviation of each pixel, averaged over pixels, is
    below `spread` times that of a batch of the data. Not in the first `settling` steps: a generator that starts from
    small weights makes nearly the same image from every z, as long as the running statistics of its batch
    normalisation say little of its activations.

    Numbers that are not finite are no matter of warnings: they end a run (`Diverged`), watched or not.
    """

    def __init__(self, patience=3, sure=0.98, vanished=0.05, spread=0.05, samples=16, settling=100):
        self.patience, self.sure, self.vanished, self.spread, self.samples = patience, sure, vanished, spread, samples
        self.settling = settling
        self.times = {}            # warning -> intervals in a row
        self.largest = 0.0         # norm of G's gradient

    def on_start(self, run):
        objective = getattr(run.system, "objective", None)
        self.probabilities = getattr(objective, "score", None) == "logit"
        self.largest = max((row.get("grad_norm_generator", 0.0) for row in run.history), default=0.0)  # if resumed
        self.data_spread = pixel_spread(scaled(run.batches.batch(run.step)[0]))

    def on_log(self, run, row):
        self.say(run, "won", self.won(row),
                 "the discriminator has won: it tells every sample from the data, and the generator's gradient has "
                 "vanished; try a smaller learning rate for the discriminator, a larger one for the generator, or "
                 "the non-saturating loss")
        more = "" if normalised(run.system) else ", or batch normalisation, as the recipe dcgan28 has it"
        self.say(run, "collapse", run.step > self.settling and self.collapsed(run.system),
                 "the samples have collapsed: the generator makes nearly the same image from every z; try smaller "
                 f"learning rates, another seed{more}")

    def won(self, row):
        gradient = row.get("grad_norm_generator", math.nan)
        self.largest = max(self.largest, gradient)
        return (self.probabilities and row.get("d_real", 0) > self.sure and row.get("d_fake", 1) < 1 - self.sure
                and gradient <= self.vanished * self.largest)

    def collapsed(self, system):
        if self.data_spread == 0:  # the data are one image, and so should the samples be
            return False
        return pixel_spread(system.sample(self.samples)) < self.spread * self.data_spread

    def say(self, run, what, holds, line):
        self.times[what] = self.times.get(what, 0) + 1 if holds else 0
        if self.times[what] == self.patience:
            run.announce(f"Warning at step {run.step}: {line}.")


def normalised(system):
    """Whether the generator, of systems that have one, normalises over the batch."""
    generator = system.networks.get("generator")
    return generator is not None and any(layer.couples_samples for _, layer in generator.named_layers())


def pixel_spread(images):
    """The standard deviation of each pixel over a few images, averaged over the pixels."""
    return float(images.std(axis=0).mean())
