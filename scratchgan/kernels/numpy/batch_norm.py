"""The formulas of `scratchgan.layers.batch_norm` in few passes, on all cores, with float64's digits where it counts.

x is seen as a matrix in the order of memory, with one channel a row or, repeated until rows are long enough for fast
loops, one channel a column. It is cut into blocks of rows, which threads share if they are many. The sums of all blocks
are added up in float64 and in order, so that neither the number of threads nor their speed changes a bit. Arrays that
are not dense in memory, but for rows of channels that lie apart, take the formulas.

Where a mean is far from zero, passes subtract it before they multiply, so that data there keep their digits; elsewhere
they save that step.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from scratchgan import backend
from scratchgan.kernels.formulas import FORMULAS
from scratchgan.kernels.numpy import parallel

BLOCK = 1 << 19   # elements: so many are still in the cache for the next pass, and outweigh the calls of Python
SHARED_FROM = 1 << 20   # elements: below, one thread is done before two would have agreed on who calls NumPy
WIDTH = 2048      # elements of a row, about: vectors as long, read for every row, stay in the first cache
LONG = 256        # neighbours in memory of one channel from which on they make rows of their own
# Where a vector broadcasts along a block, NumPy copies it over and over until it fills a buffer, of 8,192 elements by
# default, which costs as much as the operation does. With a buffer shorter than the rows it does not; rows shorter
# than this gain by the copies.
SHORT = 256
NEAR = 16         # times the variance: a mean whose square is less costs a product with x no more than two bits


# -- the functions: x is (B, n, C, ...), vectors have a value for each batch and channel, (B, C) -----------------------


def channel_sums(dy, out=None):
    """Of blocks in dy's precision, of their sums in float64.

    NumPy's own sum loses digits where neighbours in memory are of different channels.
    """
    form = _form(dy)
    if form is None:
        return FORMULAS.channel_sums(dy)
    return form.add_up(lambda dy: (form.sum(dy), 0), dy)[0]


def batch_moments(x):
    batches = _batches([x])
    if batches is None:
        return FORMULAS.batch_moments(x)
    moments = np.array([_moments(form, x) for form, (x,), _ in batches])
    return moments[:, 0].reshape(len(x), -1), moments[:, 1].reshape(len(x), -1)


def _moments(form, x):
    mean, square = form.add_up(lambda x: (form.sum(x), form.dot(x, x)), x) / form.count
    var = square - mean * mean
    if ((mean * mean <= NEAR * var) & (var < math.inf)).all():
        return mean, var
    centre = mean.astype(x.dtype)

    def block(x, centre):
        d = _minus(x, centre)
        return form.sum(d), form.dot(d, d)
    rest, square = form.add_up(block, x, vectors=[centre]) / form.count
    return centre + rest, square - rest * rest


def batch_norm(x, mean, r, weight, bias):
    out = backend.empty_like(x)
    batches = _batches([x, out], mean, r, r * weight, bias)
    if batches is None:
        return FORMULAS.batch_norm(x, mean, r, weight, bias)
    for form, (x, y), (mean, r, scale, bias) in batches:
        centre, rest = _centre(x, mean, r)

        def block(x, y, scale, bias, centre=None):
            np.multiply(_minus(x, centre, y), scale, out=y)
            np.add(y, bias, out=y)
        form.each(block, x, y, vectors=[scale, bias - rest * scale, *centre])
    return out


def batch_norm_sums(dy, x, mean, r):
    dy = _stored_like(dy, x)
    batches = _batches([x, dy], mean, r)
    if batches is None:
        return FORMULAS.batch_norm_sums(dy, x, mean, r)
    sums = np.empty((2, len(x), x.shape[2]))
    for (form, (x, dy), (mean, r)), dbias, dweight in zip(batches, *sums.reshape(2, len(batches), -1)):
        centre, rest = _centre(x, mean, r)

        def block(x, dy, centre=None, form=form):
            return form.sum(dy), form.dot(dy, _minus(x, centre))
        dbias[...], product = form.add_up(block, x, dy, vectors=centre)
        np.multiply(product - rest * dbias, r, out=dweight)
    return sums


def batch_norm_grad(dy, x, mean, r, weight, dbias, dweight):
    dy = _stored_like(dy, x)
    out = backend.empty_like(x)
    batches = _batches([x, dy, out], mean, r, r * weight, dbias, dweight)
    if batches is None:
        return FORMULAS.batch_norm_grad(dy, x, mean, r, weight, dbias, dweight)
    for form, (x, dy, dx), (mean, r, scale, dbias, dweight) in batches:
        centre, rest = _centre(x, mean, r)
        slope, offset = -r * dweight / form.count, -dbias / form.count

        def block(x, dy, dx, scale, slope, offset, centre=None):
            np.multiply(_minus(x, centre, dx), slope, out=dx)
            np.add(dx, dy, out=dx)
            np.add(dx, offset, out=dx)
            np.multiply(dx, scale, out=dx)
        form.each(block, x, dy, dx, vectors=[scale, slope, offset - rest * slope, *centre])
    return out


def _centre(x, mean, r):
    """What to subtract from x: ([its mean in x's precision], the rest of the mean), or nothing where that is near 0."""
    if (mean * mean * r * r <= NEAR).all():
        return [], mean
    centre = mean.astype(x.dtype)
    return [centre], mean - centre


def _minus(x, centre, out=None):
    if centre is None:
        return x
    return np.subtract(x, centre, out=parallel.scratch_like(x) if out is None else out)


def _stored_like(dy, x):
    """dy in the memory order of x: itself where it is in it already."""
    if dy.strides == x.strides or (x.flags.c_contiguous and dy.flags.c_contiguous):
        return dy
    axes = backend.memory_order(x)
    if dy.transpose(axes).flags.c_contiguous or not x.transpose(axes).flags.c_contiguous:
        return dy
    return np.ascontiguousarray(dy.transpose(axes)).transpose(np.argsort(axes))


def row_sums(a, b, most):
    """The sum of a b along each row: pieces of at most so many values in the precision of a, their sum in float64.

    The pieces are as long as each other; what is left over is shorter than there are pieces.
    """
    length = a.shape[-1]
    pieces = -(-length // most)
    if pieces == 1:
        return np.vecdot(a, b)
    size = length // pieces
    whole = pieces * size
    cut = [array[..., :whole].reshape(*array.shape[:-1], pieces, size) for array in (a, b)]
    total = np.vecdot(*cut).sum(axis=-1, dtype=np.float64)
    return total if whole == length else total + np.vecdot(a[..., whole:], b[..., whole:])


# -- blocks in the order of memory ---------------------------------------------------------------------------------


def _batches(arrays, *vectors):
    """(form, arrays, vectors) of each batch, in turn; None where only the formulas will do.

    Batches of one sample whose channels are rows of memory are taken together, as channels of one batch.
    """
    shape = arrays[0].shape
    if any(array.dtype != arrays[0].dtype for array in arrays):
        return None
    vectors = [np.broadcast_to(vector, (shape[0], shape[2])) for vector in vectors]
    if shape[1] == 1 and all(array.flags.c_contiguous for array in arrays):
        arrays = [array.reshape(1, 1, shape[0] * shape[2], *shape[3:]) for array in arrays]
        vectors = [vector.reshape(1, -1) for vector in vectors]
    form = _form(*[array[0] for array in arrays])
    return form and [(form, [array[i] for array in arrays], [vector[i] for vector in vectors])
                     for i in range(len(arrays[0]))]


def _form(*arrays):
    """How to see these arrays (n, C, ...) as matrices; None where they are not dense in one order of memory."""
    return _form_of(arrays[0].shape, arrays[0].itemsize, *[array.strides for array in arrays])


@functools.lru_cache(maxsize=1024)
def _form_of(shape, step, strides, *others):
    axes = sorted(range(len(shape)), key=lambda axis: -abs(strides[axis]))
    apart = False  # whether between one channel and the next lies what is of another batch
    for axis in reversed(axes):
        if shape[axis] > 1 and any(other[axis] != step for other in (strides, *others)):
            if axis != axes[0] or axis != 1:
                return None
            apart = True
        step *= shape[axis]
    if not step:
        return None
    sizes, channel = [shape[axis] for axis in axes], axes.index(1)
    outside, channels, inside = math.prod(sizes[:channel]), shape[1], math.prod(sizes[channel + 1:])
    by_row = outside == 1 or inside >= LONG
    if by_row:
        pieces = next(n for n in range(-(-inside // (4 * WIDTH)), inside + 1) if inside % n == 0)
        pieces = pieces if inside // pieces >= LONG and not apart else 1  # large primes have no good ones
        lines = outside, channels, pieces
        matrix = math.prod(lines), inside // pieces
    else:
        most = max(1, min(outside, WIDTH // (channels * inside)))
        repeats = next(n for n in range(most, 0, -1) if outside % n == 0)
        lines = repeats, channels, inside
        matrix = outside // repeats, math.prod(lines)
    size = math.prod(matrix)
    blocks = -(-size // BLOCK) if size < SHARED_FROM else 2 * -(-size // (2 * BLOCK))
    return _Form(axes, by_row, lines, matrix, outside * inside, parallel.split(slice(0, matrix[0]), blocks))


class _Form(NamedTuple):
    axes: list       # of the arrays, from the slowest in memory to the fastest
    by_row: bool     # a row of the matrix belongs to one channel; else a column does
    lines: tuple     # (n, channels, m): how the channel repeats from row to row, or from column to column
    matrix: tuple    # its shape
    count: int       # of values a channel
    blocks: list     # slices of rows

    def sum(self, block):
        """Its sum a row or a column, whichever belongs to one channel.

        Not a product of the block with ones: it would wake the threads of the BLAS, which then wait in a busy loop
        and slow down what comes next. Eight rows at a time, as the sums of few numbers keep more digits.
        """
        if self.by_row:
            return row_sums(block, np.ones(block.shape[1], block.dtype), 4 * WIDTH)
        whole = len(block) // 8 * 8
        eights = np.add.reduce(block[:whole].reshape(-1, 8, block.shape[1]), axis=1)
        return np.add.reduce(eights, axis=0) + np.add.reduce(block[whole:], axis=0)

    def dot(self, a, b):
        """The sums of a b. Squares may overflow: `_moments` sees it."""
        if not self.by_row:
            return np.einsum("ij,ij->j", a, b)
        with np.errstate(over="ignore"):
            return row_sums(a, b, 4 * WIDTH)

    def each(self, function, *arrays, vectors=()):
        """Call function(parts of the arrays' matrices, vectors that go along with these) for each block of rows."""
        self._run(lambda index, *operands: function(*operands), arrays, vectors)

    def add_up(self, function, *arrays, vectors=()):
        """The two sums that function(parts of the arrays' matrices, vectors) returns, added up a channel."""
        partial = np.empty((1 if self.by_row else len(self.blocks), 2, math.prod(self.lines)))

        def store(index, *operands):
            target = partial[0, :, self.blocks[index]] if self.by_row else partial[index]
            target[0], target[1] = function(*operands)
        self._run(store, arrays, vectors)
        total = partial[0] if len(partial) == 1 else partial.sum(axis=0)
        return total.reshape(2, *self.lines).sum(axis=(1, 3))

    def _run(self, function, arrays, vectors):
        """Call function(index, ...) for the index of each block, on one thread or shared by several."""
        matrices = [x.transpose(self.axes).reshape(self.matrix) for x in arrays]
        lines = backend.empty((len(vectors), math.prod(self.lines)), arrays[0].dtype) if vectors else ()
        for line, vector in zip(lines, vectors):
            line.reshape(self.lines)[...] = vector[:, None]
        rows_of = [[line[rows, None] for line in lines] if self.by_row else lines for rows in self.blocks]

        def work(part):
            with parallel.long_runs(bool(vectors) and self.matrix[1] >= SHORT):
                for index in range(part.start, part.stop):
                    function(index, *(matrix[self.blocks[index]] for matrix in matrices), *rows_of[index])
        every = slice(0, len(self.blocks))
        if math.prod(self.matrix) < SHARED_FROM:
            work(every)
        else:
            parallel.run([functools.partial(work, part) for part in parallel.split(every, parallel.workers())])
