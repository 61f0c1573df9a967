"""The convolution whose kernel is as large as the image, so that y is one pixel: a product of matrices.

With x as (N, H W C), w as (H W C, O) and y as (N, O): y = x w, dx = dy w^T, dw = x^T dy.
"""

import functools

import numpy as np

from scratchgan.kernels import parallel
from scratchgan.kernels.convolution.layout import CHANNELS_LAST, channels_last
from scratchgan.kernels.gemm import dot


class Whole:
    """The three sums; see `scratchgan.layers.convolution.Taps`."""

    x_axes = y_axes = CHANNELS_LAST

    @staticmethod
    def fits(geometry, x_shape, y_shape):
        return (geometry.kernel == tuple(x_shape[2:]) and y_shape[2:] == (1, 1) and geometry.padding == ((0, 0), (0, 0))
                and geometry.groups == 1 and (geometry.dilation == (1, 1)))

    def __init__(self, geometry, weight, x_shape, y_shape):
        self.weight, self.n, self.o = weight.transpose(2, 3, 1, 0).reshape(-1, y_shape[1]), x_shape[0], y_shape[1]

    def matrices(self, x, y):
        return x.reshape(self.n, -1), y.reshape(self.n, self.o)

    def correlate(self, x, y):
        x, out = self.matrices(channels_last(x), y.transpose(CHANNELS_LAST))
        parallel.run([lambda part=part: dot(x[part], self.weight, out[part]) for part in self.halves(self.n)])
        return y

    def spread(self, y, x):
        out, y = self.matrices(x.transpose(CHANNELS_LAST), channels_last(y))
        parallel.run([lambda part=part: dot(y[part], self.weight.T, out[part]) for part in self.halves(self.n)])
        return x

    def weigh(self, x, y, w, add=False):
        (x, y), out = self.matrices(channels_last(x), channels_last(y)), w.transpose(2, 3, 1, 0).reshape(-1, self.o)
        parallel.run([functools.partial(self._weigh, x[:, part].T, y, out[part], add)
                      for part in self.halves(len(out))])

    @staticmethod
    def _weigh(x, y, out, add):
        if add:
            out += np.dot(x, y)
        else:
            dot(x, y, out)

    @staticmethod
    def halves(size):
        """A slice for each core."""
        return parallel.split(slice(0, size), parallel.workers())
