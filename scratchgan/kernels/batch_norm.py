"""Statistics a channel and the passes that use them. Axis 1 of x is the channel; the others are averaged over.

Vectors of one value a channel are float64 (or complex128) whatever x is. Data far from zero keeps its digits, since
each pass subtracts the mean before it multiplies.

The plain formulas are `_plain_...`. For real NumPy arrays in any dense memory order there is a faster way: x is seen
as a matrix in the order of memory, with one channel a row or, repeated until rows are long enough for fast loops, one
channel a column. It is cut into blocks of rows, which threads share. Sums over a block are products with ones, which
BLAS does fastest; those of all blocks are added up in float64 and in order, so that threads do not change a bit.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from scratchgan import backend
from scratchgan.backend import array_module
from scratchgan.kernels import parallel

BLOCK = 1 << 19   # elements: so many are still in the cache for the next pass, and outweigh the calls of Python
WIDTH = 2048      # elements of a row, about: vectors as long, read for every row, stay in the first cache
LONG = 256        # neighbours in memory of one channel from which on they make rows of their own
# Where a vector broadcasts along a block, NumPy copies it over and over until it fills a buffer, of 8,192 elements by
# default, which costs as much as the operation does. With a buffer shorter than the rows it does not; rows shorter
# than this gain by the copies.
SHORT = 256
ROUGH = 32        # values a channel, about, for the first guess of its mean


# -- what the layers call ------------------------------------------------------------------------------------------


def statistics(x):
    """(mean, var) of each channel, var = mean of (x - mean)^2. x has at least one value a channel."""
    form = _form(x)
    if form is None:
        return _plain_statistics(x)
    guess = form.rough_mean(x)
    shift = form.spread(guess)

    def block(rows, x):
        (d,) = parallel.scratch(x.dtype, x.shape)
        np.subtract(x, shift(rows), out=d)
        total = form.sum(d)
        d *= d
        return total, form.sum(d)
    first, second = form.sums(block, x) / form.count
    return guess + first, second - first * first


def normalise(x, mean, scale, bias, out=None):
    """y = (x - mean) scale + bias, with a value a channel of each."""
    centre = mean.astype(_narrow(mean, x))
    bias = bias - (mean - centre) * scale
    form = _form(x, out, vectors=(mean, scale, bias))
    if form is None:
        return _result(_plain_normalise(x, centre, scale, bias), out)
    centre, scale, bias = (form.spread(vector.astype(x.dtype)) for vector in (centre, scale, bias))

    def block(rows, x, y):
        np.subtract(x, centre(rows), out=y)
        y *= scale(rows)
        y += bias(rows)
    form.each(block, x, out)
    return out


def gradient_sums(dy, x, mean):
    """(sum of dy, sum of dy (x - mean)) of each channel."""
    centre = mean.astype(_narrow(mean, x))
    form = _form(x, dy, vectors=(mean,))
    if form is None:
        total, product = _plain_gradient_sums(dy, x, centre)
    else:
        shift = form.spread(centre)

        def block(rows, x, dy):
            (d,) = parallel.scratch(x.dtype, x.shape)
            np.subtract(x, shift(rows), out=d)
            d *= dy
            return form.sum(dy), form.sum(d)
        total, product = form.sums(block, x, dy)
    return total, product - (mean - centre) * total


def input_gradient(dy, x, mean, scale, slope, offset, out=None):
    """dx = scale (dy + slope (x - mean) + offset), with a value a channel of each."""
    centre = mean.astype(_narrow(mean, x))
    offset = offset - (mean - centre) * slope
    form = _form(x, dy, out, vectors=(mean, scale, slope, offset))
    if form is None:
        return _result(_plain_input_gradient(dy, x, centre, scale, slope, offset), out)
    vectors = (form.spread(vector.astype(x.dtype)) for vector in (centre, scale, slope, offset))
    centre, scale, slope, offset = vectors

    def block(rows, x, dy, dx):
        np.subtract(x, centre(rows), out=dx)
        dx *= slope(rows)
        dx += dy
        dx += offset(rows)
        dx *= scale(rows)
    form.each(block, x, dy, out)
    return out


def stored_like(dy, x):
    """dy in the memory order of x: itself where it is in it already."""
    if array_module(x) is not np or (x.flags.c_contiguous and dy.flags.c_contiguous):
        return dy
    axes = backend.memory_order(x)
    if dy.transpose(axes).flags.c_contiguous or not x.transpose(axes).flags.c_contiguous:
        return dy
    return np.ascontiguousarray(dy.transpose(axes)).transpose(np.argsort(axes))


# -- the plain formulas --------------------------------------------------------------------------------------------


def _plain_statistics(x):
    axes, wide = (0, *range(2, x.ndim)), np.result_type(x.dtype, np.float64)
    mean = x.mean(axis=axes, dtype=wide)
    d = x - _along(mean, x)
    rest = d.mean(axis=axes, dtype=wide)  # of the mean, which was rounded to the precision of x
    return mean, (d * d).mean(axis=axes, dtype=wide) - rest * rest


def _plain_normalise(x, mean, scale, bias):
    return (x - _along(mean, x)) * _along(scale, x) + _along(bias, x)


def _plain_gradient_sums(dy, x, mean):
    axes, d = (0, *range(2, x.ndim)), dy * (x - _along(mean, x))
    return (dy.sum(axis=axes, dtype=np.result_type(dy.dtype, np.float64)),
            d.sum(axis=axes, dtype=np.result_type(d.dtype, np.float64)))


def _plain_input_gradient(dy, x, mean, scale, slope, offset):
    return (dy + (x - _along(mean, x)) * _along(slope, x) + _along(offset, x)) * _along(scale, x)


def _along(vector, x):
    """A value a channel, in the precision of x and shaped to go with it."""
    return vector.astype(_narrow(vector, x), copy=False).reshape(-1, *[1] * (x.ndim - 2))


def _narrow(vector, x):
    """The dtype of a vector that goes with x: real or complex as the vector, as precise as x."""
    real = np.finfo(x.dtype).dtype
    return np.result_type(real, np.complex64) if vector.dtype.kind == "c" else real


def _result(value, out):
    if out is None or out.dtype != value.dtype:
        return value
    out[...] = value
    return out


# -- blocks in the order of memory ---------------------------------------------------------------------------------


def _form(*arrays, vectors=()):
    """How to see these arrays as matrices; None where only the plain formula will do."""
    x = arrays[0]
    if array_module(x) is not np or not x.size or any(array.dtype.kind != "f" for array in (x, *vectors)):
        return None
    axes = backend.memory_order(x)
    for array in arrays:
        if array is None or array.dtype != x.dtype or not array.transpose(axes).flags.c_contiguous:
            return None
    return _form_of(axes, x.shape)


@functools.lru_cache(maxsize=1024)
def _form_of(axes, shape):
    sizes, channel = [shape[axis] for axis in axes], axes.index(1)
    folded = outside, channels, inside = math.prod(sizes[:channel]), shape[1], math.prod(sizes[channel + 1:])
    by_row = outside == 1 or inside >= LONG
    if by_row:
        pieces = next(n for n in range(1, inside + 1) if inside % n == 0 and inside // n <= 4 * WIDTH)
        lines = outside, channels, pieces
        matrix = math.prod(lines), inside // pieces
    else:
        most = max(1, min(outside, WIDTH // (channels * inside)))
        repeats = next(n for n in range(most, 0, -1) if outside % n == 0)
        lines = repeats, channels, inside
        matrix = outside // repeats, math.prod(lines)
    return _Form(axes, folded, by_row, lines, matrix, outside * inside)


class _Form(NamedTuple):
    axes: tuple      # of the arrays, from the slowest in memory to the fastest
    folded: tuple    # (outside, channels, inside): sizes in the order of memory around the channel
    by_row: bool     # a row of the matrix belongs to one channel; else a column does
    lines: tuple     # (n, channels, m): how the channel repeats from row to row, or from column to column
    matrix: tuple    # its shape
    count: int       # of values a channel

    def rough_mean(self, x):
        """The mean of some values of each channel, in x's dtype."""
        outside, _, inside = self.folded
        step = -(-outside // ROUGH)
        every = max(1, inside * min(outside, ROUGH) // ROUGH)
        return x.transpose(self.axes).reshape(self.folded)[::step, :, ::every].mean(axis=(0, 2))

    def spread(self, vector):
        """From a value a channel: a function of a slice of rows, giving what broadcasts with these rows."""
        lines = backend.empty((math.prod(self.lines),), vector.dtype)
        lines.reshape(self.lines)[...] = vector[:, None]
        return (lambda rows: lines[rows, None]) if self.by_row else (lambda rows: lines)

    def sum(self, block):
        """Its sum a row or a column, whichever belongs to one channel."""
        ones = np.ones(block.shape[1 if self.by_row else 0], block.dtype)
        return block @ ones if self.by_row else ones @ block

    def each(self, block, *arrays):
        """Call block(rows, part of each array's matrix) for slices of rows, several at a time."""
        matrices = [x.transpose(self.axes).reshape(self.matrix) for x in arrays]
        parallel.run([functools.partial(_call, block, rows, matrices) for rows in self.parts()])

    def sums(self, block, *arrays):
        """The two sums that block(rows, part of each array's matrix) returns, added up a channel."""
        parts = self.parts()
        partial = np.empty((1 if self.by_row else len(parts), 2, math.prod(self.lines)))

        def store(rows, *views):
            if self.by_row:
                partial[0, :, rows] = block(rows, *views)
            else:
                partial[parts.index(rows)] = block(rows, *views)
        self.each(store, *arrays)
        return partial.sum(axis=0).reshape(2, *self.lines).sum(axis=(1, 3))

    def parts(self):
        """Slices of rows: an even number, where it is worth while."""
        rows, width = self.matrix
        size = rows * width
        return parallel.split(slice(0, rows), 2 * -(-size // (2 * BLOCK)) if 4 * size >= BLOCK else 1)


def _call(block, rows, matrices):
    views = [matrix[rows] for matrix in matrices]
    if views[0].shape[1] < SHORT:
        block(rows, *views)
        return
    before = np.setbufsize(16)
    try:
        block(rows, *views)
    finally:
        np.setbufsize(before)
