"""The formulas of `scratchgan.gan` in one kernel each, or two."""

import cupy

from scratchgan.kernels.cupy.elementwise import apply, elementwise

_noisy = elementwise("x n", "sigma", "x + sigma * n", "noisy")
_direction = elementwise("x c g weight", "", "c * x + weight * g", "direction")
_squares = cupy.ReductionKernel("T g, T weight", "T sum", "g * g * weight / 2", "a + b", "sum = a", "0",
                                "scratchgan_squares")


def noisy(x, n, sigma):
    return apply(_noisy, (x, n), sigma)


def direction(x, c, g, weight):
    each = len(x), *(1,) * (x.ndim - 1)
    return apply(_direction, (x, c.reshape(each), g, weight.reshape(each)))


def weighted_squares(g, weight):
    """A block of threads for each sample."""
    return _squares(g.reshape(len(g), -1), weight[:, None], axis=1).sum()
