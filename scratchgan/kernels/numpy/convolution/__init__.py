"""Fast convolutions, chosen by shape: each class computes what `scratchgan.layers.convolution.Taps` does."""

from scratchgan.kernels.formulas import FORMULAS
from scratchgan.kernels.numpy.convolution.columns import Columns
from scratchgan.kernels.numpy.convolution.stride_one import StrideOne
from scratchgan.kernels.numpy.convolution.whole import Whole
from scratchgan.kernels.numpy.convolution.winograd import Winograd


def convolution(geometry, weight, x_shape, y_shape):
    for kind in (Whole, Winograd, StrideOne, Columns):
        if x_shape[0] and kind.fits(geometry, x_shape, y_shape):
            return kind(geometry, weight, x_shape, y_shape)
    return FORMULAS.convolution(geometry, weight, x_shape, y_shape)
