"""The order in memory of the images between convolutions."""

import numpy as np

CHANNELS_FIRST = (0, 1, 2, 3)  # N, C, H, W
CHANNELS_LAST = (0, 2, 3, 1)   # N, H, W, C: a pixel is one run of memory, as the matrix products like it


def channels_last(x):
    """An NCHW array as a contiguous (N, H, W, C) one: a view if memory is in that order, else a copy."""
    return np.ascontiguousarray(x.transpose(CHANNELS_LAST))
