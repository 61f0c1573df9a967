"""Steps of optimizers in pieces that stay in a cache, on all cores."""

import functools

import numpy as np

from scratchgan.kernels.numpy.parallel import by_blocks, scratch_like

CHUNK = 1 << 20  # elements: one chunk of Adam's arrays stays in the last-level cache from pass to pass
SMALL_CHUNK = 1 << 17  # of momentum's: smaller ones are more calls, and one for each core takes longer, too
LARGE = 1 << 17  # elements from which on it is worth sharing them between cores


def adam(theta, grad, m, v, beta1, beta2, rate, eps):
    kind = theta.dtype.type
    numbers = kind(beta1), kind(beta2), kind(rate), kind(eps)
    by_blocks(functools.partial(_adam, *numbers), theta, grad, m, v, shared_from=LARGE, block=CHUNK, beside_blas=True)


def _adam(beta1, beta2, rate, eps, theta, grad, m, v):
    s = scratch_like(theta)
    m *= beta1
    m += grad
    np.multiply(grad, grad, out=s)
    v *= beta2
    v += s
    np.sqrt(v, out=s)
    s += eps
    np.divide(m, s, out=s)
    s *= rate
    theta -= s


def momentum(theta, grad, v, factor, rate):
    kind = theta.dtype.type
    by_blocks(functools.partial(_momentum, kind(factor), kind(rate)), theta, grad, v, shared_from=LARGE,
              block=SMALL_CHUNK, beside_blas=True)


def _momentum(factor, rate, theta, grad, v):
    v *= factor
    v -= np.multiply(grad, rate, out=scratch_like(theta))
    theta += v
