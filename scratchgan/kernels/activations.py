"""Activation functions and their gradients, elementwise; every result keeps the memory order of its input.

Complex values branch on the real part, so that each function stays analytic away from its kink: its complex
step derivative is then the derivative on the branch taken.
"""

import functools

import numpy as np

from scratchgan.backend import array_module
from scratchgan.kernels import parallel
from scratchgan.kernels.parallel import by_blocks


def _plain(xp, x, out):
    """Whether to use the plain formula: the fast ones are for real NumPy arrays with somewhere to write."""
    return xp is not np or x.dtype.kind == "c" or out is None


def _result(value, out):
    if out is None or out.dtype != value.dtype:  # a real dy through a complex pass gives a complex dx
        return value
    out[...] = value
    return out


def leaky_relu(x, slope, out=None):
    """y = x where x > 0, else slope x."""
    xp = array_module(x)
    if _plain(xp, x, out) or not 0 <= slope <= 1:
        return _result(xp.where(x.real > 0, x, slope * x), out)
    by_blocks(_relu if slope == 0 else functools.partial(_leaky_relu, x.dtype.type(slope), x is out), x, out)
    return out


def _relu(x, out):
    np.maximum(x, 0, out=out)


def _leaky_relu(slope, inplace, x, out):
    lower = parallel.scratch(x.dtype, x.shape)[0] if inplace else out
    np.multiply(x, slope, out=lower)
    np.maximum(x, lower, out=out)  # x > slope x exactly where x > 0


def leaky_relu_grad(dy, x, slope, out=None):
    """dx = dy where x > 0, else slope dy."""
    xp = array_module(x)
    if _plain(xp, x, out) or not dy.dtype == x.dtype == out.dtype or not 0 <= slope <= 1:
        return _result(xp.where(x.real > 0, dy, slope * dy), out)
    by_blocks(functools.partial(_leaky_relu_grad, x.dtype.type(slope), dy is out), dy, x, out)
    return out


def _leaky_relu_grad(slope, inplace, dy, x, out):
    # dy (slope + (1 - slope) [x > 0]): multiplying by a mask is twice as fast as np.where. The mask is exact:
    # 1 - slope is rounded to nearest, and adding slope to it rounds back to 1.
    factor = parallel.scratch(x.dtype, x.shape)[0] if inplace else out
    np.copyto(factor, x > 0)
    if slope:
        factor *= 1 - slope
        factor += slope
    np.multiply(factor, dy, out=out)


def tanh(x, out=None):
    """y = tanh x."""
    xp = array_module(x)
    if _plain(xp, x, out):
        return _result(xp.tanh(x), out)
    by_blocks(lambda x, out: np.tanh(x, out=out), x, out)
    return out


def tanh_grad(dy, y, out=None):
    """dx = dy (1 - y^2), from the output y."""
    xp = array_module(y)
    if _plain(xp, y, out) or not dy.dtype == y.dtype == out.dtype:
        return _result(dy * (1 - y * y), out)
    by_blocks(_tanh_grad, dy, y, out)
    return out


def _tanh_grad(dy, y, out):
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)
    out *= dy


def sigmoid(x):
    """y = 1 / (1 + exp(-x)), by exp(-|x|) so that nothing overflows and small values keep their digits."""
    xp = array_module(x)
    positive = x.real >= 0
    e = xp.exp(xp.where(positive, -x, x))
    return xp.where(positive, xp.ones_like(e), e) / (1 + e)


def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    xp = array_module(x)
    positive = x.real > 0
    e = xp.exp(xp.where(positive, -x, x))
    log1p = xp.log(1 + e) if e.dtype.kind == "c" else xp.log1p(e)  # CuPy's log1p is real only
    return xp.where(positive, x, xp.zeros_like(x)) + log1p
