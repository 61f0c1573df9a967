"""The passes of layer normalisation: statistics of each sample, which the last axes of x hold.

The plain formulas are in `scratchgan.layers.layer_norm`. For real NumPy arrays there is a faster way, here, where
samples lie in memory one after the other, each dense in any order, or all side by side (features first); for others the
passes return None. x is seen as a matrix in the order of memory, with one sample a row, or a column. The cores share
blocks of rows; the parameters' gradients are added up in groups whose number does not depend on that of the threads,
and so neither does any bit of them.

A mean far from zero is subtracted before anything else, so that data there keep their digits; other samples save that
pass. No sample's y depends on the samples beside it.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from scratchgan.kernels import parallel
from scratchgan.kernels.batch_norm import NEAR, row_sums, stored_like

BLOCK = 1 << 20   # elements of a block of rows, about: with fewer, threads wait for each other between NumPy's calls
SMALL = 1 << 20   # elements: below, one thread is done before two would have agreed on who calls NumPy
GROUPS = 8        # of blocks, each with its own sums of the parameters' gradients
PIECE = 8192      # elements added up in the precision of x, at most; more would wake the threads of the BLAS
WIDTH = 2048      # elements of a row where samples are columns: as often side by side as fit
LONG = 256        # elements of a row from which on NumPy need not copy what is broadcast along it


# -- what the layer calls ------------------------------------------------------------------------------------------


def normalise(x, weight, bias, eps, axes, out):
    """(y, kept): y = xhat weight + bias with xhat = (x - centre) r + shift = (x - mean) r over the last `axes` axes.

    `kept` is (centre, shift, r), for `gradients`. The centre is the mean in the precision of x, or 0 where the mean is
    near; the shift is for what remains of it.
    """
    form = _form(axes, x, out, vectors=(weight, bias))
    if form is None:
        return None
    kept = np.empty((3, *x.shape[:x.ndim - axes], *[1] * axes), x.dtype)
    samples, weight, bias = form.samples(kept), form.line(weight), form.line(bias)

    def block(group, rows, x, y):
        _normalise(form, x, y, weight, bias, eps, samples[:, rows])
    form.each(block, x, out)
    return out, kept


def _normalise(form, x, y, weight, bias, eps, kept):
    centre, shift, r = kept
    with np.errstate(over="ignore"):  # such a mean counts as far
        rest, square = form.mean(x), form.mean(x, x)
        var = square - rest * rest
    centre[...] = np.where((rest * rest <= NEAR * var) & (var < math.inf), 0, rest)
    if centre.any():
        x = np.subtract(x, form.wide(centre), out=y)
        rest, square = form.mean(x), form.mean(x, x)
        var = square - rest * rest
    scale = (var + eps) ** -0.5
    shift[...], r[...] = -rest * scale, scale
    shift, r = form.wide(kept[1:])
    np.multiply(x, r, out=y)
    np.add(y, shift, out=y)
    y = form.by_feature(y)
    if weight is not None:
        np.multiply(y, weight, out=y)
    if bias is not None:
        np.add(y, bias, out=y)


def gradients(dy, x, kept, weight, axes, out=None, wrt="all"):
    """(dx, dweight, dbias), the last two as sums over the samples; None where `wrt` does not ask for it."""
    dy = stored_like(dy, x)
    form = _form(axes, x, dy, *[out] * (wrt != "params"), vectors=(weight,))
    if form is None:
        return None
    samples, weight = form.samples(kept), form.line(weight)
    sums = None if wrt == "input" else np.zeros((form.groups, 2, form.features), x.dtype)

    def block(group, rows, x, dy, dx=None):
        _gradients(form, dy, x, dx, weight, samples[:, rows], None if sums is None else sums[group])
    form.each(block, x, dy, *[out] * (wrt != "params"))
    totals = (None, None) if sums is None else [form.parameter(total, x) for total in sums.sum(axis=0)]
    return None if wrt == "params" else out, *totals


def _gradients(form, dy, x, dx, weight, kept, sums):
    centre, shift, r = form.wide(kept)
    xhat = parallel.scratch_like(x)
    if centre.any():
        x = np.subtract(x, centre, out=xhat)
    np.multiply(x, r, out=xhat)
    np.add(xhat, shift, out=xhat)
    if sums is not None:
        sums += form.over_samples(dy, xhat)
    if dx is None:
        return
    g = dy
    if weight is not None:
        np.multiply(form.by_feature(dy), weight, out=form.by_feature(dx))
        g = dx
    of_g, of_product = form.wide(np.array([form.mean(g), form.mean(g, xhat)], x.dtype))
    np.multiply(xhat, of_product, out=xhat)
    np.subtract(g, xhat, out=dx)
    np.subtract(dx, of_g, out=dx)
    np.multiply(dx, r, out=dx)


# -- samples as rows or columns in the order of memory -------------------------------------------------------------


def _form(axes, *arrays, vectors=()):
    """How to see these arrays as matrices; None where only the plain formulas will do."""
    x = arrays[0]
    for array in (*arrays, *vectors):
        if array is not None and not (isinstance(array, np.ndarray) and array.dtype == x.dtype):
            return None
    if x.dtype.kind != "f" or any(array is None or array.strides != x.strides for array in arrays):
        return None
    return _form_of(axes, x.shape, x.strides, x.itemsize)


@functools.lru_cache(maxsize=1024)
def _form_of(axes, shape, strides, step):
    order = sorted(range(len(shape)), key=lambda axis: -abs(strides[axis]))
    for axis in reversed(order):
        if shape[axis] > 1 and strides[axis] != step:
            return None
        step *= shape[axis]
    lead = len(shape) - axes
    count, features, leading = math.prod(shape[:lead]), math.prod(shape[lead:]), list(range(lead))
    inside = tuple(axis - lead for axis in order if axis >= lead)
    if not step:
        return None
    if order[:lead] == leading:
        rows = max(1, BLOCK // features)
        groups = 1 if count * features < SMALL else min(GROUPS, 2 * -(-count // (2 * rows)))
        parts = parallel.split(slice(0, count), groups)
        return _Form(order, inside, True, count, features, (count, features), 1, rows, parts)
    if order[axes:] == leading:
        most = max(1, min(features, WIDTH // count))
        repeats = next(n for n in range(most, 0, -1) if features % n == 0)
        matrix = features // repeats, repeats * count
        return _Form(order, inside, False, count, features, matrix, repeats, matrix[0], [slice(0, matrix[0])])
    return None


class _Form(NamedTuple):
    order: list      # the axes of the arrays, from the slowest in memory to the fastest
    inside: tuple    # the axes of a sample, the same
    by_row: bool     # a row of the matrix is a sample; else a column belongs to one
    count: int       # of samples
    features: int    # of a sample
    matrix: tuple    # its shape
    repeats: int     # how often the samples come along a row, where they are columns
    rows: int        # of a block
    parts: list      # slices of the rows, one a group

    @property
    def groups(self):
        return len(self.parts)

    def each(self, function, *arrays):
        """Call function(group, rows, these rows of the arrays' matrices) for each block of rows."""
        matrices = [array.transpose(self.order).reshape(self.matrix) for array in arrays]

        def work(group):
            part = self.parts[group]
            with parallel.long_runs(self.by_row and self.rows > 1 and self.features >= LONG):
                for start in range(part.start, part.stop, self.rows):
                    rows = slice(start, min(start + self.rows, part.stop))
                    function(group, rows if self.by_row else slice(None), *(matrix[rows] for matrix in matrices))
        parallel.run([functools.partial(work, group) for group in range(self.groups)])

    def mean(self, a, b=None):
        """Of a, or of a b, over each sample: pieces of it in the precision of a, their sum in float64."""
        if self.by_row:
            b = np.ones(self.features, a.dtype) if b is None else b
            total = row_sums(a, b, PIECE).astype(np.float64)[:, None]
        else:
            total = 0
            for i in range(0, len(a), LONG):
                part = a[i:i + LONG]
                sums = np.add.reduce(part) if b is None else np.einsum("ij,ij->j", part, b[i:i + LONG])
                total = total + sums.reshape(self.repeats, self.count).sum(axis=0, dtype=np.float64)
        return total / self.features

    def over_samples(self, dy, xhat):
        """The sums of dy xhat and of dy over the samples."""
        if self.by_row:
            return np.einsum("ij,ij->j", dy, xhat), np.add.reduce(dy)
        dy, xhat = self.by_feature(dy), self.by_feature(xhat)
        return np.vecdot(dy, xhat), np.einsum("ij->i", dy)

    def samples(self, kept):
        """Values a sample, as they go with the matrix, or with one of its columns."""
        return kept.reshape(len(kept), self.count, *[1] * self.by_row)

    def wide(self, values):
        """Such values as they go with the matrix."""
        return values if self.by_row or self.repeats == 1 else np.tile(values, self.repeats)

    def by_feature(self, block):
        """A block as a matrix that a parameter's `line` goes with."""
        return block if self.by_row else block.reshape(self.features, self.count)

    def line(self, parameter):
        """The values of a parameter in the order of memory of a sample."""
        if parameter is None:
            return None
        line = parameter.transpose(self.inside).reshape(self.features)
        return line if self.by_row else line[:, None]

    def parameter(self, line, x):
        """The other way: an array in the shape of a sample."""
        shape = x.shape[x.ndim - len(self.inside):]
        return line.reshape([shape[axis] for axis in self.inside]).transpose(np.argsort(self.inside))
