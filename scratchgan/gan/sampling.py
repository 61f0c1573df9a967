"""`Sampling`: how a network makes samples of noise, whatever trained it."""

import math

import numpy as np

from scratchgan import backend
from scratchgan.gan import passes
from scratchgan.gan.checks import check_made, checked_labels
from scratchgan.gan.latent import whole
from scratchgan.system import System

# Samples made at once, so that 10,000 do not take 10,000 samples' activations: at most so many, and so many pixels.
SAMPLES_AT_ONCE, PIXELS_AT_ONCE = 1000, 1 << 20


class Sampling(System):
    """A system whose `sampler` makes samples of the noise of its `latent`."""

    def sample(self, n, seed=0, labels=None):
        """n samples (n, *sample_shape), float32, in the value range, on the host. One seed, one set of noise.

        In a conditional game `labels` is one for all or one for each; without, the classes take turns.
        """
        name = f"{type(self).__name__}.sample"
        n, seed = whole(n, f"{name}: n", 0), whole(seed, f"{name}: seed")
        return self.generate(self.latent.draw(n, seed, "sample"), labels)

    def generate(self, z, labels=None):
        """The samples of given noise z (n, z_dim): as `sample`. Leaves the networks as they are."""
        G, z = self.sampler.twin().eval(), self.latent.as_input(z)
        if labels is None and self.classes:
            labels = np.arange(len(z)) % self.classes
        if labels is not None and not self.classes:
            raise ValueError(f"{type(self).__name__}: its samples are of no class: leave labels out")
        labels = checked_labels(self, len(z), labels)
        samples = np.empty((len(z), *self.sample_shape), np.float32)
        for part in in_parts(len(z), self.sample_shape):
            noise = backend.to_device(z[part].astype(G.dtype, copy=False), G.device)
            x = G.forward(passes.given(noise, None if labels is None else labels[part]))
            samples[part] = backend.to_host(self.as_samples(x))
        return samples if self.value_range is None else np.clip(samples, *self.value_range, out=samples)

    def as_samples(self, x):
        """What the network made, (N, ...), as samples (N, *sample_shape)."""
        check_made(self, x, self.sample_shape)
        return x.reshape(len(x), *self.sample_shape)

    def interpolate(self, first, last, rows, columns):
        name = f"{type(self).__name__}.interpolate"
        rows, columns = (whole(n, f"{name}: rows and columns", 1) for n in (rows, columns))
        a, b = (self.latent.draw(rows, seed, "sample") for seed in (first, last))
        z = np.stack([self.latent.between(a, b, t) for t in np.linspace(0, 1, columns)], axis=1)
        labels = np.repeat(np.arange(rows) % self.classes, columns) if self.classes else None  # one for each row
        return self.generate(z.reshape(rows * columns, -1), labels)


def in_parts(n, sample_shape):
    """Slices of n samples, each of as many as are made at once."""
    count = max(1, min(SAMPLES_AT_ONCE, PIXELS_AT_ONCE // math.prod(sample_shape[1:])))
    return [slice(start, start + count) for start in range(0, n, count)]
