"""The formulas of `scratchgan.gan` in one kernel each, or two."""

from functools import cache, partial

import cupy

from scratchgan.backend import empty_along, memory_order
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
SLOPES = {
    "constant": "T(a)",
    "difference": "s - T(a)",
    "below_slope": "T(a) - s > 0 ? T(-1) : T(0)",
    "above_slope": "s - T(a) > 0 ? T(1) : T(0)",
    "logit_slope": "T(1 - a) * sigmoid(s) - T(a) * sigmoid(-s)",
}


@cache
def slope_kernel(*names):
    """A kernel of one slope, or of one for the first n scores and of another for the rest."""
    functions = "".join(f"template <typename T> __device__ T slope_{i}(T s, double a) {{ return {SLOPES[name]}; }}\n"
                        for i, name in enumerate(names))
    if len(names) == 1:
        return cupy.ElementwiseKernel("T s, T factor, float64 a", "T out", "out = factor * slope_0(s, a)",
                                      f"scratchgan_{names[0]}", preamble=SIGMOID + functions)
    return cupy.ElementwiseKernel("T s, T factor, float64 a, float64 b, int64 n", "T out",
                                  "out = factor * (i < n ? slope_0(s, a) : slope_1(s, b))",
                                  f"scratchgan_{names[0]}_{names[1]}", preamble=SIGMOID + functions)


def known(slope):
    """The name of a slope that has a kernel, else None."""
    if not isinstance(slope, partial) or len(slope.args) != 1 or slope.keywords:
        return None
    name = slope.func.__name__
    return name if name in SLOPES and slope.func is vars(FORMULAS).get(name) else None


def scaled_slope(slope, s, factor, out=None):
    if not known(slope):
        return FORMULAS.scaled_slope(slope, s, factor, out)
    return slope_kernel(known(slope))(s, factor, *slope.args, cupy.empty_like(s) if out is None else out)


def slopes_of_both(real, fake, both, factor, out):
    if not (known(real) and known(fake) and both.flags.c_contiguous and out.flags.c_contiguous):
        n = len(both) // 2
        scaled_slope(real, both[:n], factor, out[:n])
        scaled_slope(fake, both[n:], factor, out[n:])
        return
    slope_kernel(known(real), known(fake))(both, factor, *real.args, *fake.args, both.size // 2, out)


_one_batch = cupy.ElementwiseKernel("raw T real, raw T fake, int64 n", "T both", "both = i < n ? real[i] : fake[i - n]",
                                    "scratchgan_one_batch")


def one_batch(real, fake):
    axes = memory_order(fake)
    first, second = real.transpose(axes), fake.transpose(axes)
    if not (axes[0] == 0 and real.shape == fake.shape and real.dtype == fake.dtype and fake.size
            and first.flags.c_contiguous and second.flags.c_contiguous):
        return FORMULAS.one_batch(real, fake)
    both = empty_along((2 * len(fake), *fake.shape[1:]), fake.dtype, axes, cupy)
    _one_batch(first, second, fake.size, both.transpose(axes))
    return both
