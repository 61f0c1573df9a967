"""Convolution as one matrix product with a matrix of columns (im2col), a block of outputs at a time.

The column of an output (n, i, j) holds the C kH kW entries of x that it sees. With the columns K of all outputs, the
weight as a matrix w (C kH kW, O) and y as one (N OH OW, O),

    y = K^T w        dK = w dy^T, each entry added to where it came from in x        dw = K dy

A block of columns fits into a core's cache and is made again where it is needed again. To be read in long runs, x is
copied with its padding, its pixels in a row sorted by their remainder (`phase`) modulo the stride.
"""

import math

import numpy as np

from scratchgan.kernels.numpy import parallel
from scratchgan.kernels.numpy.convolution.layout import CHANNELS_FIRST, CHANNELS_LAST, channels_last, empty_images
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
        self.x_axes = CHANNELS_FIRST if self.c < 8 else CHANNELS_LAST
        self.k = self.c * geometry.kernel[0] * geometry.kernel[1]

    def parts(self):
        """The samples in pieces whose columns make a block, as many for each core."""
        cores = parallel.workers()
        pieces = -(-self.n * self.k * self.oh * self.ow // BLOCK)
        return parallel.split(slice(0, self.n), -(-pieces // cores) * cores)

    def blocks(self):
        """Rows of y, for the case that one sample makes more than a block."""
        return parallel.split(slice(0, self.oh), -(-self.k * self.oh * self.ow // BLOCK))

    def matrix(self):
        return self.weight.transpose(1, 2, 3, 0).reshape(self.k, self.o)

    def forward(self, x):
        y, w = empty_images(self.y_shape, x.dtype), self.matrix()
        Y = y.transpose(CHANNELS_LAST)
        parallel.run([lambda part=part: self._forward(x[part], Y[part], w) for part in self.parts()])
        return y

    def _forward(self, x, Y, w):
        padded, columns = self.scratch(x)
        self.pad(x, padded)
        for rows in self.blocks():
            K = self.gather(padded, columns, rows)
            if Y[:, rows].flags.c_contiguous:
                dot(K.T, w, Y[:, rows].reshape(-1, self.o))
            else:
                Y[:, rows] = np.dot(K.T, w).reshape(Y[:, rows].shape)

    def input_gradient(self, dy):
        dx, w, dY = empty_images(self.x_shape, dy.dtype, self.x_axes), self.matrix(), channels_last(dy)
        parallel.run([lambda part=part: self._input_gradient(dx[part], dY[part], w) for part in self.parts()])
        return dx

    def _input_gradient(self, dx, dY, w):
        padded, columns = self.scratch(dx)
        padded.fill(0)
        for rows in self.blocks():
            dK = self.block(columns, len(dx), rows)
            dot(w, dY[:, rows].reshape(-1, self.o).T, dK.reshape(self.k, -1))
            for (r, q), seen in self.seen(padded, rows):
                seen += dK[:, r, q]
        for phase, pixels in self.phases(padded):
            dx.transpose(1, 0, 2, 3)[..., phase] = pixels

    def weight_gradient(self, x, dy, out=None):
        dY, parts = channels_last(dy), self.parts()
        shares = parallel.split(slice(0, len(parts)), parallel.workers())
        sums = np.zeros((len(shares), self.k, self.o), x.dtype)  # one a core: dw may be larger than x and y
        parallel.run([lambda share=share, total=total: self._weight_gradient(x, dY, parts[share], total)
                      for share, total in zip(shares, sums)])
        return sums.sum(axis=0).reshape(self.c, *self.geometry.kernel, self.o).transpose(3, 0, 1, 2)

    def _weight_gradient(self, x, dY, parts, total):
        for part in parts:
            padded, columns = self.scratch(x[part])
            self.pad(x[part], padded)
            for rows in self.blocks():
                total += np.dot(self.gather(padded, columns, rows), dY[part, rows].reshape(-1, self.o))

    # -- columns -----------------------------------------------------------------------------------------------

    def scratch(self, x):
        """Scratch memory: x padded, (C, phase, n, rows, pixels of the phase), and for a block of columns."""
        (top, bottom), (left, right) = self.geometry.padding
        stride = self.geometry.stride[1]
        most = max(rows.stop - rows.start for rows in self.blocks())
        return parallel.scratch(
            x.dtype, (self.c, stride, len(x), self.h + top + bottom, -(-(self.w + left + right) // stride)),
            (self.k * len(x) * most * self.ow,))

    def phases(self, padded):
        """(slice of the pixels of a row of x, where they are in `padded`) for each phase."""
        (top, _), (left, _) = self.geometry.padding
        stride = self.geometry.stride[1]
        for first in range(min(stride, self.w)):
            phase, start = (left + first) % stride, (left + first) // stride
            count = -(-(self.w - first) // stride)
            yield slice(first, None, stride), padded[:, phase, :, top:top + self.h, start:start + count]

    def pad(self, x, padded):
        padded.fill(0)
        for phase, pixels in self.phases(padded):
            pixels[...] = x.transpose(1, 0, 2, 3)[..., phase]

    def seen(self, padded, rows):
        """((r, q), what the kernel's entry (r, q) sees for these rows of y: (C, n, rows, OW)) for all entries."""
        (down, across), (dilation_r, dilation_q) = self.geometry.stride, self.geometry.dilation
        for r in range(self.geometry.kernel[0]):
            top = r * dilation_r + rows.start * down
            lines = slice(top, top + (rows.stop - rows.start - 1) * down + 1, down)
            for q in range(self.geometry.kernel[1]):
                start, phase = divmod(q * dilation_q, across)
                yield (r, q), padded[:, phase, :, lines, start:start + self.ow]

    def gather(self, padded, columns, rows):
        """The columns of these rows of y, (C kH kW, n rows OW)."""
        K = self.block(columns, padded.shape[2], rows)
        for (r, q), seen in self.seen(padded, rows):
            K[:, r, q] = seen
        return K.reshape(self.k, -1)

    def block(self, columns, n, rows):
        """The part of `columns` for n samples and these rows of y: (C, kH, kW, n, rows, OW)."""
        shape = self.c, *self.geometry.kernel, n, rows.stop - rows.start, self.ow
        return columns[:math.prod(shape)].reshape(shape)
