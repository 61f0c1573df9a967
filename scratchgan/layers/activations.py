"""Activation functions. Each takes any shape and differentiates elementwise: dx = dy f'(x).

J is diagonal, so that `tangent` is the backward pass with z in the place of dy.

The formulas hold for complex values too, and branch on the real part, so that each function stays analytic away from
its kink: its complex-step derivative is the derivative on the branch taken.
"""

import math

import numpy as np

from scratchgan import kernels
from scratchgan.backend import array_module
from scratchgan.layers.base import Layer

UNDERFLOW_TO_ZERO = np.errstate(under="ignore")  # what a tail or a tiny gradient becomes, without a word


@kernels.formula
def leaky_relu(x, slope):
    """y = slope x where x <= 0, else x."""
    xp = array_module(x)
    return xp.where(x.real <= 0, slope * x if slope else xp.zeros_like(x), x)  # 0 times -inf would be NaN


@kernels.formula
def leaky_relu_grad(dy, y, slope):
    """dx = dy where y > 0, else slope dy. y stands for x, whose sign it has for a slope of 0 or more."""
    return array_module(y).where(y.real > 0, dy, slope * dy)


class LeakyReLU(Layer):
    """y = x for x > 0, else negative_slope x;  dx = dy (1 for x > 0, else negative_slope).

    At x = 0, where no derivative exists, the gradient is negative_slope dy, as in PyTorch. It is a product, also with
    ReLU's slope of 0: an infinite dy gives NaN where x <= 0. Where x is NaN it is negative_slope dy, PyTorch's dy.
    """

    keeps_rows = piecewise_linear = True

    def __init__(self, negative_slope=0.01):
        super().__init__()
        self.negative_slope = float(negative_slope)
        if not math.isfinite(self.negative_slope):
            raise ValueError(f"{type(self).__name__}: negative_slope must be a finite number, not {negative_slope}")

    def forward(self, x):
        y = self.ops(x).leaky_relu(x, self.negative_slope)
        return self.keep(y, y if self.negative_slope >= 0 else x)  # y, since the next layer keeps it anyway

    def backward(self, dy, wrt="all"):
        y = self.kept(dy, wrt)
        return None if wrt == "params" else self.ops().leaky_relu_grad(dy, y, self.negative_slope)

    def tangent(self, z, c=None):
        return self.ops().leaky_relu_grad(z, self.kept_for(z, c), self.negative_slope)


class ReLU(LeakyReLU):
    """y = max(x, 0);  dx = dy for x > 0, else 0 (at x = 0 too)."""

    def __init__(self):
        super().__init__(0.0)


@kernels.formula
def tanh(x):
    return array_module(x).tanh(x)


@kernels.formula
@UNDERFLOW_TO_ZERO
def tanh_grad(dy, y):
    return dy * (1 - y * y)


class Tanh(Layer):
    """y = tanh x;  dx = dy (1 - y^2)."""

    keeps_rows = True

    def forward(self, x):
        y = self.ops(x).tanh(x)
        return self.keep(y, y)  # backward needs y, not x

    def backward(self, dy, wrt="all"):
        y = self.kept(dy, wrt)
        return None if wrt == "params" else self.ops().tanh_grad(dy, y)

    def tangent(self, z, c=None):
        return self.ops().tanh_grad(z, self.kept_for(z, c))


@kernels.formula
@UNDERFLOW_TO_ZERO
def sigmoid(x):
    """y = 1 / (1 + exp(-x)) for x >= 0, else exp(x) / (1 + exp(x)): nothing overflows, small values keep digits."""
    xp = array_module(x)
    positive = x.real >= 0
    e = xp.exp(xp.where(positive, -x, x))
    return xp.where(positive, xp.ones_like(e), e) / (1 + e)


@kernels.formula
@UNDERFLOW_TO_ZERO
def sigmoid_grad(dy, x, y):
    """dx = dy y(x) y(-x)."""
    return dy * (y * sigmoid(-x))


class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x));  dx = dy y (1 - y) = dy y(x) y(-x)."""

    keeps_rows = True

    def forward(self, x):
        y = self.ops(x).sigmoid(x)
        return self.keep(y, x, y)  # not y alone: 1 - y has lost its digits where y is near 1, y(-x) has not

    def backward(self, dy, wrt="all"):
        x, y = self.kept(dy, wrt)
        return None if wrt == "params" else self.ops().sigmoid_grad(dy, x, y)

    def tangent(self, z, c=None):
        return self.ops().sigmoid_grad(z, *self.kept_for(z, c))


@kernels.formula
@UNDERFLOW_TO_ZERO
def softplus(x, beta=1.0, threshold=math.inf):
    """y = log(1 + exp(z)) / beta with z = beta x, as max(z, 0) + log(1 + exp(-|z|)); y = x where z > threshold."""
    xp, z = array_module(x), beta * x
    positive = z.real > 0
    e = xp.exp(xp.where(positive, -z, z))
    log1p = xp.log(1 + e) if e.dtype.kind == "c" else xp.log1p(e)  # CuPy's log1p is real only
    y = (xp.where(positive, z, xp.zeros_like(z)) + log1p) / beta
    return xp.where(z.real > threshold, x, y)


@kernels.formula
@UNDERFLOW_TO_ZERO
def softplus_grad(dy, x, beta=1.0, threshold=math.inf):
    """dx = dy sigmoid(beta x), or dy where beta x > threshold."""
    z = beta * x
    return array_module(x).where(z.real > threshold, dy, dy * sigmoid(z))


class Softplus(Layer):
    """y = log(1 + exp(beta x)) / beta, and y = x where beta x > threshold;  dx = dy sigmoid(beta x), or dy there."""

    keeps_rows = True

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta, self.threshold = float(beta), float(threshold)

    def forward(self, x):
        y = self.ops(x).softplus(x, self.beta, self.threshold)
        return self.keep(y, x)

    def backward(self, dy, wrt="all"):
        x = self.kept(dy, wrt)
        return None if wrt == "params" else self.ops().softplus_grad(dy, x, self.beta, self.threshold)

    def tangent(self, z, c=None):
        return self.ops().softplus_grad(z, self.kept_for(z, c), self.beta, self.threshold)

