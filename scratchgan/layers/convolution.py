"""Convolution and its transpose.

Both are made of one trilinear sum. With x (N, C, H, W), y (N, O, OH, OW), a weight w (O, C, kH, kW), and the
stride s, dilation d and padding p of each direction,

    S = sum over n, o, c, i, j, r, q of   y[n, o, i, j]  w[o, c, r, q]  x[n, c, s i + d r - p, s j + d q - p]

where x is zero outside (with groups, o and c are of one group). S is linear in each of the three, and the factor of
one is what it is multiplied with, its partial derivative. Convolution is y = dS/dy. With dy = dL/dy a change of x or w
changes L by sum dy (change of y), which is the change of S(dy, w, x): so dL/dx = dS/dx and dL/dw = dS/dw, with dy in
the place of y. The transpose is x = dS/dx, and its gradients are the other two. `Taps` has the three factors,
`scratchgan.kernels` the same three faster.
"""

import functools
import math
from dataclasses import dataclass

from scratchgan import initializers, kernels
from scratchgan.backend import array_module
from scratchgan.layers.base import Layer


@dataclass(frozen=True)
class Geometry:
    """Where a kernel lies; each is a pair (vertical, horizontal), `padding` a pair of (before, after)."""

    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int

    def small(self, size):
        """The size of y for an x of this size."""
        return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d
                     in zip(size, self.kernel, self.stride, self.padding, self.dilation))

    def large(self, size, extra=(0, 0)):
        """The smallest size of x for a y of this size, and `extra`."""
        return tuple((n - 1) * s - sum(p) + d * (k - 1) + 1 + e for n, k, s, p, d, e
                     in zip(size, self.kernel, self.stride, self.padding, self.dilation, extra))


class Taps:
    """The three sums, tap by tap: the kernel's entry (r, q) joins every y[i, j] to one x.

    The channels may fall into groups, each output seeing only its own: w is (O, C / groups, kH, kW).
    """

    x_axes = y_axes = (0, 2, 3, 1)  # x and y come in this order of memory: channels last

    def __init__(self, geometry, weight):
        self.geometry, self.weight = geometry, weight

    def taps(self, x_size, y_size):
        """(r, q, where x padded has what the tap (r, q) sees), the slices of its last two axes."""
        g = self.geometry
        for r in range(g.kernel[0]):
            for q in range(g.kernel[1]):
                yield r, q, tuple(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s
                                  in zip((r, q), g.dilation, y_size, g.stride))

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

    def correlate(self, x, y):
        """y[n, o, i, j] = sum_{c, r, q} w[o, c, r, q] x[n, c, s i + d r - p, s j + d q - p], written into y."""
        y.fill(0)
        padded = self.padded(x)
        for r, q, (rows, columns) in self.taps(x.shape[2:], y.shape[2:]):
            seen = self.grouped(padded[:, :, rows, columns])
            y += (self.tap_weight(r, q) @ seen).reshape(y.shape)
        return y

    def spread(self, y, x):
        """x[n, c, s i + d r - p, s j + d q - p] = sum of w[o, c, r, q] y[n, o, i, j], written into x."""
        (top, bottom), (left, right) = self.geometry.padding
        n, c, h, w = x.shape
        padded = array_module(x).zeros((n, c, h + top + bottom, w + left + right), x.dtype)
        grouped = self.grouped(y)
        for r, q, (rows, columns) in self.taps(x.shape[2:], y.shape[2:]):
            seen = padded[:, :, rows, columns]
            seen += (self.tap_weight(r, q).swapaxes(1, 2) @ grouped).reshape(seen.shape)
        x[...] = padded[:, :, top:top + h, left:left + w]
        return x

    def weigh(self, x, y, w, add=False):
        """w[o, c, r, q] = sum_{n, i, j} y[n, o, i, j] x[n, c, s i + d r - p, s j + d q - p], into w or added to it."""
        if not add:
            w.fill(0)
        padded, grouped = self.padded(x), self.grouped(y)
        for r, q, (rows, columns) in self.taps(x.shape[2:], y.shape[2:]):
            seen = self.grouped(padded[:, :, rows, columns])
            w[:, :, r, q] += (grouped @ seen.swapaxes(2, 3)).sum(axis=0).reshape(w.shape[:2])


class _Convolution(Layer):
    """What `Conv2d` and `ConvTranspose2d` share: checks, the bias, and the way to the three sums."""

    def __init__(self, in_channels, out_channels, geometry, bias, weight_shape, weight_init, bias_init):
        super().__init__()
        self.in_channels, self.out_channels, self.geometry = in_channels, out_channels, geometry
        default = initializers.fan_in_uniform(weight_shape[1] * math.prod(geometry.kernel))
        # Memory holds the channels of x before those of y, which is how the products of the fast kernels read them.
        self.add_parameter("weight", (weight_shape, weight_init or default), storage=(2, 3, 1, 0))
        if bias:
            self.add_parameter("bias", ((out_channels,), bias_init or default))

    def batched(self, x):
        """x as (N, C, H, W); `ValueError` for another shape."""
        self.check_input(x)
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ValueError(f"{type(self).__name__}: expected input of shape (N, {self.in_channels}, H, W) or "
                             f"({self.in_channels}, H, W), got {tuple(x.shape)}")
        return x if x.ndim == 4 else x[None]

    def checked_size(self, x, size):
        if min(size) < 1 or min(x.shape[2:]) < 1:
            raise ValueError(f"{type(self).__name__}: an input of size {tuple(x.shape[2:])} would give an output of "
                             f"size {size}: a kernel of {self.geometry.kernel} with padding {self.geometry.padding} "
                             "does not fit")
        return len(x), self.out_channels, *size

    def sums(self, x_shape, y_shape, like):
        """The three sums for these shapes and arrays like this one: a fast kernel where there is one, else `Taps`.

        A complex twin may get a complex gradient for a real input, which the fast ones are not for.
        """
        weight, fast = self.params["weight"], None
        if self._grad.dtype == weight.dtype:
            fast = kernels.fast_convolution(self.geometry, weight, x_shape, y_shape, like)
        return fast or Taps(self.geometry, weight)

    def finished(self, y, x):
        """y with the bias, unbatched if x was."""
        if "bias" in self.params:
            y += self.params["bias"].reshape(-1, 1, 1)
        return y if x.ndim == 4 else y[0]

    def incoming(self, dy, wrt):
        """(x and dy as batches, the sums) of the last forward pass; db is done."""
        x, y_shape, sums = self.kept()
        self.check_gradient(dy, y_shape if x.ndim == 4 else y_shape[1:], self.result_dtype(x), wrt)
        if x.ndim == 3:
            x, dy = x[None], dy[None]
        if wrt != "input" and "bias" in self.params:
            self.accumulate("bias", kernels.channel_sums(dy))
        return x, dy, sums

    def room(self, slot, shape, like, axes):
        """Memory for y or dx, its axes in the order that the sums write best."""
        return self.empty_along(slot, shape, self.result_dtype(like), axes)

    def __repr__(self):
        g, pairs = self.geometry, {}
        padding = tuple(before for before, _ in g.padding)
        pairs["stride"], pairs["padding"] = g.stride, padding if padding == tuple(p[1] for p in g.padding) else "same"
        pairs["output_padding"], pairs["dilation"] = getattr(self, "output_padding", (0, 0)), g.dilation
        usual = {"stride": (1, 1), "dilation": (1, 1)}
        words = [f"{name}={_short(value)}" for name, value in pairs.items() if value != usual.get(name, (0, 0))]
        words += [f"groups={g.groups}"] * (g.groups > 1) + ["bias=False"] * ("bias" not in self.params)
        return (f"{type(self).__name__}"
                f"({', '.join([str(self.in_channels), str(self.out_channels), _short(g.kernel), *words])})")


class Conv2d(_Convolution):
    """y[n, o, i, j] = b[o] + sum_{c, r, q} W[o, c, r, q] x[n, c, s i + d r - p, s j + d q - p], x zero outside.

    x (N, in_channels, H, W) or (in_channels, H, W), W (out_channels, in_channels / groups, kH, kW), b (out_channels,);
    OH = floor((H + 2 p - d (kH - 1) - 1) / s) + 1. By the sum S at the head of this file, with dy for y,

        dx = the factor of x (`spread`)      dW = the factor of w (`weigh`)      db[o] = sum_{n, i, j} dy[n, o, i, j]

    kernel_size, stride, padding and dilation are numbers or pairs; padding may be "same" (with stride 1: the output
    as large as the input, an odd zero going after it) or "valid" (none). Weight and bias start from U(-1/sqrt(f),
    1/sqrt(f)), f = in_channels / groups kH kW, as in PyTorch, unless initializers are given. (Dumoulin and Visin
    2016, "A guide to convolution arithmetic for deep learning".)
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, *,
                 weight_init=None, bias_init=None):
        geometry = _geometry("Conv2d", in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        super().__init__(in_channels, out_channels, geometry, bias,
                         (out_channels, in_channels // groups, *geometry.kernel), weight_init, bias_init)

    def forward(self, x):
        images = self.batched(x)
        y_shape = self.checked_size(images, self.geometry.small(images.shape[2:]))
        sums = self.sums(images.shape, y_shape, x)
        self.cache = x, y_shape, sums  # dW needs x
        return self.finished(sums.correlate(images, self.room("y", y_shape, x, sums.y_axes)), x)

    def backward(self, dy, wrt="all"):
        images, dy_images, sums = self.incoming(dy, wrt)
        dx = None if wrt == "params" else sums.spread(dy_images, self.room("dx", images.shape, dy, sums.x_axes))
        if wrt != "input":
            self.accumulate_into("weight", functools.partial(sums.weigh, images, dy_images))
        return dx if dx is None or dy.ndim == 4 else dx[0]


class ConvTranspose2d(_Convolution):
    """Every input is spread over kH x kW outputs, y's factor and x's in the sum S exchanging their parts:

        y[n, o, s i + d r - p, s j + d q - p] = b[o] + sum of x[n, c, i, j] W[c, o, r, q]

    x (N, in_channels, H, W) or (in_channels, H, W), W (in_channels, out_channels / groups, kH, kW), b (out_channels,);
    OH = (H - 1) s - 2 p + d (kH - 1) + 1 + output_padding. It is `Conv2d`'s gradient on its input, so that

        dx = that convolution of dy (`correlate`)    dW = `weigh` of dy and x    db[o] = sum_{n, i, j} dy[n, o, i, j]

    Arguments as in PyTorch; weight and bias start from U(-1/sqrt(f), 1/sqrt(f)), f = out_channels / groups kH kW.
    (Zeiler et al. 2010, "Deconvolutional networks"; Dumoulin and Visin 2016, chapter 4.)
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1,
                 bias=True, dilation=1, *, weight_init=None, bias_init=None):
        if isinstance(padding, str):
            raise ValueError(f"ConvTranspose2d: padding must be a number or a pair, not {padding!r}")
        geometry = _geometry("ConvTranspose2d", in_channels, out_channels, kernel_size, stride, padding, dilation,
                             groups)
        self.output_padding = _pair("ConvTranspose2d", "output_padding", output_padding, 0)
        if any(extra >= max(s, d) for extra, s, d
               in zip(self.output_padding, geometry.stride, geometry.dilation)):
            raise ValueError(f"ConvTranspose2d: output_padding {self.output_padding} must be smaller than the stride "
                             f"{geometry.stride} or the dilation {geometry.dilation}")
        super().__init__(in_channels, out_channels, geometry, bias,
                         (in_channels, out_channels // groups, *geometry.kernel), weight_init, bias_init)

    def forward(self, x):
        images = self.batched(x)
        y_shape = self.checked_size(images, self.geometry.large(images.shape[2:], self.output_padding))
        sums = self.sums(y_shape, images.shape, x)
        self.cache = x, y_shape, sums  # dW needs x
        return self.finished(sums.spread(images, self.room("y", y_shape, x, sums.x_axes)), x)

    def backward(self, dy, wrt="all"):
        images, dy_images, sums = self.incoming(dy, wrt)
        dx = None if wrt == "params" else sums.correlate(dy_images, self.room("dx", images.shape, dy, sums.y_axes))
        if wrt != "input":
            self.accumulate_into("weight", functools.partial(sums.weigh, dy_images, images))
        return dx if dx is None or dy.ndim == 4 else dx[0]


def _geometry(name, in_channels, out_channels, kernel_size, stride, padding, dilation, groups):
    for what, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
        if not hasattr(value, "__index__") or value < 1:
            raise ValueError(f"{name}: {what} must be a whole number, 1 or more, not {value!r}")
    if in_channels % groups or out_channels % groups:
        raise ValueError(f"{name}: in_channels {in_channels} and out_channels {out_channels} must be multiples of "
                         f"groups {groups}")
    kernel, stride = _pair(name, "kernel_size", kernel_size, 1), _pair(name, "stride", stride, 1)
    dilation = _pair(name, "dilation", dilation, 1)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f'{name}: padding="same" needs stride 1, not {stride}')
        total = [d * (k - 1) for k, d in zip(kernel, dilation)]
        around = tuple((n // 2, n - n // 2) for n in total)
    elif isinstance(padding, str) and padding != "valid":
        raise ValueError(f'{name}: padding must be a number, a pair, "same" or "valid", not {padding!r}')
    else:
        around = tuple((p, p) for p in _pair(name, "padding", 0 if padding == "valid" else padding, 0))
    return Geometry(kernel, stride, around, dilation, groups)


def _pair(name, what, value, low):
    """A number or a pair of them as a pair of ints, each `low` or more."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(hasattr(n, "__index__") and n >= low for n in pair):
        raise ValueError(f"{name}: {what} must be a whole number or a pair of them, {low} or more, not {value!r}")
    return tuple(int(n) for n in pair)


def _short(pair):
    """(3, 3) as "3", (3, 2) as it is."""
    return str(pair[0]) if isinstance(pair, tuple) and pair[0] == pair[1] else repr(pair)
