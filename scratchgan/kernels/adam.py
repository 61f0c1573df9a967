"""Adam over a flat vector."""

import functools

import numpy as np

from scratchgan.backend import array_module
from scratchgan.kernels.parallel import by_blocks, scratch_like

CHUNK = 1 << 20  # elements: one chunk of the arrays stays in the last-level cache from pass to pass
LARGE = 1 << 17  # elements from which on it is worth sharing them between cores


def adam(theta, grad, m, v, beta1, beta2, rate, eps):
    """m = beta1 m + g;  v = beta2 v + g^2;  theta -= rate m / (sqrt(v) + eps), in place.

    m and v are Adam's moments divided by (1 - beta1) and (1 - beta2), which costs two passes less over memory;
    the caller folds these factors and the bias corrections into `rate` and `eps`. All are 1-D, of one dtype and
    size.
    """
    kind, arrays = theta.dtype.type, (theta, grad, m, v)
    numbers = kind(beta1), kind(beta2), kind(rate), kind(eps)
    if array_module(theta) is np:
        by_blocks(functools.partial(_adam, np, *numbers), *arrays, small=LARGE, block=CHUNK, heavy=True)
    else:
        _adam(array_module(theta), *numbers, *arrays)


def _adam(xp, beta1, beta2, rate, eps, theta, grad, m, v):
    s = scratch_like(theta) if xp is np else xp.empty_like(theta)
    m *= beta1
    m += grad
    xp.multiply(grad, grad, out=s)
    v *= beta2
    v += s
    xp.sqrt(v, out=s)
    s += eps
    xp.divide(m, s, out=s)
    s *= rate
    theta -= s
