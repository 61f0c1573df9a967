"""Batches in random order, as a pure function of (seed, step)."""

import numpy as np

from scratchgan import random


class Batches:
    """The batches of a data set: each epoch visits every image once, in an order of its own.

    `batch(step)` gives images (n, C, H, W), float32 in [-1, 1], and labels (n,) or None. The last batch of an epoch
    is smaller when the size does not divide. With `flip` each image is mirrored left-right with probability 1/2.
    """

    def __init__(self, dataset, batch_size, seed=0, flip=False):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.dataset, self.batch_size, self.seed, self.flip = dataset, batch_size, seed, flip
        self.steps_per_epoch = -(-len(dataset) // batch_size)
        self._epoch, self._order = None, None

    def batch(self, step):
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, random.permutation(len(self.dataset), self.seed, "data/order", epoch)
        rows = self._order[index * self.batch_size:(index + 1) * self.batch_size]
        images = to_float(self.dataset.images[rows])
        if self.flip:
            mirrored = random.uniform((len(rows), 1), self.seed, "data/flip", step)[:, 0] < 0.5
            images[mirrored] = images[mirrored, ..., ::-1]
        labels = self.dataset.labels
        return images, None if labels is None else labels[rows]


def to_float(images):
    """uint8 0..255 to float32 in [-1, 1]; floats, which are in [-1, 1] already, as they are."""
    if images.dtype.kind == "f":
        return images
    x = np.multiply(images, np.float32(2 / 255), dtype=np.float32)
    x -= 1
    return x


def to_uint8(images):
    """float in [-1, 1] to uint8 0..255, rounded; what lies outside is clipped."""
    return np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
