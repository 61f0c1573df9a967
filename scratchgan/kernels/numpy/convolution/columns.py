"""Convolution as one matrix product with a matrix of columns (im2col), a block of outputs at a time.

The column of an output (n, i, j) holds the kH kW C entries of x that it sees. With the columns of all outputs as the
rows of a matrix K (N OH OW, kH kW C), the weight as w (kH kW C, O) and y as (N OH OW, O),

    y = K w        dK = dy w^T, each entry added to where it came from in x        dw = K^T dy

A block of columns fits into a core's cache and is made again where it is needed again.
"""

import itertools
import math
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import as_strided

from scratchgan.kernels.numpy import parallel
from scratchgan.kernels.numpy.convolution.layout import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    WEIGHT,
    channels_last,
    empty_images,
    memory_of_weight,
)
from scratchgan.kernels.numpy.gemm import dot

BLOCK = 1 << 18  # numbers in a block of columns


class Columns:
    """For any kernel without groups; see `scratchgan.layers.convolution.Taps`."""

    @staticmethod
    def fits(geometry, x_shape, y_shape):
        return geometry.groups == 1

    def __init__(self, geometry, weight, x_shape, y_shape):
        self.geometry, self.weight, self.x_shape, self.y_shape = geometry, weight, x_shape, y_shape
        self.n, self.c, self.h, self.w = x_shape
        self.o, self.oh, self.ow = y_shape[1:]
        self.few = self.c < 8  # channels: then long runs of memory are rows of pixels, else the channels of a pixel
        self.k = self.c * geometry.kernel[0] * geometry.kernel[1]

    def matrix(self):
        return self.weight.transpose(WEIGHT).reshape(self.k, self.o)

    def shares(self):
        """For each core a list of slices of the samples; the columns of a slice make a block."""
        cores = parallel.workers()
        pieces = -(-self.n * self.k * self.oh * self.ow // BLOCK)
        parts = parallel.split(slice(0, self.n), -(-pieces // cores) * cores)
        return [parts[share] for share in parallel.split(slice(0, len(parts)), cores)]

    def forward(self, x):
        y, w = empty_images(self.y_shape, x.dtype), self.matrix()
        X, Y = x.transpose(CHANNELS_LAST), y.transpose(CHANNELS_LAST)
        parallel.run([partial(self._forward, X, Y, w, parts) for parts in self.shares()])
        return y

    def _forward(self, X, Y, w, parts):
        for part, rows, K in self.columns_of(X, parts):
            y = Y[part, rows]
            if y.flags.c_contiguous:
                dot(K, w, y.reshape(-1, self.o))
            else:
                y[...] = np.dot(K, w).reshape(y.shape)

    def weight_gradient(self, x, dy, out=None):
        X, dY, shares = x.transpose(CHANNELS_LAST), channels_last(dy), self.shares()
        sums = np.zeros((len(shares), self.k, self.o), x.dtype)  # one a core: dw may be larger than x and y
        parallel.run([partial(self._weight_gradient, X, dY, parts, total) for parts, total in zip(shares, sums)])
        dw = memory_of_weight(out, self.weight.shape, x.dtype)
        np.sum(sums, axis=0, out=dw.transpose(WEIGHT).reshape(self.k, self.o))
        return dw

    def _weight_gradient(self, X, dY, parts, total):
        for part, rows, K in self.columns_of(X, parts):
            total += np.dot(K.T, dY[part, rows].reshape(-1, self.o))

    def columns_of(self, X, parts):
        """(samples, rows of y, their K) for each block."""
        for part, padded, blocks in self.places(X.dtype, parts):
            padded.fill(0)
            self.inside(padded)[...] = X[part]
            for rows, seen, columns, K in blocks:
                columns[...] = seen
                yield part, rows, K

    def input_gradient(self, dy):
        dx = empty_images(self.x_shape, dy.dtype, CHANNELS_FIRST if self.few else CHANNELS_LAST)
        dX, dY, w = dx.transpose(CHANNELS_LAST), channels_last(dy), self.matrix()
        parallel.run([partial(self._input_gradient, dX, dY, w, parts) for parts in self.shares()])
        return dx

    def _input_gradient(self, dX, dY, w, parts):
        for part, padded, blocks in self.places(dX.dtype, parts):
            padded.fill(0)
            for rows, seen, columns, K in blocks:
                dot(dY[part, rows].reshape(-1, self.o), w.T, K)
                for r, q in np.ndindex(self.geometry.kernel):  # by one entry no two outputs see the same
                    seen[:, :, :, r, q] += columns[:, :, :, r, q]
            dX[part] = self.inside(padded)

    # -- memory ------------------------------------------------------------------------------------------------

    def places(self, dtype, parts):
        """(samples, `padded`, blocks) for each part: memory to work in, laid out anew where lengths change.

        padded (n, height, width, C), for x with its padding. A block: rows of y, what their columns see of `padded`
        and memory for that, (n, rows, OW, kH, kW, C), and this memory as K.
        """
        height, width = (size + sum(padding) for size, padding in zip((self.h, self.w), self.geometry.padding))
        # More than one piece where one sample makes more than a block.
        pieces = parallel.split(slice(0, self.oh), -(-self.k * self.oh * self.ow // BLOCK))
        most = max(rows.stop - rows.start for rows in pieces)
        for n, alike in itertools.groupby(parts, lambda part: part.stop - part.start):
            shape = (self.c, n, height, width) if self.few else (n, height, width, self.c)
            padded, memory = parallel.scratch(dtype, shape, (n * most * self.ow * self.k,))
            padded = padded.transpose(1, 2, 3, 0) if self.few else padded
            seen, blocks = self.seen(padded), []
            for rows in pieces:
                columns = self.block(memory, n, rows)
                blocks.append((rows, seen[:, rows], columns, columns.reshape(-1, self.k)))
            for part in alike:
                yield part, padded, blocks

    def block(self, columns, n, rows):
        """The part of `columns` for n samples and these rows of y: (n, rows, OW, kH, kW, C)."""
        outputs, column = (n, rows.stop - rows.start, self.ow), (*self.geometry.kernel, self.c)
        place = columns[:math.prod(outputs) * self.k]
        if self.few:
            return place.reshape(*column, *outputs).transpose(3, 4, 5, 0, 1, 2)
        return place.reshape(*outputs, *column)

    def inside(self, padded):
        """What is not padding."""
        (top, _), (left, _) = self.geometry.padding
        return padded[:, top:top + self.h, left:left + self.w]

    def seen(self, padded):
        """A view of `padded` as the columns have it, (n, OH, OW, kH, kW, C): at [i, j, r, q] that of the pixel
        (s i + d r, s j + d q)."""
        (down, across), (dilation_r, dilation_q) = self.geometry.stride, self.geometry.dilation
        n, row, column, channel = padded.strides
        return as_strided(padded, (len(padded), self.oh, self.ow, *self.geometry.kernel, self.c),
                          (n, down * row, across * column, dilation_r * row, dilation_q * column, channel))
