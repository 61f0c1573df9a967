"""`Latent`: the noise z that a generator makes samples of."""

import math

import numpy as np

from scratchgan import backend, random

KINDS = ("normal", "uniform")
ROOT3 = math.sqrt(3)


def whole(value, what, low=None):
    """The value as an int, of whatever kind of whole number; `ValueError` for anything else, for a bool, below low."""
    if isinstance(value, bool | np.bool) or not hasattr(value, "__index__") or (low is not None and value < low):
        more = "" if low is None else f", {low} or more"
        raise ValueError(f"{what} must be a whole number{more}, not {value!r}")
    return int(value)


def sizes(shape, what):
    """The shape of a sample as a tuple of ints, each 1 or more; `ValueError` for anything else."""
    if not hasattr(shape, "__iter__"):
        raise ValueError(f"{what} must be a tuple, such as (1, 28, 28), not {shape!r}")
    return tuple([whole(n, f"{what.replace(': ', ': a size in ')}", 1) for n in shape])


class Latent:
    """z: independent numbers of mean 0 and variance 1.

    z_dim    how many numbers one z has
    kind     "normal": N(0, 1); "uniform": U(-sqrt 3, sqrt 3)
    z_shape  the shape of one z for the generator: (z_dim,) by default, (z_dim, 1, 1) for a convolution
    """

    def __init__(self, z_dim, kind="normal", z_shape=None):
        self.z_dim, self.kind = whole(z_dim, "Latent: z_dim", 1), kind
        self.z_shape = (self.z_dim,) if z_shape is None else tuple(whole(n, "Latent: a size in z_shape", 1)
                                                                   for n in z_shape)
        if kind not in KINDS:
            raise ValueError(f"Latent: kind must be {' or '.join(KINDS)}, not {kind!r}")
        if math.prod(self.z_shape) != self.z_dim:
            raise ValueError(f"Latent: z_shape {self.z_shape} does not hold z_dim = {self.z_dim} numbers")

    def draw(self, n, seed, purpose, step=0, first=0, dtype="float32", device="cpu"):
        """n of them, (n, z_dim). z number i is a function of (seed, purpose, step, first + i): a batch may be split."""
        shape = n, self.z_dim
        if self.kind == "uniform":
            return random.uniform(shape, seed, purpose, step, first, -ROOT3, ROOT3, dtype, device)
        return random.normal(shape, seed, purpose, step, first, dtype, device)

    def as_input(self, z):
        """z, (N, z_dim) or (N, *z_shape), as the generator takes it; `ValueError` for any other shape."""
        if not backend.is_array(z) or z.dtype.kind not in "fciu":
            got = z.dtype if backend.is_array(z) else type(z).__name__
            raise TypeError(f"expected an array of numbers as z, got {got}")
        if z.shape[1:] not in ((self.z_dim,), self.z_shape):
            raise ValueError(f"expected z of shape (N, {', '.join(map(str, self.z_shape))})"
                             f"{f' or (N, {self.z_dim})' if len(self.z_shape) > 1 else ''}, got {tuple(z.shape)}")
        return z.reshape(len(z), *self.z_shape)

    def between(self, a, b, t):
        """From a (t = 0) to b (t = 1), host arrays (N, z_dim): uniform z along the straight line, normal z along the
        great circle (Shoemake 1985), as a line passes through vectors shorter than any that G was trained on.

        Lengths change evenly from one end to the other. Between opposite normal z, which many great circles join, it is
        the straight line.
        """
        if self.kind == "uniform":
            return ((1 - t) * a + t * b).astype(a.dtype)
        la, lb = (np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
        ua, ub = a / la, b / lb
        angle = np.arccos(np.clip((ua * ub).sum(axis=1, keepdims=True), -1, 1))
        sine = np.sin(angle)
        along = np.where(sine < 1e-6, (1 - t) * ua + t * ub,  # the same direction, or opposite ones: 0 / 0
                         (np.sin((1 - t) * angle) * ua + np.sin(t * angle) * ub) / np.maximum(sine, 1e-6))
        return (((1 - t) * la + t * lb) * along).astype(a.dtype)

    def __repr__(self):
        return f"Latent({self.z_dim}, {self.kind!r}, {self.z_shape})"
