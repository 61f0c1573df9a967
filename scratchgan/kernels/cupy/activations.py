"""The formulas of `scratchgan.layers.activations`, `maxout` and `regularising` in one kernel each.

Results keep the memory order of the first argument.
"""

import cupy

from scratchgan.backend import empty_like, memory_order
from scratchgan.kernels.cupy.elementwise import apply, elementwise

CODE = {  # name: arrays, numbers and what is made of them. A small product can end with any of these
    "leaky_relu": ("x", "slope", "x <= 0 ? (slope == 0 ? T(0) : slope * x) : x"),
    "leaky_relu_grad": ("dy y", "slope", "y > 0 ? dy : slope * dy"),
    "tanh": ("x", "", "tanh(x)"),
    "tanh_grad": ("dy y", "", "dy * (1 - y * y)")}
_leaky_relu, _leaky_relu_grad, _tanh, _tanh_grad = (elementwise(*code, name) for name, code in CODE.items())
_sigmoid = elementwise("x", "", "sigmoid(x)", "sigmoid")
_sigmoid_grad = elementwise("dy x y", "", "dy * (y * sigmoid(-x))", "sigmoid_grad")
_softplus = elementwise("x", "beta threshold", "beta * x > threshold ? x : "
                        "(max(beta * x, T(0)) + log1p(exp(-abs(beta * x)))) / beta", "softplus")
_softplus_grad = elementwise("dy x", "beta threshold", "beta * x > threshold ? dy : dy * sigmoid(beta * x)",
                             "softplus_grad")


def leaky_relu(x, slope):
    return apply(_leaky_relu, (x,), slope)


def leaky_relu_grad(dy, y, slope):
    return apply(_leaky_relu_grad, (dy, y), slope)


def tanh(x):
    return apply(_tanh, (x,))


def tanh_grad(dy, y):
    return apply(_tanh_grad, (dy, y))


def sigmoid(x):
    return apply(_sigmoid, (x,))


def sigmoid_grad(dy, x, y):
    return apply(_sigmoid_grad, (dy, x, y))


def softplus(x, beta=1.0, threshold=cupy.inf):
    return apply(_softplus, (x,), beta, threshold)


def softplus_grad(dy, x, beta=1.0, threshold=cupy.inf):
    return apply(_softplus_grad, (dy, x), beta, threshold)


# As CuPy's argmax: the first of equals, and the first NaN.
_maxout = cupy.ElementwiseKernel("raw T z, int64 pieces", "T y, raw bool won", """
    long long start = i * pieces, best = 0;
    for (long long k = 1; k < pieces && z[start + best] == z[start + best]; ++k)
        if (!(z[start + k] <= z[start + best])) best = k;
    for (long long k = 0; k < pieces; ++k) won[start + k] = k == best;
    y = z[start + best];
""", "scratchgan_maxout")
_maxout_grad = cupy.ElementwiseKernel("T dy, bool won", "T dz", "dz = won ? dy : T(0)",
                                       "scratchgan_maxout_grad")


def maxout(z):
    y, won = cupy.empty(z.shape[:-1], z.dtype), cupy.empty(z.shape, bool)
    _maxout(z, z.shape[-1], y, won)
    return y, won


def maxout_grad(dy, won):
    return _maxout_grad(dy[..., None], won)


_dropout = cupy.ElementwiseKernel("T x, bool kept, T scale", "T y, T mask", "mask = kept ? scale : T(0); y = x * mask",
                                  "scratchgan_dropout")


def dropout(x, kept, scale):
    y, mask, axes = empty_like(x), empty_like(x), memory_order(x)
    _dropout(x.transpose(axes), kept.transpose(axes), scale, y.transpose(axes), mask.transpose(axes))
    return y, mask
