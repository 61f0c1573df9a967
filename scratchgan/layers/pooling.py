"""Pooling and nearest-neighbour upsampling: the size of images changes, there are no parameters.

Each pass is a loop over the k_h k_w taps of the window: the values that one tap sees over the whole image are a
strided slice. Nothing here is fused or shared by cores.
"""

import functools
import math
from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np

from scratchgan import kernels
from scratchgan.backend import array_module, empty_along, memory_order
from scratchgan.layers.base import Layer
from scratchgan.layers.convolution import pair


@dataclass(frozen=True)
class Window:
    """Where windows lie, each a pair (vertical, horizontal), and the sizes (H, W) of x and y."""

    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    x_size: tuple = ()
    y_size: tuple = ()

    def taps(self):
        """For each tap of the window: which x it sees, and for which y, as indices of x and y."""
        rows, columns = ([self.seen(axis, tap) for tap in range(self.kernel[axis])] for axis in (0, 1))
        for x_row, y_row in rows:
            for x_column, y_column in columns:
                yield (..., x_row, x_column), (..., y_row, y_column)

    def seen(self, axis, tap):
        """y[i] sees x[i stride + offset]: the slices of x and of y for which that lies in the image."""
        stride, offset = self.stride[axis], tap * self.dilation[axis] - self.padding[axis]
        first = max(0, -(offset // stride))
        count = max(0, min(self.y_size[axis], (self.x_size[axis] - 1 - offset) // stride + 1) - first)
        start = first * stride + offset
        return slice(start, start + count * stride, stride), slice(first, first + count)


def images_like(x, size):
    """Memory for images of this size (H, W), in the memory order of x."""
    return empty_along((*x.shape[:-2], *size), x.dtype, memory_order(x), array_module(x))


@kernels.formula
def average_pool(x, window, n):
    """y[i, j] = 1/n[i, j] sum over the taps of x[tap of i, j]."""
    y = images_like(x, window.y_size)
    y.fill(0)
    for seen, by in window.taps():
        y[by] += x[seen]
    y /= n
    return y


@kernels.formula
def average_pool_grad(dy, window, n):
    """dx[tap of i, j] += dy[i, j] / n[i, j]."""
    dx, share = images_like(dy, window.x_size), dy / n
    dx.fill(0)
    for seen, by in window.taps():
        dx[seen] += share[by]
    return dx


@kernels.formula
def max_pool(x, window):
    """(y, winner): y[i, j] = max over the taps, and the number of the tap that won, from 1 on."""
    xp, y = array_module(x), images_like(x, window.y_size)
    winner = xp.zeros(y.shape, "int32")
    y.fill(-np.inf)
    for tap, (seen, by) in enumerate(window.taps(), 1):
        value = x[seen]
        wins = (value.real > y[by].real) | (value != value) | (winner[by] == 0)  # the first is right, NaN above all
        y[by], winner[by] = xp.where(wins, value, y[by]), xp.where(wins, tap, winner[by])
    return y, winner


@kernels.formula
def max_pool_grad(dy, winner, window):
    """dx[tap of i, j] += dy[i, j] where the tap won."""
    dx = images_like(dy, window.x_size)
    dx.fill(0)
    for tap, (seen, by) in enumerate(window.taps(), 1):
        dx[seen] += dy[by] * (winner[by] == tap)
    return dx


@kernels.formula
def max_pool_tangent(z, winner, window):
    """y[i, j] = z[tap of i, j] of the tap that won."""
    y = images_like(z, window.y_size)
    y.fill(0)
    for tap, (seen, by) in enumerate(window.taps(), 1):
        y[by] += z[seen] * (winner[by] == tap)
    return y


class _Pooling(Layer):
    """What the two poolings share: window and sizes. x (N, C, H, W) or (C, H, W); y (..., H', W'),

        H' = floor((H + 2 padding - dilation (k_h - 1) - 1) / stride) + 1, or ceil with `ceil_mode`, where the last
        window still has to start inside the image or its padding on the left.
    """

    piecewise_linear = True

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, *, ceil_mode=False):
        super().__init__()  # ceil_mode by its name alone: PyTorch's MaxPool2d has another argument in its place
        name = type(self).__name__
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, bool(ceil_mode)
        kernel = pair(name, "kernel_size", kernel_size, 1)
        self.geometry = Window(kernel, kernel if stride is None else pair(name, "stride", stride, 1),
                               pair(name, "padding", padding, 0), pair(name, "dilation", dilation, 1))
        if any(p > k // 2 for p, k in zip(self.geometry.padding, kernel)):
            raise ValueError(f"{name}: padding {padding} is more than half of kernel_size {kernel_size}")

    def window(self, x):
        self.expect(x.ndim in (3, 4) and all(x.shape[-3:]), x, "(N, C, H, W) or (C, H, W), of which only N may be 0")
        g, sizes = self.geometry, []
        for n, k, s, p, d in zip(x.shape[-2:], g.kernel, g.stride, g.padding, g.dilation):
            size = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if self.ceil_mode else 0)) // s + 1
            sizes.append(size - 1 if self.ceil_mode and (size - 1) * s >= n + p else size)
        if min(sizes) < 1:
            raise ValueError(f"{type(self).__name__}: the window does not fit into an input of shape {tuple(x.shape)}: "
                             f"the output would be {sizes[0]}x{sizes[1]}")
        return replace(g, x_size=tuple(x.shape[-2:]), y_size=tuple(sizes))


class AvgPool2d(_Pooling):
    """y[i, j] = 1/n[i, j] sum over a, b of x[i s + a - p, j s + b - p]: the mean of each window of k_h x k_w values.

    Padding counts as zeros: n = k_h k_w, without what hangs over the padding in `ceil_mode`; with
    `count_include_pad=False` n counts the values inside the image only; `divisor_override` takes n's place. Every y
    hands each value that it saw the same share:

        dx[i s + a - p, j s + b - p] += dy[i, j] / n[i, j]
    """

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                 divisor_override=None):
        super().__init__(kernel_size, stride, padding, ceil_mode=ceil_mode)
        if divisor_override == 0:
            raise ValueError("AvgPool2d: divisor_override must not be 0")
        self.count_include_pad, self.divisor_override = bool(count_include_pad), divisor_override

    def forward(self, x):
        ops, window = self.ops(x), self.window(x)
        n = self.divisor(window, x)
        return self.keep(ops.average_pool(x, window, n), window, n)

    def backward(self, dy, wrt="all"):
        window, n = self.kept(dy, wrt)
        return None if wrt == "params" else self.ops().average_pool_grad(dy, window, n)

    def tangent(self, z, c=None):
        return self.ops().average_pool(z, *self.kept_for(z, c))

    def divisor(self, window, x):
        """n: one number, or (H', W') where windows reach over an edge."""
        if self.divisor_override is not None:
            return self.divisor_override
        if not self.ceil_mode and (self.count_include_pad or not any(window.padding)):
            return math.prod(window.kernel)
        counts, xp = [], array_module(x)
        for n, m, k, s, p in zip(window.x_size, window.y_size, window.kernel, window.stride, window.padding):
            start, edge = xp.arange(m) * s - p, p if self.count_include_pad else 0
            counts.append(xp.minimum(start + k, n + edge) - xp.maximum(start, -edge))
        return (counts[0][:, None] * counts[1]).astype(x.real.dtype)


class MaxPool2d(_Pooling):
    """y[i, j] = max over a, b of x[i s + a d - p, j s + b d - p]: the largest value of each window, padding left out.

    Only the value that won gets the gradient, so a value in several windows gets the sum of those that it won:

        dx[i s + a d - p, j s + b d - p] += dy[i, j]  for (a, b) = argmax of window (i, j), else 0

    Of equal values the first wins, row by row; NaN counts as larger than any, and the last of several wins: as in
    PyTorch. The others' share is a product with 0, though: of an infinite dy they get NaN.
    """

    def forward(self, x):
        ops, window = self.ops(x), self.window(x)
        y, winner = ops.max_pool(x, window)
        return self.keep(y, winner, window)

    def backward(self, dy, wrt="all"):
        winner, window = self.kept(dy, wrt)
        return None if wrt == "params" else self.ops().max_pool_grad(dy, winner, window)

    def tangent(self, z, c=None):
        return self.ops().max_pool_tangent(z, *self.kept_for(z, c))


class Upsample(Layer):
    """y[n, c, i, j] = x[n, c, s(i), s(j)], s(i) = floor(i H / H'): each value again and again ("nearest").

    x (N, C, ...) with one to three axes after the channels, as in PyTorch; `size` or `scale_factor`, a number or one
    for each axis, says how large they become: H' = size, or floor(H scale_factor). A value gets the gradients of all
    its copies:

        dx[n, c, k, l] = sum over i, j with s(i) = k, s(j) = l of dy[n, c, i, j]

    Both passes go axis by axis. s(i) is computed in float32 for every dtype, as PyTorch does, whose indices these are;
    with a scale_factor it is floor(i / scale_factor), but i and floor(i / 2) where H' is H or 2 H.
    """

    piecewise_linear = True

    def __init__(self, size=None, scale_factor=None, mode="nearest"):
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError("Upsample: give either size or scale_factor")
        if mode != "nearest":
            raise ValueError(f'Upsample: mode must be "nearest", not {mode!r}')
        for what, value, kind in (("size", size, Integral), ("scale_factor", scale_factor, Real)):
            values = value if isinstance(value, tuple | list) else (value,)
            if value is not None and not all(isinstance(each, kind) and 0 < each < math.inf for each in values):
                raise ValueError(f"Upsample: {what} must be a number above 0, or one for each axis, not {value!r}")
        self.size, self.scale_factor = size, scale_factor

    def output_shape(self, shape):
        axes = len(shape) - 2
        if not 1 <= axes <= 3 or not all(shape[1:]):
            raise ValueError("Upsample: expected input of shape (N, C, ...) with one to three axes after the channels, "
                             f"of which only N may be 0, got {tuple(shape)}")
        sizes, given = shape[2:], self.each(axes)
        if len(given) != axes:
            raise ValueError(f"Upsample: {len(given)} sizes do not fit an input of shape {tuple(shape)}")
        if self.size is None:
            given = tuple(int(n * scale) for n, scale in zip(sizes, given, strict=True))
        if min(given) < 1:
            raise ValueError(f"Upsample: an input of shape {tuple(shape)} would become one of {given}")
        return (*shape[:2], *given)

    def each(self, axes):
        given = self.scale_factor if self.size is None else self.size
        return tuple(given) if isinstance(given, tuple | list) else (given,) * axes

    def scales(self, axes):
        """The scale_factor of each axis; None where a size was given."""
        return self.each(axes) if self.size is None else (None,) * axes

    def forward(self, x):
        self.ops(x)
        shape = self.output_shape(x.shape)
        changes = []                                        # (axis, its old and its new size, s(i) by pieces)
        for axis, scale in enumerate(self.scales(x.ndim - 2), 2):
            if x.shape[axis] != shape[axis]:
                changes.append((axis, x.shape[axis], shape[axis], _copies(x.shape[axis], shape[axis], scale)))
        return self.keep(self.repeated(x, changes), changes)

    def backward(self, dy, wrt="all"):
        changes = self.kept(dy, wrt)
        if wrt == "params":
            return None
        dx = dy
        for change in reversed(changes):                    # the gradients of all copies of a value, added up
            dx = self.ops().repeat_grad(dx, *change)
        return dx if changes else dy.copy(order="K")

    def tangent(self, z, c=None):
        return self.repeated(z, self.kept_for(z, c))

    def repeated(self, x, changes):
        y = x
        for change in changes:                              # each value again and again
            y = self.ops().repeat(y, *change)
        return y if changes else x.copy(order="K")


@kernels.formula
def repeat(x, axis, n, m, copies):
    """y[i] = x[s(i)] along one axis, of size n in x and m in y."""
    y = empty_along((*x.shape[:axis], m, *x.shape[axis + 1:]), x.dtype, memory_order(x), array_module(x))
    for source, target in copies:
        y[_along(axis, target)] = x[_along(axis, source)]
    return y


@kernels.formula
def repeat_grad(dy, axis, n, m, copies):
    """dx[k] = sum over i with s(i) = k of dy[i], along one axis."""
    dx = empty_along((*dy.shape[:axis], n, *dy.shape[axis + 1:]), dy.dtype, memory_order(dy), array_module(dy))
    dx.fill(0)
    for source, target in copies:
        dx[_along(axis, source)] += dy[_along(axis, target)]
    return dx


def _along(axis, part):
    return (*[slice(None)] * axis, part)


def nearest(n, m, scale):
    """s(i) for every i of the m outputs, on the host. `scale` is the scale_factor, or None where m was given."""
    if m in (n, 2 * n):
        return np.arange(m) // (m // n)
    step = np.float32(1 / scale if scale else n / m)
    return np.minimum(np.floor(np.arange(m, dtype=np.float32) * step).astype(int), n - 1)


@functools.lru_cache(1024)
def _copies(n, m, scale):
    """Pairs (slice of n, slice of m) that together are "y[i] = x[s(i)] for every i".

    A whole ratio r takes r pairs: all of x goes to every r-th y. Any other takes a pair for each i.
    """
    index, ratio = nearest(n, m, scale), m // n
    if m == ratio * n and (index == np.arange(m) // ratio).all():
        return [(slice(None), slice(first, None, ratio)) for first in range(ratio)]
    return [(slice(s, s + 1), slice(i, i + 1)) for i, s in enumerate(index.tolist())]
