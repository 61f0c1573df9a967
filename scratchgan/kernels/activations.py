"""Activation functions and their gradients, elementwise; every result keeps the memory order of its input.

`out` may share no memory with the inputs, except that it may be the very array that a docstring names.

Complex values branch on the real part, so that each function stays analytic away from its kink: its complex
step derivative is then the derivative on the branch taken.
"""

import functools
import math

import numpy as np

from scratchgan.backend import array_module
from scratchgan.kernels import parallel
from scratchgan.kernels.parallel import by_blocks
from scratchgan.kernels.results import store


def _plain(xp, x, out):
    """Whether to use the plain formula: the fast one is for real NumPy arrays, and writes into a given `out`.

    `sigmoid` and `softplus` do not ask: for real NumPy arrays they use theirs without `out` too.
    """
    return xp is not np or x.dtype.kind == "c" or out is None


def leaky_relu(x, slope, out=None):
    """y = x where x > 0, else slope x. `out` may be x."""
    xp = array_module(x)
    if _plain(xp, x, out) or not 0 <= slope <= 1:
        return store(xp.where(x.real > 0, x, slope * x), out)
    by_blocks(_relu if slope == 0 else functools.partial(_leaky_relu, x.dtype.type(slope), x is out), x, out)
    return out


def _relu(x, out):
    np.maximum(x, 0, out=out)


def _leaky_relu(slope, inplace, x, out):
    lower = parallel.scratch_like(x) if inplace else out
    np.multiply(x, slope, out=lower)
    np.maximum(x, lower, out=out)  # x > slope x exactly where x > 0


def leaky_relu_grad(dy, x, slope, out=None):
    """dx = dy where x > 0, else slope dy. `out` may be dy.

    It is a product for slope 0 too: an infinite dy gives NaN where x <= 0.
    """
    xp = array_module(x)
    if _plain(xp, x, out) or not dy.dtype == x.dtype == out.dtype or not 0 <= slope <= 1:
        return store(xp.where(x.real > 0, dy, slope * dy), out)
    by_blocks(functools.partial(_leaky_relu_grad, x.dtype.type(slope), dy is out), dy, x, out)
    return out


def _leaky_relu_grad(slope, inplace, dy, x, out):
    # dy (slope + (1 - slope) [x > 0]): multiplying by a mask is twice as fast as np.where. The mask is exact:
    # 1 - slope is rounded to nearest, and adding slope to it rounds back to 1.
    factor = parallel.scratch_like(x) if inplace else out
    np.copyto(factor, x > 0)
    if slope:
        factor *= 1 - slope
        factor += slope
    np.multiply(factor, dy, out=out)


def tanh(x, out=None):
    """y = tanh x. `out` may be x."""
    xp = array_module(x)
    if _plain(xp, x, out):
        return store(xp.tanh(x), out)
    by_blocks(lambda x, out: np.tanh(x, out=out), x, out)
    return out


def tanh_grad(dy, y, out=None):
    """dx = dy (1 - y^2), from the output y. `out` may be y, not dy."""
    xp = array_module(y)
    if _plain(xp, y, out) or not dy.dtype == y.dtype == out.dtype:
        return store(dy * (1 - y * y), out)
    by_blocks(_tanh_grad, dy, y, out)
    return out


def _tanh_grad(dy, y, out):
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)
    out *= dy


def sigmoid(x, out=None):
    """y = 1 / (1 + exp(-x)). `out` may be x.

    Real NumPy arrays take that formula as it stands: where exp(-x) overflows, to inf, y is 0 instead of a subnormal
    number. Everything else takes exp(min(x, 0)) / (1 + exp(-|x|)), in which nothing overflows. Small values keep their
    digits either way.
    """
    xp = array_module(x)
    if xp is np and x.dtype.kind == "f":
        out = np.empty_like(x) if out is None else out
        with np.errstate(over="ignore"):  # to inf, of which 0 is made
            by_blocks(_sigmoid, x, out)
        return out
    positive = x.real >= 0
    e = xp.exp(xp.where(positive, -x, x))
    return store(xp.where(positive, xp.ones_like(e), e) / (1 + e), out)


def _sigmoid(x, out):
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    np.divide(1, out, out=out)


def sigmoid_grad(dy, x, y, out=None):
    """dx = dy y(x) y(-x) = dy y / (1 + exp(x)), from the input x and the output y. `out` may be x, not dy or y."""
    xp = array_module(x)
    if _plain(xp, x, out) or not dy.dtype == x.dtype == out.dtype:
        return store(dy * (y * sigmoid(-x)), out)
    with np.errstate(over="ignore"):
        by_blocks(_sigmoid_grad, dy, x, y, out)
    return out


def _sigmoid_grad(dy, x, y, out):
    np.exp(x, out=out)
    out += 1
    np.divide(y, out, out=out)
    out *= dy


LINEAR = 40.0  # above, log(1 + exp(x)) is x in every precision


def softplus(x, beta=1.0, threshold=math.inf, out=None):
    """y = log(1 + exp(z)) / beta with z = beta x, but y = x where z > threshold. `out` must not be x.

    Real NumPy arrays take log1p(exp(z)), and x where z > LINEAR in any case: that replaces the inf to which exp(z)
    overflows. Everything else takes max(z, 0) + log(1 + exp(-|z|)), in which nothing overflows. Small values keep their
    digits either way.
    """
    xp = array_module(x)
    if xp is np and x.dtype.kind == "f":
        out = np.empty_like(x) if out is None else out
        with np.errstate(over="ignore"):  # to inf, which x replaces
            by_blocks(functools.partial(_softplus, beta, min(threshold, LINEAR)), x, out)
        return out
    z = beta * x
    positive = z.real > 0
    e = xp.exp(xp.where(positive, -z, z))
    log1p = xp.log(1 + e) if e.dtype.kind == "c" else xp.log1p(e)  # CuPy's log1p is real only
    y = (xp.where(positive, z, xp.zeros_like(z)) + log1p) / beta
    return store(xp.where(z.real > threshold, x, y), out)


def _softplus(beta, threshold, x, out):
    z = x if beta == 1 else np.multiply(x, beta, out=out)
    linear = not z.max(initial=threshold) <= threshold  # NaN is no reason to leave the others as they are
    np.exp(z, out=out)
    np.log1p(out, out=out)
    if beta != 1:
        out /= beta
    if linear:
        np.copyto(out, x, where=beta * x > threshold)


def softplus_grad(dy, x, beta=1.0, threshold=math.inf, out=None):
    """dx = dy / (1 + exp(-beta x)), or dy where beta x > threshold. `out` must be neither dy nor x."""
    xp = array_module(x)
    if _plain(xp, x, out) or not dy.dtype == x.dtype == out.dtype:
        z = beta * x
        return store(xp.where(z.real > threshold, dy, dy * sigmoid(z)), out)
    with np.errstate(over="ignore"):
        by_blocks(functools.partial(_softplus_grad, beta, threshold), dy, x, out)
    return out


def _softplus_grad(beta, threshold, dy, x, out):
    np.multiply(x, -beta, out=out)
    linear = not out.min(initial=-threshold) >= -threshold
    np.exp(out, out=out)
    out += 1
    np.divide(dy, out, out=out)
    if linear:
        np.copyto(out, dy, where=beta * x > threshold)
