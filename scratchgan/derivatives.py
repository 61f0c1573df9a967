"""Derivatives by complex step: exact to rounding, with no step size to choose and no second-order code.

For an analytic f that is real on real arguments, Taylor's series along the imaginary axis is

    f(x + i h v) = f(x) + i h f'(x) v - h^2 ...        so        f'(x) v = Im f(x + i h v) / h + O(h^2)

No two nearly equal numbers are subtracted, so h may be so small that the error O(h^2) is far below the last bit
(Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions"). Layers, losses and
objectives are written so that they may be run on complex values: they branch on the real part, and use no abs, sign
or conjugate.

Of a network that `is_piecewise_linear` the second-order product comes faster, in real numbers: `Layer.tangent`.
"""

import numpy as np

from scratchgan.backend import array_module

# Powers of two, so that multiplying and dividing by them rounds nothing; h^2 is still a normal number, since
# arithmetic on subnormal ones is slow on many processors.
STEPS = {np.dtype("float64"): 2.0**-100, np.dtype("float32"): 2.0**-40}


def step_of(dtype):
    """h for values of this (real or complex) dtype."""
    return STEPS[np.finfo(dtype).dtype]


def _moved(x, v):
    """(x + i h v / s, s / h) with s = max|v| (1 where v is zero), so that the step has the same size for any v."""
    if tuple(v.shape) != tuple(x.shape):
        raise ValueError(f"the direction has shape {tuple(v.shape)}, but the point has {tuple(x.shape)}")
    xp, h = array_module(x), step_of(x.dtype)
    scale = xp.abs(v).max() if v.size else v.dtype.type(1)
    scale = xp.where(scale == 0, xp.ones_like(scale), scale)
    return x + v.dtype.type(h) * 1j * (v / scale), scale / h


def directional_derivative(f, x, v):
    """d f(x + t v) / dt at t = 0, which is Im f(x + i h v) / h, in the shape of f(x).

    f  an analytic function of one array, complex to complex
    x  a real array, float32 (run in complex64) or float64 (complex128)
    v  the direction: real, of x's shape and precision; of any length, zero too

    Squire and Trapp 1998. `ValueError` if the shapes differ.
    """
    moved, per_step = _moved(x, v)
    return f(moved).imag * per_step


def gradient_derivative(network, x, dy, v, wrt="params", twin=None):
    """d/dt at t = 0 of the gradients that `network.backward(dy)` gives at x + t v: a second-order product.

    The ordinary forward and backward pass of a complex twin at x + i h v has the gradients' directional
    derivatives, times h, as its imaginary part. With L = sum(dy y),

        wrt = "params"   d(dL/dtheta)/dt = (d2L / dtheta dx) v, 1-D like `network.theta`
        wrt = "input"    d(dL/dx)/dt = (d2L / dx dx) v, in x's shape
        wrt = "all"      both: (the input's, the parameters')

    So the gradient of a penalty P(dL/dx) with respect to theta is `gradient_derivative(network, x, dy, v)` with
    v = dP / d(dL/dx) held fixed. `dy` is an array of y's shape, or a function y -> dL/dy (analytic, like the
    objectives), whose dependence on x then counts too. Of a tuple of inputs x, v moves the first. The network's own
    gradients, caches and buffers stay as they are. Random layers draw the network's next mask: `set_step` before tells
    which.

    `twin`: a complex twin of the network to use again, instead of a new one; random layers then draw its next mask.
    """
    x, *others = x if isinstance(x, tuple) else (x,)
    twin = network.twin("complex64" if x.dtype == np.float32 else "complex128") if twin is None else twin
    moved, per_step = _moved(x, v)
    y = twin.forward((moved, *others) if others else moved)
    twin.zero_grad()
    dx = twin.backward(dy(y) if callable(dy) else dy, wrt)
    dx = dx[0] if isinstance(dx, tuple) else dx
    dx = dx.imag * per_step if dx is not None else None
    if wrt == "input":
        return dx
    dtheta = twin.grad.imag * per_step
    return dtheta if wrt == "params" else (dx, dtheta)
