"""What the measures share: looks at what they are given, distances in blocks, and standard errors."""

import numpy as np

from scratchgan import random

GROUPS = 10  # of the jackknife
ENTRIES = 1 << 21  # of a block of distances: 8 or 16 MiB


def matrix(what, x, least=1, dtype=None):
    """x (N, ...) as floats (N, D); `ValueError` unless there are at least so many rows, all of them finite."""
    x = np.asarray(x)
    if x.dtype.kind not in "fiub" or x.ndim < 2 or len(x) < least or not x[0].size:
        raise ValueError(f"{what}: expected {least} or more rows of numbers, got {x.dtype} of shape {x.shape}")
    if dtype is None:
        dtype = x.dtype if x.dtype in (np.float32, np.float64) else np.float64
    x = x.reshape(len(x), -1).astype(dtype, copy=False)
    if not np.isfinite(x).all():
        raise ValueError(f"{what}: some values are NaN or infinite")
    return x


def matrices(names, *arrays, least=1, dtype=None):
    """Some of them, with rows of one length and in one dtype."""
    arrays = [matrix(name, x, least, dtype) for name, x in zip(names, arrays, strict=True)]
    for name, x in zip(names, arrays):
        if x.shape[1] != arrays[0].shape[1]:
            raise ValueError(f"{names[0]} have {arrays[0].shape[1]} numbers each, {name} {x.shape[1]}: they must agree")
    dtype = np.result_type(*arrays)
    return [x.astype(dtype, copy=False) for x in arrays]


def blocks(n, size):
    """Slices of at most `size` that make up range(n)."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def rows_of(x, columns):
    """Slices of x such that a matrix of each of them over so many columns is of a bounded size."""
    return blocks(len(x), max(1, ENTRIES // max(1, columns)))


def squared_distances(x, y):
    """|x_i - y_j|^2 = |x_i|^2 - 2 x_i y_j + |y_j|^2, (N, M), never below 0. Its rounding error is one of |x|^2 and
    |y|^2: let the origin be in the midst of the points."""
    d = x @ y.T
    d *= -2
    d += np.einsum("ij,ij->i", x, x)[:, None]
    d += np.einsum("ij,ij->i", y, y)
    return np.maximum(d, 0, out=d)


def jackknife(statistic, *arrays, groups=GROUPS, seed=0):
    """Standard error of statistic(*arrays) by leaving out a tenth of the rows of each array in turn, chosen at random:

        se^2 = (g - 1)/g sum_i (s_i - mean s)^2,  s_i without the i-th of g groups

    (Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 11, with groups in place of rows; of a mean
    it is s / sqrt(N) in expectation). The bias that many measures have in N drops out. NaN of fewer than 2 rows.
    """
    groups = min(groups, *map(len, arrays))
    if groups < 2:
        return float("nan")
    group = [in_groups(len(x), groups, seed, i) for i, x in enumerate(arrays)]
    return spread([statistic(*(x[at != i] for x, at in zip(arrays, group))) for i in range(groups)])


def in_groups(n, groups, seed, which=0):
    """The group, 0 to groups - 1, of each of n rows of an array; groups of equal size, or one more."""
    return random.permutation(n, seed, f"metrics/jackknife/{which}") % groups


def spread(without):
    """The standard error that follows from the values without each of the groups."""
    return float(np.sqrt((len(without) - 1) * np.var(without)))


def standard_error(values):
    """s / sqrt(N) of a mean of N values."""
    return float(np.std(values) / np.sqrt(len(values)))
