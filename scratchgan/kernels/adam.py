"""Adam over a flat vector."""

import numpy as np

from scratchgan.backend import array_module

CHUNK = 32768  # elements: the five arrays of one chunk stay in the second-level cache


def adam(theta, grad, m, v, scratch, beta1, beta2, rate, eps):
    """m = beta1 m + g;  v = beta2 v + g^2;  theta -= rate m / (sqrt(v) + eps), in place.

    m and v are Adam's moments divided by (1 - beta1) and (1 - beta2), which costs two passes less over memory;
    the caller folds these factors and the bias corrections into `rate` and `eps`. All are 1-D and of one dtype;
    `scratch` holds at least min(CHUNK, theta.size) elements on NumPy, theta.size on CuPy.
    """
    xp = array_module(theta)
    chunk = CHUNK if xp is np else max(1, theta.size)
    kind = theta.dtype.type
    beta1, beta2, rate, eps = kind(beta1), kind(beta2), kind(rate), kind(eps)
    for start in range(0, theta.size, chunk):
        part = slice(start, start + chunk)
        t, g, mp, vp = theta[part], grad[part], m[part], v[part]
        s = scratch[: t.size]
        mp *= beta1
        mp += g
        xp.multiply(g, g, out=s)
        vp *= beta2
        vp += s
        xp.sqrt(vp, out=s)
        s += eps
        xp.divide(mp, s, out=s)
        s *= rate
        t -= s
