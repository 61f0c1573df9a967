"""Initial weights: PyTorch's defaults and the published ones.

An initializer is a function (shape, seed, purpose) -> float32 array. The ones below that take arguments return
such a function, to hand to a layer: `Linear(64, 256, weight_init=normal(0.02))`.

    fan_in  = inputs that one output sums over  = shape[1] * (kernel size)
    fan_out = outputs that one input feeds into = shape[0] * (kernel size)
"""

import math
from functools import partial

import numpy as np

from scratchgan import random


def fans(shape):
    """(fan_in, fan_out) of a weight in PyTorch's layout, (out, in, ...)."""
    if len(shape) < 2:
        raise ValueError(f"fan_in and fan_out need a weight of two or more dimensions, not shape {tuple(shape)}")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def constant(value):
    """Every entry (or, for an array of the parameter's shape, each entry) equal to `value`."""
    return partial(_constant, value)


def _constant(value, shape, seed, purpose):
    return np.broadcast_to(np.asarray(value, np.float32), shape).copy()


zeros = constant(0.0)
ones = constant(1.0)


def uniform(low, high):
    """U(low, high)."""
    return partial(_uniform, low, high)


def _uniform(low, high, shape, seed, purpose):
    return random.uniform(shape, seed, purpose, low=low, high=high)


def normal(std, mean=0.0):
    """N(mean, std^2)."""
    return partial(_normal, std, mean)


def _normal(std, mean, shape, seed, purpose):
    z = random.normal(shape, seed, purpose)
    z *= np.float32(std)
    z += np.float32(mean)
    return z


def fan_in_uniform(fan_in):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): what PyTorch's Linear and convolutions use, for weight and bias."""
    bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
    return uniform(-bound, bound)


def xavier_uniform(gain=1.0):
    """U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)."""
    return partial(_xavier_uniform, gain)


def _xavier_uniform(gain, shape, seed, purpose):
    a = gain * math.sqrt(6 / sum(fans(shape)))
    return _uniform(-a, a, shape, seed, purpose)


def xavier_normal(gain=1.0):
    """N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return partial(_xavier_normal, gain)


def _xavier_normal(gain, shape, seed, purpose):
    return _normal(gain * math.sqrt(2 / sum(fans(shape))), 0.0, shape, seed, purpose)


def kaiming_uniform(negative_slope=0.0):
    """U(-b, b), b = g sqrt(3 / fan_in), g^2 = 2 / (1 + slope^2) (He et al. 2015, eq. 15)."""
    return partial(_kaiming_uniform, negative_slope)


def _kaiming_uniform(negative_slope, shape, seed, purpose):
    b = _rectifier_gain(negative_slope) * math.sqrt(3 / fans(shape)[0])
    return _uniform(-b, b, shape, seed, purpose)


def kaiming_normal(negative_slope=0.0):
    """N(0, s^2), s = g / sqrt(fan_in), g^2 = 2 / (1 + slope^2) (He et al. 2015, eq. 15)."""
    return partial(_kaiming_normal, negative_slope)


def _kaiming_normal(negative_slope, shape, seed, purpose):
    return _normal(_rectifier_gain(negative_slope) / math.sqrt(fans(shape)[0]), 0.0, shape, seed, purpose)


def _rectifier_gain(negative_slope):
    return math.sqrt(2 / (1 + negative_slope**2))


def marginal_logit(images, eps=1e-3):
    """log(p / (1 - p)) of each pixel's mean p over `images` ((N, ...), values in [0, 1]), flattened.

    As the output bias of a sigmoid generator it starts every sample at the data's mean image (Goodfellow et al.
    2014, in the released code). p is clipped to [eps, 1 - eps], away from the infinities. `ValueError` for values that
    are not in [0, 1].
    """
    if np.size(images) and not 0 <= np.min(images) <= np.max(images) <= 1:
        raise ValueError(f"marginal_logit: values must lie in [0, 1], not from {np.min(images)} to {np.max(images)}")
    p = np.clip(np.mean(images, axis=0, dtype=np.float64).ravel(), eps, 1 - eps)
    return constant(np.log(p / (1 - p)))
