"""Convolution as one matrix product with a matrix of columns (im2col), a block of outputs at a time.

The column of an output (n, i, j) holds the kH kW C entries of x that it sees. With the columns of all outputs as the
rows of a matrix K (N OH OW, kH kW C), the weight as w (kH kW C, O) and y as (N OH OW, O),

    y = K w        dK = dy w^T, each entry added to where it came from in x        dw = K^T dy

A block of columns fits into a core's cache and is made again where it is needed again.
"""

import math

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

    def parts(self):
        """The samples in pieces whose columns make a block, as many for each core."""
        cores = parallel.workers()
        pieces = -(-self.n * self.k * self.oh * self.ow // BLOCK)
        return parallel.split(slice(0, self.n), -(-pieces // cores) * cores)

    def blocks(self):
        """Rows of y, for the case that one sample makes more than a block."""
        return parallel.split(slice(0, self.oh), -(-self.k * self.oh * self.ow // BLOCK))

    def forward(self, x):
        y, w = empty_images(self.y_shape, x.dtype), self.matrix()
        X, Y = x.transpose(CHANNELS_LAST), y.transpose(CHANNELS_LAST)
        parallel.run([lambda part=part: self._forward(X[part], Y[part], w) for part in self.parts()])
        return y

    def _forward(self, X, Y, w):
        for rows, K in self.columns_of(X):
            if Y[:, rows].flags.c_contiguous:
                dot(K, w, Y[:, rows].reshape(-1, self.o))
            else:
                Y[:, rows] = np.dot(K, w).reshape(Y[:, rows].shape)

    def weight_gradient(self, x, dy, out=None):
        X, dY, parts = x.transpose(CHANNELS_LAST), channels_last(dy), self.parts()
        shares = parallel.split(slice(0, len(parts)), parallel.workers())
        sums = np.zeros((len(shares), self.k, self.o), x.dtype)  # one a core: dw may be larger than x and y
        parallel.run([lambda share=share, total=total: self._weight_gradient(X, dY, parts[share], total)
                      for share, total in zip(shares, sums)])
        dw = memory_of_weight(out, self.weight.shape, x.dtype)
        np.sum(sums, axis=0, out=dw.transpose(WEIGHT).reshape(self.k, self.o))
        return dw

    def _weight_gradient(self, X, dY, parts, total):
        for part in parts:
            for rows, K in self.columns_of(X[part]):
                total += np.dot(K.T, dY[part, rows].reshape(-1, self.o))

    def columns_of(self, X):
        """(rows of y, their K) for each block."""
        padded, columns = self.scratch(X)
        padded.fill(0)
        self.inside(padded)[...] = X
        seen = self.seen(padded)
        for rows in self.blocks():
            K = self.block(columns, len(X), rows)
            K[...] = seen[:, rows]
            yield rows, K.reshape(-1, self.k)

    def input_gradient(self, dy):
        dx = empty_images(self.x_shape, dy.dtype, CHANNELS_FIRST if self.few else CHANNELS_LAST)
        dX, dY, w = dx.transpose(CHANNELS_LAST), channels_last(dy), self.matrix()
        parallel.run([lambda part=part: self._input_gradient(dX[part], dY[part], w) for part in self.parts()])
        return dx

    def _input_gradient(self, dX, dY, w):
        padded, columns = self.scratch(dX)
        padded.fill(0)
        seen = self.seen(padded)
        for rows in self.blocks():
            dK = self.block(columns, len(dX), rows)
            dot(dY[:, rows].reshape(-1, self.o), w.T, dK.reshape(-1, self.k))
            for r, q in np.ndindex(self.geometry.kernel):  # by one entry no two outputs see the same
                seen[:, rows, :, r, q] += dK[:, :, :, r, q]
        dX[...] = self.inside(padded)

    # -- memory ------------------------------------------------------------------------------------------------

    def scratch(self, X):
        """Memory to work in: X with its padding, (n, height, width, C), and for a block of columns."""
        height, width = (size + sum(padding) for size, padding in zip((self.h, self.w), self.geometry.padding))
        shape = (self.c, len(X), height, width) if self.few else (len(X), height, width, self.c)
        most = max(rows.stop - rows.start for rows in self.blocks())
        padded, columns = parallel.scratch(X.dtype, shape, (len(X) * most * self.ow * self.k,))
        return padded.transpose(1, 2, 3, 0) if self.few else padded, columns

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
