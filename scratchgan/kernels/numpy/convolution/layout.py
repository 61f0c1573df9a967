"""The order in memory of the images between convolutions."""

import numpy as np

from scratchgan.backend import empty_along
from scratchgan.kernels.numpy.reordering import reordered

CHANNELS_FIRST = (0, 1, 2, 3)  # N, C, H, W
CHANNELS_LAST = (0, 2, 3, 1)   # N, H, W, C: a pixel is one run of memory, as the matrix products like it
WEIGHT = (2, 3, 1, 0)          # kH, kW, C, O


def channels_last(x):
    """An NCHW array as a contiguous (N, H, W, C) one: a view if memory is in that order, else a copy."""
    images = x.transpose(CHANNELS_LAST)
    return images if images.flags.c_contiguous else reordered(np.empty(images.shape, x.dtype), images)


def empty_images(shape, dtype, axes=CHANNELS_LAST):
    """Memory for images (N, C, H, W) that holds the axes in this order."""
    return empty_along(shape, dtype, axes)


def memory_of_weight(out, shape, dtype):
    """`out` for the gradient of a weight (O, C, kH, kW), if it is stored as a network stores the weight; else fresh."""
    if out is not None and out.dtype == dtype and out.transpose(WEIGHT).flags.c_contiguous:
        return out
    return empty_along(shape, dtype, WEIGHT)
