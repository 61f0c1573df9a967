"""Fast convolutions, chosen by shape: each class has the three sums of `scratchgan.layers.convolution.Taps`."""

import numpy as np

from scratchgan.kernels.convolution.columns import Columns
from scratchgan.kernels.convolution.whole import Whole
from scratchgan.kernels.convolution.winograd import Winograd


def fast_convolution(geometry, weight, x_shape, y_shape, like):
    """The three sums done fast for x and y of these shapes and arrays like this one; None where nothing is faster.

    For real NumPy arrays only.
    """
    if not isinstance(like, np.ndarray) or like.dtype != weight.dtype or like.dtype.kind != "f" or not x_shape[0]:
        return None
    for kind in (Whole, Winograd, Columns):
        if kind.fits(geometry, x_shape, y_shape):
            return kind(geometry, weight, x_shape, y_shape)
    return None
