"""Stacked MNIST: three random digits as the three channels of an image, 1,000 modes.

L. Metz, B. Poole, D. Pfau, J. Sohl-Dickstein, "Unrolled generative adversarial networks", 2017: how many of the 1,000
numbers does a generator make?
"""

import numpy as np

from scratchgan import random
from scratchgan.data.source import Sampler

PLACES = np.array([100, 10, 1])


class Stacked(Sampler):
    """Images uint8 (3, H, W), three of a data set of grey ones, drawn anew for each number; labels 100 a + 10 b + c."""

    name, classes = "stacked", 1000

    def __init__(self, digits):
        self.digits = digits
        self.description = f"three random images of {digits.name} (SHA-256 {digits.sha256}) as channels"
        self.sample_shape = (3, *digits.sample_shape[1:])

    @property
    def origin(self):
        return f"three random digits as channels: {self.digits.origin}"

    def draw(self, n, seed, first):
        word = random.words((n, 3), seed, "stacked", first=first)[:, :3].astype(np.uint64)
        rows = (word * np.uint64(self.digits.size)) >> np.uint64(32)  # the word as a share of all
        return self.digits.images[rows, 0], self.digits.labels[rows] @ PLACES
