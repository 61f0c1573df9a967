"""Pooling and nearest-neighbour upsampling: the size of images changes, there are no parameters.

Each pass is a loop over the k_h k_w taps of the window: the values that one tap sees over the whole image are a
strided slice, which works for any memory order. Results keep the memory order of what came in. The cores share the
images of a large batch.
"""

import functools
import math
from numbers import Integral, Real

import numpy as np

from scratchgan.backend import array_module, memory_order
from scratchgan.kernels import parallel
from scratchgan.layers.base import Layer
from scratchgan.layers.convolution import _pair, _short


def _empty(layer, slot, shape, like, dtype=None):
    """An array of this shape in the memory order of `like`."""
    return layer.empty_along(slot, shape, dtype or like.dtype, memory_order(like), array_module(like))


def _by_images(function, *arrays):
    """Call function(*arrays), which treats each image by itself; part by part, shared by the cores, where many are."""
    if array_module(arrays[0]) is not np or max(array.size for array in arrays) < parallel.SMALL:
        function(*arrays)
        return
    parts = parallel.split(slice(0, len(arrays[0])), parallel.workers())
    parallel.run([functools.partial(function, *(array[part] for array in arrays)) for part in parts])


class _Pooling(Layer):
    """What the two poolings share: window, sizes, taps. x (N, C, H, W) or (C, H, W); y (..., H', W'),

        H' = floor((H + 2 padding - dilation (k_h - 1) - 1) / stride) + 1, or ceil with `ceil_mode`, where the last
        window still has to start inside the image or its padding on the left.
    """

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        super().__init__()
        name = type(self).__name__
        self.kernel_size = _pair(name, "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else _pair(name, "stride", stride, 1)
        self.padding = _pair(name, "padding", padding, 0)
        self.dilation = _pair(name, "dilation", dilation, 1)
        self.ceil_mode = bool(ceil_mode)
        if any(p > k // 2 for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"{name}: padding {padding} is more than half of kernel_size {kernel_size}")

    def output_shape(self, shape):
        name = type(self).__name__
        if len(shape) not in (3, 4) or not all(shape[-3:]):
            raise ValueError(f"{name}: expected input of shape (N, C, H, W) or (C, H, W), of which only N may be 0, "
                             f"got {tuple(shape)}")
        sizes = []
        for n, k, s, p, d in zip(shape[-2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True):
            size = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if self.ceil_mode else 0)) // s + 1
            sizes.append(size - 1 if self.ceil_mode and (size - 1) * s >= n + p else size)
        if min(sizes) < 1:
            raise ValueError(f"{name}: the window does not fit into an input of shape {tuple(shape)}: the output would "
                             f"be {sizes[0]}x{sizes[1]}")
        return (*shape[:-2], *sizes)

    def taps(self, x_shape, y_shape):
        """For each tap of the window: which x it sees, and for which y, as indices of x and y."""
        rows, columns = ([self._seen(axis, tap, x_shape[axis - 2], y_shape[axis - 2])
                          for tap in range(self.kernel_size[axis])] for axis in (0, 1))
        for x_row, y_row in rows:
            for x_column, y_column in columns:
                yield (..., x_row, x_column), (..., y_row, y_column)

    def partition(self, shape):
        """Whether every value of x is in exactly one window."""
        return not any(self.padding) and self.dilation == (1, 1) and all(
            k == s and not n % k for n, k, s in zip(shape[-2:], self.kernel_size, self.stride, strict=True))

    def _seen(self, axis, tap, n, m):
        """y[i] sees x[i stride + offset]: the slices of x, of n, and of y, of m, for which that lies in the image."""
        stride, offset = self.stride[axis], tap * self.dilation[axis] - self.padding[axis]
        first = max(0, -(offset // stride))
        count = max(0, min(m, (n - 1 - offset) // stride + 1) - first)
        start = first * stride + offset
        return slice(start, start + count * stride, stride), slice(first, first + count)

    def __repr__(self):
        usual = {"stride": self.kernel_size, "padding": (0, 0), "dilation": (1, 1), "ceil_mode": False,
                 "count_include_pad": True, "divisor_override": None}
        settings = vars(self)
        words = [f"{name}={_short(settings[name])}" for name in usual if settings.get(name, usual[name]) != usual[name]]
        return f"{type(self).__name__}({', '.join([_short(self.kernel_size), *words])})"


class AvgPool2d(_Pooling):
    """y[i, j] = 1/n[i, j] sum over a, b of x[i s + a - p, j s + b - p]: the mean of each window of k_h x k_w values.

    Padding counts as zeros: n = k_h k_w, without what hangs over the padding in `ceil_mode`; with
    `count_include_pad=False` n counts the values inside the image only; `divisor_override` takes n's place. Every y
    hands each value that it saw the same share:

        dx[i s + a - p, j s + b - p] += dy[i, j] / n[i, j]
    """

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
                 divisor_override=None):
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        if divisor_override == 0:
            raise ValueError("AvgPool2d: divisor_override must not be 0")
        self.count_include_pad, self.divisor_override = bool(count_include_pad), divisor_override

    def forward(self, x):
        self.check_input(x)
        y = _empty(self, "y", self.output_shape(x.shape), x)
        self.cache = x.shape, y.shape, x.dtype
        divisor = self.divisor(x.shape, y)

        def averages(x, y):
            y.fill(0)
            for seen, by in self.taps(x.shape, y.shape):
                y[by] += x[seen]
            y /= divisor
        _by_images(averages, x, y)
        return y

    def divisor(self, x_shape, y):
        """n: one number, or (H', W') where windows reach over an edge."""
        if self.divisor_override is not None:
            return self.divisor_override
        if not self.ceil_mode and (self.count_include_pad or not any(self.padding)):
            return self.kernel_size[0] * self.kernel_size[1]
        counts, xp = [], array_module(y)
        for axis, (k, s, p) in enumerate(zip(self.kernel_size, self.stride, self.padding, strict=True)):
            start = xp.arange(y.shape[axis - 2]) * s - p
            edge = p if self.count_include_pad else 0
            counts.append(xp.minimum(start + k, x_shape[axis - 2] + edge) - xp.maximum(start, -edge))
        return (counts[0][:, None] * counts[1]).astype(y.real.dtype)

    def backward(self, dy, wrt="all"):
        x_shape, y_shape, dtype = self.kept()
        self.check_gradient(dy, y_shape, dtype, wrt)
        if wrt == "params":
            return None
        divisor, partition = self.divisor(x_shape, dy), self.partition(x_shape)
        dx, share = _empty(self, "dx", x_shape, dy), _empty(self, "share", y_shape, dy)

        def shares(dy, share, dx):
            array_module(dy).divide(dy, divisor, out=share)
            if not partition:
                dx.fill(0)
            for seen, by in self.taps(x_shape, y_shape):
                if partition:
                    dx[seen] = share
                else:
                    dx[seen] += share[by]
        _by_images(shares, dy, share, dx)
        return dx


class MaxPool2d(_Pooling):
    """y[i, j] = max over a, b of x[i s + a d - p, j s + b d - p]: the largest value of each window, padding left out.

    Only the value that won gets the gradient, so a value in several windows gets the sum of those that it won:

        dx[i s + a d - p, j s + b d - p] += dy[i, j]  for (a, b) = argmax of window (i, j), else 0

    Of equal values the first wins, row by row; NaN counts as larger than any, and the last of several wins: as in
    PyTorch. The others' share is a product with 0, though: of an infinite dy they get NaN.
    """

    def forward(self, x):
        self.check_input(x)
        shape = self.output_shape(x.shape)
        y = _empty(self, "y", shape, x)
        few = math.prod(self.kernel_size) < 128
        winner = _empty(self, "winner", shape, x, np.dtype("int8" if few else "int32"))  # number of the tap from 1 on
        special = array_module(x) is not np or x.dtype.kind == "c"
        _by_images(functools.partial(self.maxima, special), x, y, winner)
        self.cache = x.shape, winner, x.dtype
        return y

    def maxima(self, special, x, y, winner):
        """Write y and the winners. It takes half the time without the rules for NaN and for -inf, which wins only where
        it is first: so those are applied, again from the start, where either came out, or where `special` says so.
        """
        xp = array_module(x)
        y.fill(-np.inf)
        winner.fill(0)
        for tap, (seen, by) in enumerate(self.taps(x.shape, y.shape), 1):
            value = x[seen]
            wins = value.real > y[by].real
            if special:
                wins |= (value != value) | (winner[by] == 0)
            xp.maximum(winner[by], wins * winner.dtype.type(tap), out=winner[by])
            if x.dtype.kind == "c":
                y[by] = xp.where(wins, value, y[by])
            else:
                xp.maximum(y[by], value, out=y[by])  # the same, and much faster
        if not special and not (y > -np.inf).all():
            self.maxima(True, x, y, winner)

    def backward(self, dy, wrt="all"):
        x_shape, winner, dtype = self.kept()
        self.check_gradient(dy, winner.shape, dtype, wrt)
        if wrt == "params":
            return None
        dx, partition = _empty(self, "dx", x_shape, dy), self.partition(x_shape)

        def hand_on(dy, winner, dx):
            if not partition:
                dx.fill(0)
            for tap, (seen, by) in enumerate(self.taps(x_shape, winner.shape), 1):
                if partition:
                    array_module(dy).multiply(dy, winner == tap, out=dx[seen])
                else:
                    dx[seen] += dy[by] * (winner[by] == tap)
        _by_images(hand_on, dy, winner, dx)
        return dx


class Upsample(Layer):
    """y[n, c, i, j] = x[n, c, s(i), s(j)], s(i) = floor(i H / H'): each value again and again ("nearest").

    x (N, C, ...) with one to three axes after the channels, as in PyTorch; `size` or `scale_factor`, a number or one
    for each axis, says how large they become: H' = size, or floor(H scale_factor). A value gets the gradients of all
    its copies:

        dx[n, c, k, l] = sum over i, j with s(i) = k, s(j) = l of dy[n, c, i, j]

    Both passes go axis by axis. s(i) is computed in float32 for every dtype, as PyTorch does, whose indices these are;
    with a scale_factor it is floor(i / scale_factor), but i and floor(i / 2) where H' is H or 2 H.
    """

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

    def copies(self, x_shape, y_shape):
        """For each axis that changes: (axis, the pairs of `_copies`)."""
        return [(axis, _copies(x_shape[axis], y_shape[axis], scale))
                for axis, scale in enumerate(self.scales(len(x_shape) - 2), 2) if x_shape[axis] != y_shape[axis]]

    def forward(self, x):
        self.check_input(x)
        shape, y = self.output_shape(x.shape), x
        for axis, copies in self.copies(x.shape, shape):
            def repeat(before, y, axis=axis, copies=copies):
                for source, target in copies:
                    y[_along(axis, target)] = before[_along(axis, source)]
            before, y = y, _empty(self, f"y{axis}", (*shape[:axis + 1], *x.shape[axis + 1:]), y)
            _by_images(repeat, before, y)
        self.cache = x.shape, shape, x.dtype
        return self.own(x) if y is x else y

    def backward(self, dy, wrt="all"):
        x_shape, y_shape, dtype = self.kept()
        self.check_gradient(dy, y_shape, dtype, wrt)
        if wrt == "params":
            return None
        dx = dy
        for axis, copies in reversed(self.copies(x_shape, y_shape)):
            def add_up(after, dx, axis=axis, copies=copies):
                dx.fill(0)
                for source, target in copies:
                    dx[_along(axis, source)] += after[_along(axis, target)]
            after, dx = dx, _empty(self, f"dx{axis}", (*y_shape[:axis], *x_shape[axis:]), dx)
            _by_images(add_up, after, dx)
        return self.own(dy) if dx is dy else dx

    def __repr__(self):
        return f"Upsample(size={self.size})" if self.size is not None else f"Upsample(scale_factor={self.scale_factor})"


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
