"""Adam over a flat vector."""

import numpy as np

from scratchgan.backend import array_module

CHUNK = 1 << 20  # elements: one chunk of the five arrays stays in the last-level cache from pass to pass


def adam(theta, grad, m, v, scratch, beta1, beta2, rate, eps):
    """m = beta1 m + g;  v = beta2 v + g^2;  theta -= rate m / (sqrt(v) + eps), in place.

    m and v are Adam's moments divided by (1 - beta1) and (1 - beta2), which costs two passes less over memory;
    the caller folds these factors and the bias corrections into `rate` and `eps`. All are 1-D, of one dtype and
    size; `scratch` is overwritten.
    """
    xp, kind = array_module(theta), theta.dtype.type
    beta1, beta2, rate, eps = kind(beta1), kind(beta2), kind(rate), kind(eps)
    chunk = CHUNK if xp is np else max(1, theta.size)
    for start in range(0, theta.size, chunk):
        part = slice(start, start + chunk)
        t, g, mp, vp, s = theta[part], grad[part], m[part], v[part], scratch[part]
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
