"""Copies from one order in memory to another."""

from functools import partial

from scratchgan.backend import memory_order
from scratchgan.kernels.numpy import parallel


def reordered(out, x):
    """out[...] = x; returns `out`.

    Where the fastest axis of x is the slowest of `out`, each number of a long run of x goes to a page of memory of its
    own. So the copy is made in slices along a third axis, of which the caches hold all that is touched.
    """
    before, after = memory_order(x), memory_order(out)
    axis = next((axis for axis in before if axis not in (before[-1], after[-1])), None)
    if axis is None or before[-1] != after[0]:
        out[...] = x
        return out
    x, to = x.swapaxes(0, axis), out.swapaxes(0, axis)
    parts = parallel.split(slice(0, len(x)), parallel.workers() if x.size >= parallel.SHARED_FROM else 1)
    parallel.run([partial(_by_slices, to[part], x[part]) for part in parts], products=False)
    return out


def _by_slices(out, x):
    for to, slice_of_x in zip(out, x):
        to[...] = slice_of_x
