"""Convolution of stride 1, by columns of x or of y: those that cost less.

From the other side it is a convolution, too. With w'[c, o, r', q'] = w[o, c, kH - 1 - r', kW - 1 - q'], padding
p' = d (k - 1) - p before and as much after as the size of x needs, the convolution from y to x

    x'[n, c, j] = sum_{o, r'} w'[c, o, r'] y'[n, o, j + d r' - p']

is the input gradient of the one from x to y, as r' = k - 1 - r shows. So y is its input gradient at x, and dw' its
weight gradient with the two in each other's place.
"""

from dataclasses import replace

from scratchgan.kernels.numpy.convolution.columns import Columns


class StrideOne:
    """See `scratchgan.layers.convolution.Taps`, whose results these equal but for rounding.

    To gather columns costs as much as they have channels, to add them up into an image four times that.
    """

    @staticmethod
    def fits(geometry, x_shape, y_shape):
        return (geometry.stride == (1, 1) and geometry.groups == 1
                and min(map(min, padding_of(geometry, x_shape, y_shape))) >= 0)

    def __init__(self, geometry, weight, x_shape, y_shape):
        self.weight, self.x_shape, self.y_shape = weight, x_shape, y_shape
        self.o, self.c = weight.shape[:2]
        self.there = Columns(geometry, weight, x_shape, y_shape)
        mirror = replace(geometry, padding=padding_of(geometry, x_shape, y_shape))
        self.back = Columns(mirror, mirrored(weight), y_shape, x_shape)

    def forward(self, x):
        return self.there.forward(x) if self.c < 4 * self.o else self.back.input_gradient(x)

    def input_gradient(self, dy):
        return self.back.forward(dy) if self.o <= 4 * self.c else self.there.input_gradient(dy)

    def weight_gradient(self, x, dy, out=None):
        if self.c < self.o:
            return self.there.weight_gradient(x, dy, out)
        return mirrored(self.back.weight_gradient(dy, x))


def mirrored(weight):
    return weight[:, :, ::-1, ::-1].swapaxes(0, 1)


def padding_of(geometry, x_shape, y_shape):
    """p', before and after, of rows and of columns. After is d (k - 1) - p, and more where x has an output padding."""
    return tuple((d * (k - 1) - before, x - y + before) for d, k, (before, _), x, y
                 in zip(geometry.dilation, geometry.kernel, geometry.padding, x_shape[2:], y_shape[2:]))
