"""Matrix products in the orientation that the BLAS computes faster."""

import numpy as np

from scratchgan import backend
from scratchgan.kernels.formulas import FORMULAS
from scratchgan.kernels.numpy.parallel import blas_is_called

LARGE = 1 << 15  # elements: np.dot fills its result with zeros first, which for larger ones np.matmul saves


def dot(a, b, out):
    """out = a @ b by the BLAS: a (m, k), b (k, n) or (k,), `out` stored by rows or columns, of one dtype."""
    if out.flags.fnc:  # by columns, and not by rows as well
        dot(b.T, a.T, out.T)
        return out
    # With k = 1 np.matmul would not call the BLAS.
    return np.matmul(a, b, out=out) if out.size >= LARGE and a.shape[1] > 1 else np.dot(a, b, out=out)


def gemm(a, b, out=None):
    """a @ b as `scratchgan.kernels.gemm.gemm`. A matrix that is not written into `out` is stored by columns.

    Then the BLAS computes out^T = b^T a^T: with a batch on axis 0 and 64 to 128 samples that is up to 1.5 times as
    fast on CPUs, because the long dimension (features) runs over whole cache lines of the result.
    """
    blas_is_called()
    if a.dtype != b.dtype or (out is not None and out.dtype != a.dtype):
        return FORMULAS.gemm(a, b, out)
    if out is None:
        out = backend.empty((len(a), *b.shape[1:]), a.dtype, "F")
    return dot(a, b, out) if out.flags.forc else FORMULAS.gemm(a, b, out)


def linear(x, weight, bias):
    """x W^T + b, as `scratchgan.layers.linear.linear`."""
    y = gemm(x, weight.T)
    if bias is not None:
        y += bias
    return y


def row_sums(dy, out=None):
    """The sum of the rows as a product, which is faster than NumPy's sum."""
    return gemm(dy.T, np.ones(len(dy), dy.dtype), out)
