"""Convolution and its transpose.

Both are made of one trilinear sum. With x (N, C, H, W), y (N, O, OH, OW), a weight w (O, C, kH, kW), and the
stride s, dilation d and padding p of each direction,

    S(y, w, x) = sum over n, o, c, i, j, r, q of   y[n, o, i, j]  w[o, c, r, q]  x[n, c, s i + d r - p, s j + d q - p]

where x is zero outside (with groups, o and c are of one group). S is linear in each of the three, so the factor of
one, all that it is multiplied with, is the partial derivative of S with respect to it. Convolution is

    y = dS/dy                 the factor of y

With dy = dL/dy, a change of x or w changes L by sum dy (change of y), which is the change of S(dy, w, x). So

    dx = dL/dx = dS/dx        the factor of x, with dy in the place of y
    dw = dL/dw = dS/dw        the factor of w, likewise

The transposed convolution is x = dS/dx, and its gradients are the other two factors. `Taps` computes all three.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from scratchgan import initializers, kernels
from scratchgan.backend import array_module, empty
from scratchgan.layers.base import Layer


@dataclass(frozen=True)
class Geometry:
    """Where a kernel lies; each is a pair (vertical, horizontal), `padding` a pair of (before, after)."""

    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int

    def output_size(self, size):
        """The size of y for an x of this size."""
        return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d
                     in zip(size, self.kernel, self.stride, self.padding, self.dilation))

    def input_size(self, size, extra=(0, 0)):
        """The smallest size of x for a y of this size, and `extra`."""
        return tuple((n - 1) * s - sum(p) + d * (k - 1) + 1 + e for n, k, s, p, d, e
                     in zip(size, self.kernel, self.stride, self.padding, self.dilation, extra))


class Taps:
    """The three factors, tap by tap: the kernel's entry (r, q) joins every y[i, j] to one x.

    weight (O, C / groups, kH, kW), each output seeing only the channels of its group; x_shape and y_shape of what
    comes. Faster ways to the same: `scratchgan.kernels.numpy.convolution`.
    """

    def __init__(self, geometry, weight, x_shape, y_shape):
        self.geometry, self.weight, self.x_shape, self.y_shape = geometry, weight, x_shape, y_shape

    def forward(self, x):
        """y[n, o, i, j] = sum_{c, r, q} w[o, c, r, q] x[n, c, s i + d r - p, s j + d q - p]."""
        padded, y = self.padded(x), 0
        for r, q, rows, columns in self.taps():
            y = y + self.tap_weight(r, q) @ self.grouped(padded[:, :, rows, columns])
        return y.reshape(self.y_shape)

    def input_gradient(self, dy):
        """dx[n, c, s i + d r - p, s j + d q - p] += sum_o w[o, c, r, q] dy[n, o, i, j], for every r, q, i, j."""
        (top, bottom), (left, right) = self.geometry.padding
        n, c, h, w = self.x_shape
        dtype = np.result_type(self.weight.dtype, dy.dtype)
        padded = array_module(dy).zeros((n, c, top + h + bottom, left + w + right), dtype)
        for r, q, rows, columns in self.taps():
            seen = padded[:, :, rows, columns]
            seen += (self.tap_weight(r, q).swapaxes(1, 2) @ self.grouped(dy)).reshape(seen.shape)
        return padded[:, :, top:top + h, left:left + w]

    def weight_gradient(self, x, dy, out=None):
        """dw[o, c, r, q] = sum_{n, i, j} dy[n, o, i, j] x[n, c, s i + d r - p, s j + d q - p]."""
        padded, dtype = self.padded(x), np.result_type(x.dtype, dy.dtype)
        dw = out if out is not None and out.dtype == dtype else empty(self.weight.shape, dtype, xp=array_module(x))
        for r, q, rows, columns in self.taps():
            seen = self.grouped(padded[:, :, rows, columns])
            dw[:, :, r, q] = (self.grouped(dy) @ seen.swapaxes(2, 3)).sum(axis=0).reshape(self.weight.shape[:2])
        return dw

    def taps(self):
        """(r, q, rows, columns): an entry of the kernel, and the slices of x, padded, that it sees."""
        g = self.geometry
        for r in range(g.kernel[0]):
            for q in range(g.kernel[1]):
                yield r, q, *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s
                              in zip((r, q), g.dilation, self.y_shape[2:], g.stride))

    def padded(self, x):
        return array_module(x).pad(x, ((0, 0), (0, 0), *self.geometry.padding))

    def grouped(self, a):
        """(N, channels, h, w) as (N, groups, channels / groups, h w)."""
        n, channels, h, w = a.shape
        return a.reshape(n, self.geometry.groups, channels // self.geometry.groups, h * w)

    def tap_weight(self, r, q):
        """w[:, :, r, q] as (groups, O / groups, C / groups)."""
        o, c = self.weight.shape[:2]
        return self.weight[:, :, r, q].reshape(self.geometry.groups, o // self.geometry.groups, c)


@kernels.formula
def convolution(geometry, weight, x_shape, y_shape):
    """The three factors for these shapes, as `Taps` has them."""
    return Taps(geometry, weight, x_shape, y_shape)


@kernels.formula
def add_bias(y, b, c=None):
    """y[n, o, i, j] += c[n] b[o], in place; c is None: b[o]."""
    b = b.reshape(-1, 1, 1)
    y += b if c is None else c.reshape(-1, 1, 1, 1) * b


@kernels.formula
def channel_sums(dy, out=None):
    """db[o] = sum_{n, i, j} dy[n, o, i, j], added up in float64. `out` is memory that the result may be written to."""
    return dy.sum(axis=(0, 2, 3), dtype=np.result_type(dy.dtype, np.float64))


class _Convolution(Layer):
    """What `Conv2d` and `ConvTranspose2d` share: arguments, shapes, the bias."""

    piecewise_linear = True

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, weight_shape,
                 weight_init, bias_init):
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.geometry = _geometry(self)
        weight_shape = (*weight_shape(groups), *self.geometry.kernel)
        default = initializers.fan_in_uniform(math.prod(weight_shape[1:]))
        # Memory holds the channels of x before those of y, which is how the products of the fast kernels read them.
        self.add_parameter("weight", (weight_shape, weight_init or default), storage=(2, 3, 1, 0))
        if bias:
            self.add_parameter("bias", ((out_channels,), bias_init or default))

    def shapes(self, x, size):
        """The shapes of input and output, both with N; `size` gives the output's (H, W) from the input's."""
        fits = x.ndim in (3, 4) and x.shape[-3] == self.in_channels
        self.expect(fits, x, f"(N, {self.in_channels}, H, W) or ({self.in_channels}, H, W)")
        y_size = size(x.shape[-2:])
        if min(y_size) < 1 or min(x.shape[-2:]) < 1:
            raise ValueError(f"{type(self).__name__}: an input of size {tuple(x.shape[-2:])} would give an output of "
                             f"size {y_size}: a kernel of {self.geometry.kernel} with padding {self.geometry.padding} "
                             "does not fit")
        n = len(x) if x.ndim == 4 else 1
        return (n, *x.shape[-3:]), (n, self.out_channels, *y_size)

    def biased(self, y, ndim):
        """y with the bias, without N where the input had none."""
        if "bias" in self.params:
            self.ops().add_bias(y, self.params["bias"])                         # + b
        return y if ndim == 4 else y[0]

    def accumulate_bias(self, dy):
        if "bias" in self.params:
            self.accumulate_by("bias", partial(self.ops().channel_sums, batched(dy)))   # db

    def biased_tangent(self, y, z, c):
        """y + c b, without N where z has none. Adds to db."""
        if c is not None and "bias" in self.params:
            weighted = batched(self.cotangent()) * c.reshape(-1, 1, 1, 1)
            self.accumulate_bias(weighted)                                      # db = sum_{n, i, j} c_n dy[n, o, i, j]
            self.ops().add_bias(y, self.params["bias"], c)                      # + c b
        return y if z.ndim == 4 else y[0]


class Conv2d(_Convolution):
    """y[n, o, i, j] = b[o] + sum_{c, r, q} W[o, c, r, q] x[n, c, s i + d r - p, s j + d q - p], x zero outside.

    x (N, in_channels, H, W) or (in_channels, H, W), W (out_channels, in_channels / groups, kH, kW), b (out_channels,);
    OH = floor((H + 2 p - d (kH - 1) - 1) / s) + 1. By the sum S at the head of this file, with dy for y,

        dx = the factor of x in S(dy, W, x)      dW = the factor of W      db[o] = sum_{n, i, j} dy[n, o, i, j]

    kernel_size, stride, padding and dilation are numbers or pairs; padding may be "same" (with stride 1: the output
    as large as the input, an odd zero going after it) or "valid" (none). Weight and bias start from U(-1/sqrt(f),
    1/sqrt(f)), f = in_channels / groups kH kW, as in PyTorch, unless initializers are given. (Dumoulin and Visin
    2016, "A guide to convolution arithmetic for deep learning".)
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, *,
                 weight_init=None, bias_init=None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                         lambda groups: (out_channels, in_channels // groups), weight_init, bias_init)

    def forward(self, x):
        ops = self.ops(x)
        x_shape, y_shape = self.shapes(x, self.geometry.output_size)
        convolution = ops.convolution(self.geometry, self.params["weight"], x_shape, y_shape)
        y = self.biased(convolution.forward(batched(x)), x.ndim)
        return self.keep(y, x, convolution)

    def backward(self, dy, wrt="all"):
        x, convolution = self.kept(dy, wrt)
        if wrt in ("all", "params"):
            self.accumulate_by("weight", partial(convolution.weight_gradient, batched(x), batched(dy)))     # dW
            self.accumulate_bias(dy)                                                            # db
        return None if wrt == "params" else convolution.input_gradient(batched(dy)).reshape(x.shape)  # dx

    def tangent(self, z, c=None):
        (_, convolution), dy, images = self.kept_for(z, c), batched(self.cotangent()), batched(z)
        y = convolution.forward(images)
        self.accumulate_by("weight", partial(convolution.weight_gradient, images, dy))          # dW, with z for x
        return self.biased_tangent(y, z, c)


class ConvTranspose2d(_Convolution):
    """Every input adds to kH x kW outputs, y and x in the sum S exchanging their parts:

        y[n, o, s i + d r - p, s j + d q - p] = b[o] + sum of x[n, c, i, j] W[c, o, r, q]

    x (N, in_channels, H, W) or (in_channels, H, W), W (in_channels, out_channels / groups, kH, kW), b (out_channels,);
    OH = (H - 1) s - 2 p + d (kH - 1) + 1 + output_padding. It is `Conv2d`'s gradient on its input, so that

        dx = that convolution of dy      dW = the factor of W in S(x, W, dy)      db[o] = sum_{n, i, j} dy[n, o, i, j]

    Arguments as in PyTorch; weight and bias start from U(-1/sqrt(f), 1/sqrt(f)), f = out_channels / groups kH kW.
    (Zeiler et al. 2010, "Deconvolutional networks"; Dumoulin and Visin 2016, chapter 4.)
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1,
                 bias=True, dilation=1, *, weight_init=None, bias_init=None):
        if isinstance(padding, str):
            raise ValueError(f"ConvTranspose2d: padding must be a number or a pair, not {padding!r}")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
                         lambda groups: (in_channels, out_channels // groups), weight_init, bias_init)
        self.output_padding = output_padding
        self.extra = pair("ConvTranspose2d", "output_padding", output_padding, 0)
        if any(extra >= max(s, d) for extra, s, d
               in zip(self.extra, self.geometry.stride, self.geometry.dilation)):
            raise ValueError(f"ConvTranspose2d: output_padding {self.extra} must be smaller than the stride "
                             f"{self.geometry.stride} or the dilation {self.geometry.dilation}")

    def forward(self, x):
        ops = self.ops(x)
        x_shape, y_shape = self.shapes(x, lambda size: self.geometry.input_size(size, self.extra))
        convolution = ops.convolution(self.geometry, self.params["weight"], y_shape, x_shape)
        y = self.biased(convolution.input_gradient(batched(x)), x.ndim)
        return self.keep(y, x, convolution)

    def backward(self, dy, wrt="all"):
        (x, convolution), images = self.kept(dy, wrt), batched(dy)
        dx = None if wrt == "params" else convolution.forward(images).reshape(x.shape)          # dx
        if wrt in ("all", "params"):
            self.accumulate_by("weight", partial(convolution.weight_gradient, images, batched(x)))          # dW
            self.accumulate_bias(dy)                                                            # db
        return dx

    def tangent(self, z, c=None):
        (_, convolution), dy, images = self.kept_for(z, c), batched(self.cotangent()), batched(z)
        self.accumulate_by("weight", partial(convolution.weight_gradient, dy, images))          # dW, with z for x
        return self.biased_tangent(convolution.input_gradient(images), z, c)


def batched(x):
    """x as (N, C, H, W)."""
    return x if x.ndim == 4 else x[None]


def _geometry(layer):
    name, padding = type(layer).__name__, layer.padding
    for what in ("in_channels", "out_channels", "groups"):
        value = getattr(layer, what)
        if not hasattr(value, "__index__") or value < 1:
            raise ValueError(f"{name}: {what} must be a whole number, 1 or more, not {value!r}")
    if layer.in_channels % layer.groups or layer.out_channels % layer.groups:
        raise ValueError(f"{name}: in_channels {layer.in_channels} and out_channels {layer.out_channels} must be "
                         f"multiples of groups {layer.groups}")
    kernel, stride, dilation = (pair(name, what, getattr(layer, what), 1)
                                for what in ("kernel_size", "stride", "dilation"))
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f'{name}: padding="same" needs stride 1, not {stride}')
        total = [d * (k - 1) for k, d in zip(kernel, dilation)]
        around = tuple((n // 2, n - n // 2) for n in total)
    elif isinstance(padding, str) and padding != "valid":
        raise ValueError(f'{name}: padding must be a number, a pair, "same" or "valid", not {padding!r}')
    else:
        around = tuple((p, p) for p in pair(name, "padding", 0 if padding == "valid" else padding, 0))
    return Geometry(kernel, stride, around, dilation, layer.groups)


def pair(name, what, value, low):
    """A number or a pair of them as a pair of ints, each `low` or more."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(hasattr(n, "__index__") and n >= low for n in pair):
        raise ValueError(f"{name}: {what} must be a whole number or a pair of them, {low} or more, not {value!r}")
    return tuple(int(n) for n in pair)
