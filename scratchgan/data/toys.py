"""Toy sets: points in the plane without end, on which one sees what a game does.

    ring8, grid25   mixtures of Gaussians, by which mode collapse is judged: `scratchgan.metrics.modes.MIXTURES`
    spiral          an arm of two turns, without modes
"""

import math
from functools import partial

import numpy as np

from scratchgan import random
from scratchgan.data.source import Sampler
from scratchgan.metrics.modes import MIXTURES

BLOCK = 4096  # points drawn at once: drawing those of one small batch costs as much as a training step


class PlaneSampler(Sampler):
    """Points (x, y), float32. A subclass defines `points(n, seed, first)`, which gives (n, 2)."""

    sample_shape = (2,)
    block = None  # (seed, index, points) of the newest block

    def draw(self, n, seed, first):
        parts, stop = [np.empty((0, 2), np.float32)], first + n
        while first < stop:
            index, start = divmod(first, BLOCK)
            if self.block is None or self.block[:2] != (seed, index):
                self.block = seed, index, self.points(BLOCK, seed, index * BLOCK)
            parts.append(self.block[2][start:start + stop - first])
            first += len(parts[-1])
        return np.concatenate(parts), None

    def points(self, n, seed, first):
        raise NotImplementedError(f"{type(self).__name__} does not define points")


class Mixture(PlaneSampler):
    """x = c_k + sigma n: k any of the centres c (K, 2), n ~ N(0, 1)."""

    def __init__(self, name, description):
        self.name, self.description, self.modes = name, description, MIXTURES[name]

    def points(self, n, seed, first):
        centres, sigma = np.array(self.modes["centres"], np.float32), np.float32(self.modes["sigma"])
        word = random.words((n, 1), seed, f"{self.name}/mode", first=first)[:, 0].astype(np.uint64)
        k = (word * np.uint64(len(centres))) >> np.uint64(32)  # the word as a share of K
        return centres[k] + sigma * random.normal((n, 2), seed, f"{self.name}/noise", first=first)


class Spiral(PlaneSampler):
    """x = r (cos t, sin t) + sigma n,  r = 4 t / T,  t = T sqrt(u), T two turns: as dense everywhere along the arm."""

    name, description = "spiral", "a spiral of 2 turns from (0, 0) to (4, 0), normal noise of sigma 0.1"
    turns, radius, sigma = 2, 4.0, 0.1

    def points(self, n, seed, first):
        share = np.sqrt(random.uniform((n, 1), seed, "spiral/place", first=first))
        t = share * np.float32(2 * math.pi * self.turns)
        arm = np.float32(self.radius) * share * np.concatenate([np.cos(t), np.sin(t)], axis=1)
        return arm + np.float32(self.sigma) * random.normal((n, 2), seed, "spiral/noise", first=first)


TOYS = {
    "ring8": partial(Mixture, "ring8", "8 Gaussians of sigma 0.01, evenly on the circle of radius 1 from (1, 0) on"),
    "grid25": partial(Mixture, "grid25", "25 Gaussians of sigma 0.05, at -4, -2, 0, 2, 4 in x and y"),
    "spiral": Spiral,
}
