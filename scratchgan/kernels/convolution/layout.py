"""The order in memory of the images between convolutions."""

import numpy as np

CHANNELS_LAST = (0, 2, 3, 1)  # N, H, W, C


def channels_last(x):
    """An NCHW array as a contiguous (N, H, W, C) one: a view if memory is in that order, else a copy."""
    return np.ascontiguousarray(x.transpose(CHANNELS_LAST))
