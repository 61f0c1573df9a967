"""All measures of samples of digits at once, and the yardsticks that their figures are read by.

The reference are the 10,000 test images of MNIST. Yardsticks, as many of each as there are samples:

    training images   what a perfect sampler would have; Parzen windows about them: 243 nats
    noise             U(0, 1) for each pixel
    collapsed         ten training images, one of each digit, again and again: what sees no variety within a digit
                      finds them perfect
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from scratchgan import random
from scratchgan.metrics.classes import class_balance, conditional_accuracy, inception_score
from scratchgan.metrics.coverage import density_coverage, precision_recall
from scratchgan.metrics.features import feature_net
from scratchgan.metrics.frechet import frechet, kernel_distance
from scratchgan.metrics.inception import inception_features, inception_frechet
from scratchgan.metrics.memorisation import memorisation, neighbours
from scratchgan.metrics.parzen import parzen

TRAINED, VALIDATION = 50_000, 1000  # training images of the published protocol, and those after them that pick sigma
COMPARED = 2000  # images of a set that are compared with all training images


@dataclass(frozen=True)
class Seen:
    """Images (N, 1, 28, 28) in [0, 1], with what the feature net sees in them, the digits that they should be, and
    the training images that they may be copies of."""

    name: str
    images: np.ndarray = field(repr=False)
    features: np.ndarray = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(default=None, repr=False)
    training: np.ndarray | None = field(default=None, repr=False)
    device: str = "cpu"

    @cached_property
    def inception(self):
        """What the Inception net sees in the images."""
        return inception_features(self.images, self.device)

    @cached_property
    def ratios(self):
        """d1 / d2 of `neighbours` of some of the images, chosen at random, always the same."""
        return neighbours(self.images[random.permutation(len(self.images), 0, "metrics/compared")[:COMPARED]],
                          self.training)[0]


# name -> function of (what is measured, the reference, validation images, seed) that gives its figures
MEASURES = {
    "frechet": lambda it, real, _, seed: frechet(real.features, it.features, seed),
    "kernel": lambda it, real, _, seed: kernel_distance(real.features, it.features, seed=seed),
    "precision-recall": lambda it, real, _, seed: precision_recall(real.features, it.features),
    "density-coverage": lambda it, real, _, seed: density_coverage(real.features, it.features),
    "classes": lambda it, real, _, seed: class_balance(it.probabilities, seed),
    "inception": lambda it, real, _, seed: inception_score(it.probabilities, seed),
    "conditional": lambda it, real, _, seed: ({} if it.labels is None
                                              else conditional_accuracy(it.probabilities, it.labels)),
    "parzen": lambda it, real, validation, seed: parzen(it.images, real.images, validation, seed=seed),
    "memorisation": lambda it, real, _, seed: ({} if it.training is None or real.training is None
                                               else memorisation(it.ratios, real.ratios, seed)),
    "inception-frechet": lambda it, real, _, seed: inception_frechet(real.inception, it.inception, seed),
}
USUAL = tuple(MEASURES)[:-1]  # the last only where it is named: its net is downloaded, and slow without a GPU


def seen(name, images, labels=None, device="cpu", training=None):
    """What the feature net sees in images, uint8 or in [0, 1]."""
    if images.dtype == np.uint8:
        images = images / np.float32(255)
    return Seen(name, images, *feature_net(device).features_and_probabilities(images), labels, training,
                device)


def yardsticks(train, n, seed=0, device="cpu"):
    """`Seen`s of n images each, made of MNIST's training set and a seed."""
    n = min(n, TRAINED)
    order = random.permutation(TRAINED, seed, "metrics/real")[:n]
    def yardstick(name, images):
        return seen(name, images, device=device, training=train.images)
    yield yardstick("training images", train.images[order])
    yield yardstick("noise", random.uniform((n, 1, 28, 28), seed, "metrics/noise"))
    firsts = [int((train.labels == digit).argmax()) for digit in range(10)]
    yield yardstick("collapsed", train.images[firsts][np.arange(n) % 10])


def validation_images(train):
    """The first 1,000 that the published protocol does not train on, in [0, 1]."""
    return train.images[TRAINED:TRAINED + VALIDATION] / np.float32(255)


def measured(it, reference, validation, measures=USUAL, seed=0):
    """{figure: number} of all that these measures find in one `Seen`; "..._se" are standard errors."""
    found = {}
    for name in measures:
        found |= MEASURES[name](it, reference, validation, seed)
    return found
