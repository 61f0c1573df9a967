"""The convolution whose kernel is as large as the image, so that y is one pixel: a product of matrices.

With x as (N, H W C), w as (H W C, O) and y as (N, O): y = x w, dx = dy w^T, dw = x^T dy.
"""

from scratchgan.kernels.numpy import parallel
from scratchgan.kernels.numpy.convolution.layout import (
    CHANNELS_LAST,
    WEIGHT,
    channels_last,
    empty_images,
    memory_of_weight,
)
from scratchgan.kernels.numpy.gemm import dot


class Whole:
    """See `scratchgan.layers.convolution.Taps`, whose results these equal but for rounding."""

    @staticmethod
    def fits(geometry, x_shape, y_shape):
        return (geometry.kernel == tuple(x_shape[2:]) and y_shape[2:] == (1, 1) and geometry.padding == ((0, 0), (0, 0))
                and geometry.groups == 1 and (geometry.dilation == (1, 1)))

    def __init__(self, geometry, weight, x_shape, y_shape):
        self.weight, self.x_shape, self.y_shape = weight, x_shape, y_shape
        self.matrix = matrix_of_weight(weight)

    def forward(self, x):
        y = empty_images(self.y_shape, x.dtype)
        X, Y = matrix(channels_last(x)), matrix(y.transpose(CHANNELS_LAST))
        parallel.run([lambda part=part: dot(X[part], self.matrix, Y[part]) for part in halves(len(X))])
        return y

    def input_gradient(self, dy):
        dx = empty_images(self.x_shape, dy.dtype)
        dX, dY = matrix(dx.transpose(CHANNELS_LAST)), matrix(channels_last(dy))
        parallel.run([lambda part=part: dot(dY[part], self.matrix.T, dX[part]) for part in halves(len(dY))])
        return dx

    def weight_gradient(self, x, dy, out=None):
        dw = memory_of_weight(out, self.weight.shape, x.dtype)
        X, dY, dW = matrix(channels_last(x)), matrix(channels_last(dy)), matrix_of_weight(dw)
        parallel.run([lambda part=part: dot(X[:, part].T, dY, dW[part]) for part in halves(len(dW))])
        return dw


def matrix(images):
    """(N, H, W, C) as (N, H W C)."""
    return images.reshape(len(images), -1)


def matrix_of_weight(w):
    """(O, C, kH, kW) as (kH kW C, O)."""
    return w.transpose(WEIGHT).reshape(-1, len(w))


def halves(size):
    """A slice for each core."""
    return parallel.split(slice(0, size), parallel.workers())
