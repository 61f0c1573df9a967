"""The formulas of `scratchgan.gan` in one kernel each, or two."""

from functools import partial

import cupy

from scratchgan.backend import memory_order
from scratchgan.kernels.cupy.elementwise import SIGMOID, apply, elementwise
from scratchgan.kernels.formulas import FORMULAS

_noisy = elementwise("x n", "sigma", "x + sigma * n", "noisy")
_direction = elementwise("x c g weight", "", "c * x + weight * g", "direction")
_unit_slope = elementwise("g norm", "weight", "norm == 0 ? T(0) : 2 * weight * ((norm - 1) / norm) * g", "unit_slope")
_norms = cupy.ReductionKernel("T g", "T norm", "g * g", "a + b", "norm = sqrt(a)", "0", "scratchgan_norms")
_unit_penalty = cupy.ReductionKernel("T norm, T weight", "T sum", "weight * (norm - 1) * (norm - 1)", "a + b",
                                     "sum = a", "0", "scratchgan_unit_penalty")
_squares = cupy.ReductionKernel("T g, T weight", "T sum", "g * g * weight / 2", "a + b", "sum = a", "0",
                                "scratchgan_squares")


def noisy(x, n, sigma):
    return apply(_noisy, (x, n), sigma)


def direction(x, c, g, weight):
    each = len(x), *(1,) * (x.ndim - 1)
    return apply(_direction, (x, c.reshape(each), g, weight.reshape(each)))


def weighted_squares(g, weight):
    return over_samples(_squares, g, weight).sum()


def unit_slope(g, weight):
    norm = over_samples(_norms, g)
    return _unit_penalty(norm, weight), apply(_unit_slope, (g, norm.reshape(len(g), *(1,) * (g.ndim - 1))), weight)


def over_samples(kernel, x, *each):
    """Reduces all axes of x but the first, along its memory: a block of threads for each sample. `each` has numbers for
    each."""
    axes = memory_order(x)
    rows = x.transpose(axes).reshape(len(x), -1) if axes[0] == 0 else x.reshape(len(x), -1)
    return kernel(rows, *(numbers.reshape(-1, 1) for numbers in each), axis=1)


# The slopes of `scratchgan.gan.objectives`, by name; a is the number that they are given.
SLOPES = {name: cupy.ElementwiseKernel("T s, T factor, float64 a", "T out", f"out = factor * ({code})",
                                       f"scratchgan_{name}", preamble=SIGMOID) for name, code in {
    "constant": "T(a)",
    "difference": "s - T(a)",
    "below_slope": "T(a) - s > 0 ? T(-1) : T(0)",
    "above_slope": "s - T(a) > 0 ? T(1) : T(0)",
    "logit_slope": "T(1 - a) * sigmoid(s) - T(a) * sigmoid(-s)",
}.items()}


def scaled_slope(slope, s, factor, out=None):
    name = slope.func.__name__ if isinstance(slope, partial) and len(slope.args) == 1 and not slope.keywords else None
    if name not in SLOPES or slope.func is not vars(FORMULAS).get(name):
        return FORMULAS.scaled_slope(slope, s, factor, out)
    return SLOPES[name](s, factor, *slope.args, cupy.empty_like(s) if out is None else out)
