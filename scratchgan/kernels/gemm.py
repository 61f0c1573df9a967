"""The matrix product, for any arrays."""

from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from scratchgan.backend import array_module, empty
from scratchgan.kernels.formulas import formula

_tf32 = ContextVar("tf32", default=False)


def tf32_allowed():
    return _tf32.get()


@contextmanager
def tf32(wanted=True):
    """Inside, products of large float32 matrices on CUDA may round their factors to TF32, 10 bits of fraction."""
    token = _tf32.set(wanted)
    try:
        yield
    finally:
        _tf32.reset(token)


@formula
def gemm(a, b, out=None):
    """a @ b, for (m, k) times (k, n) or (k,); written into `out` if given."""
    product = _real_times_complex(a, b) if a.dtype.kind != b.dtype.kind else array_module(a).dot(a, b)
    if out is None:
        return product
    out[...] = product
    return out


def _real_times_complex(a, b):
    """One real product on the stacked real and imaginary parts: half of what a complex one would cost."""
    xp = array_module(a)
    if a.dtype.kind == "c":
        real, imag = xp.split(xp.dot(xp.concatenate([a.real, a.imag]), b), 2)
    else:
        real, imag = xp.split(xp.dot(a, xp.concatenate([b.real, b.imag], axis=-1)), 2, axis=-1)
    product = empty(real.shape, np.result_type(a.dtype, b.dtype), xp=xp)
    product.real, product.imag = real, imag
    return product
