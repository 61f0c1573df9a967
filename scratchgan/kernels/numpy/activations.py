"""The formulas of `scratchgan.layers.activations` in few passes, on all cores.

A result keeps the memory order of the last argument: a gradient that of x or y, which the layer before has chosen.
"""

import functools

import numpy as np

from scratchgan.backend import empty_like
from scratchgan.kernels.formulas import FORMULAS
from scratchgan.kernels.numpy.parallel import by_blocks
from scratchgan.kernels.numpy.reordering import reordered

LINEAR = 40.0  # above, log(1 + exp(x)) is x in every precision
OVER_AND_UNDERFLOW = np.errstate(over="ignore", under="ignore")  # to inf, of which 0 or x is made; to 0


def _elementwise(function, *arrays):
    """function(*arrays, out) for blocks of the elements; `out`, in the memory order of the last, is the result."""
    out = empty_like(arrays[-1])
    by_blocks(function, *(_in_order_of(out, array) for array in arrays), out)
    return out


def _in_order_of(out, array):
    """The array in the memory order of `out`: a copy is faster than an operation across orders."""
    if array.flags.c_contiguous and out.flags.c_contiguous:
        return array.reshape(-1).reshape(out.shape)  # with the same strides, also along axes of size 1
    return array if array.strides == out.strides else reordered(empty_like(out), array)


def leaky_relu(x, slope):
    if not 0 <= slope <= 1:
        return FORMULAS.leaky_relu(x, slope)
    return _elementwise(_relu if slope == 0 else functools.partial(_leaky_relu, x.dtype.type(slope)), x)


def _relu(x, out):
    np.maximum(x, 0, out=out)


def _leaky_relu(slope, x, out):
    np.multiply(x, slope, out=out)
    np.maximum(x, out, out=out)  # x > slope x exactly where x > 0


def leaky_relu_grad(dy, y, slope):
    """A product for slope 0 too: an infinite dy gives NaN where y <= 0."""
    if not 0 <= slope <= 1:
        return FORMULAS.leaky_relu_grad(dy, y, slope)
    return _elementwise(functools.partial(_leaky_relu_grad, y.dtype.type(slope)), dy, y)


def _leaky_relu_grad(slope, dy, y, out):
    # dy (slope + (1 - slope) [y > 0]): multiplying by a mask is twice as fast as np.where. The mask is exact:
    # 1 - slope is rounded to nearest, and adding slope to it rounds back to 1.
    np.copyto(out, y > 0)
    if slope:
        out *= 1 - slope
        out += slope
    out *= dy


def tanh(x):
    return _elementwise(lambda x, out: np.tanh(x, out=out), x)


@OVER_AND_UNDERFLOW
def tanh_grad(dy, y):
    return _elementwise(_tanh_grad, dy, y)


def _tanh_grad(dy, y, out):
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)
    out *= dy


@OVER_AND_UNDERFLOW
def sigmoid(x):
    """1 / (1 + exp(-x)) as it stands: where exp(-x) overflows, to inf, y is 0 instead of a subnormal number."""
    return _elementwise(_sigmoid, x)


def _sigmoid(x, out):
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    np.divide(1, out, out=out)


@OVER_AND_UNDERFLOW
def sigmoid_grad(dy, x, y):
    return _elementwise(_sigmoid_grad, dy, x, y)


def _sigmoid_grad(dy, x, y, out):
    np.exp(x, out=out)
    out += 1
    np.divide(y, out, out=out)
    out *= dy


@OVER_AND_UNDERFLOW
def softplus(x, beta=1.0, threshold=np.inf):
    """log1p(exp(beta x)) / beta, and x where beta x > LINEAR in any case: it replaces the inf of an overflow."""
    return _elementwise(functools.partial(_softplus, beta, min(threshold, LINEAR)), x)


def _softplus(beta, threshold, x, out):
    z = x if beta == 1 else np.multiply(x, beta, out=out)
    linear = not z.max(initial=threshold) <= threshold  # NaN is no reason to leave the others as they are
    np.exp(z, out=out)
    np.log1p(out, out=out)
    if beta != 1:
        out /= beta
    if linear:
        np.copyto(out, x, where=beta * x > threshold)


@OVER_AND_UNDERFLOW
def softplus_grad(dy, x, beta=1.0, threshold=np.inf):
    return _elementwise(functools.partial(_softplus_grad, beta, threshold), dy, x)


def _softplus_grad(beta, threshold, dy, x, out):
    np.multiply(x, -beta, out=out)
    linear = not out.min(initial=-threshold) >= -threshold
    np.exp(out, out=out)
    out += 1
    np.divide(dy, out, out=out)
    if linear:
        np.copyto(out, dy, where=beta * x > threshold)
