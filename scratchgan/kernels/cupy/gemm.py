"""The matrix product: of small matrices by a kernel of ours, of others by cuBLAS, through a handle of our own.

CuPy's own product refuses to run while a stream is recorded into a graph, and its handle has no memory set aside, so
that a recorded product would allocate each time the graph runs. Ours runs in both: the same call, hence the same bits.
Products are of float32 numbers, of TF32 only inside `scratchgan.kernels.gemm.tf32`.
"""

import ctypes
from functools import cache

import cupy
import numpy as np
from cuda import pathfinder

from scratchgan.kernels.cupy import activations
from scratchgan.kernels.cupy.small_products import is_small, small_product
from scratchgan.kernels.formulas import FORMULAS
from scratchgan.kernels.gemm import tf32_allowed

WORKSPACE = 32 << 20  # bytes that cuBLAS may use on a stream: what NVIDIA advises for Hopper; smaller ones slow it down
COUNTERS = 512        # zeros for the blocks of a sum to count each other
FLOAT32, TF32 = 0, 3  # cuBLAS's names of how it may multiply: CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
NO_MEMORY = 3         # CUBLAS_STATUS_ALLOC_FAILED
ONE_LINE = 1          # a leading dimension of at least 1, also of an empty matrix
ROUTINES = {np.dtype("float32"): ("cublasSgemm_v2", ctypes.c_float),
            np.dtype("float64"): ("cublasDgemm_v2", ctypes.c_double)}


@cache
def library():
    return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)


def checked(status):
    if status:
        raise (MemoryError if status == NO_MEMORY else RuntimeError)(f"cuBLAS failed with status {status}")


def of_stream():
    """`handle` of the current stream."""
    stream = cupy.cuda.get_current_stream()
    return handle(stream.device_id if stream.device_id >= 0 else cupy.cuda.device.get_device_id(), stream.ptr)


@cache
def handle(device, stream):
    """(cuBLAS on a stream, its memory, `COUNTERS` zeros that kernels on the stream leave as they found them).

    Made when the stream multiplies for the first time, which must not be during a recording, and kept for good.
    """
    handle, workspace = ctypes.c_void_p(), cupy.cuda.Memory(WORKSPACE)
    checked(library().cublasCreate_v2(ctypes.byref(handle)))
    checked(library().cublasSetStream_v2(handle, ctypes.c_void_p(stream)))
    set_workspace = library().cublasSetWorkspace_v2
    checked(set_workspace(handle, ctypes.c_void_p(workspace.ptr), ctypes.c_size_t(WORKSPACE)))
    memory = cupy.cuda.MemoryPointer(cupy.cuda.Memory(COUNTERS * np.dtype(np.uint32).itemsize), 0)
    counters = cupy.ndarray(COUNTERS, np.uint32, memory)
    counters.fill(0)
    return handle, workspace, counters


@cache
def routine(dtype):
    """(the function, its 1 and its 0)."""
    name, number = ROUTINES[dtype]
    function = getattr(library(), name)
    pointer, whole = ctypes.c_void_p, ctypes.c_int
    function.argtypes = [pointer, whole, whole, whole, whole, whole, pointer, pointer, whole, pointer, whole, pointer,
                         pointer, whole]
    one, zero = number(1), number(0)
    return function, ctypes.addressof(one), ctypes.addressof(zero), (one, zero)


def stored(a):
    """(a or a copy of it, whether by columns, leading dimension): a matrix as the BLAS takes it, lines of memory."""
    size = a.itemsize
    rows, columns = a.strides
    if columns == size and (rows >= size * a.shape[1] or len(a) == 1):
        return a, False, max(rows // size if len(a) > 1 else a.shape[1], ONE_LINE)
    if rows == size and (columns >= size * len(a) or a.shape[1] == 1):
        return a, True, max(columns // size if a.shape[1] > 1 else len(a), ONE_LINE)
    return cupy.ascontiguousarray(a), False, max(a.shape[1], ONE_LINE)


def gemm(a, b, out=None):
    """a @ b as `scratchgan.kernels.gemm.gemm`, for CuPy arrays. A result that is not written into `out` has C order."""
    if a.dtype != b.dtype or a.dtype not in ROUTINES or (out is not None and out.dtype != a.dtype):
        return FORMULAS.gemm(a, b, out)
    if b.ndim == 1:
        column = gemm(a, b[:, None], None if out is None else out[:, None])
        return column[:, 0] if out is None else out
    if out is None:
        out = cupy.empty((len(a), b.shape[1]), a.dtype)
    if not a.size or not b.size:
        out.fill(0)
        return out
    if is_small_product(a, b):
        small_product(stored(a)[0], stored(b)[0], out)
        return out
    target, transposed, line = stored(out)
    blas_product(a, b, target, transposed, line)
    if target is not out:
        out[...] = target
    return out


def is_small_product(a, b):
    """Whether `gemm` of them is of the small products. A matrix with a vector is not."""
    return 1 not in (len(a), b.shape[1]) and is_small(len(a), b.shape[1], a.shape[1])


def fits(a, b, other):
    """Whether a kernel of a small product of these shapes may read them, and the other one beside."""
    return (a.dtype == b.dtype == other.dtype in ROUTINES and a.size > 0 and b.size > 0 and other.flags.c_contiguous
            and is_small(len(a), b.shape[1], a.shape[1]))


def linear(x, weight, bias):
    """x W^T + b, as `scratchgan.layers.linear.linear`: of small matrices in one kernel."""
    if bias is not None and fits(x, weight.T, bias):
        return small(x, weight.T, bias)
    out = gemm(x, weight.T)
    if bias is not None:
        out += bias
    return out


def activated_linear(x, weight, bias, name, *numbers):
    """f(x W^T + b), f being the function of `activations` with that name: of small matrices in one kernel."""
    if bias is not None and fits(x, weight.T, bias):  # as `linear`, so that the bits are the same
        return small(x, weight.T, bias, name, None, *numbers)
    return getattr(activations, name)(linear(x, weight, bias), *numbers)


def gemm_through(dy, weight, y, name, *numbers):
    """(dy W) f'(x), f' being the function `name` of the output y = f(x): of small matrices in one kernel."""
    if is_small_product(dy, weight) and fits(dy, weight, y):  # as `gemm`
        return small(dy, weight, None, name, y, *numbers)
    return getattr(activations, name)(gemm(dy, weight), y, *numbers)


def small(a, b, *more):
    """`small_product`'s result, in C order."""
    out = cupy.empty((len(a), b.shape[1]), a.dtype)
    small_product(stored(a)[0], stored(b)[0], out, *more)
    return out


def row_sums(dy, out=None):
    """CuPy's own sum: one kernel, where a product needs a vector of ones."""
    return dy.sum(axis=0, out=out)


def blas_product(a, b, out, transposed, line):
    """out = a @ b. The BLAS stores matrices by columns: by rows, as here, that is out^T = b^T a^T."""
    if transposed:
        a, b, out = b.T, a.T, out.T
    a, a_columns, a_line = stored(a)
    b, b_columns, b_line = stored(b)
    function, one, zero, _ = routine(out.dtype)
    blas = of_stream()[0]
    checked(library().cublasSetMathMode(blas, TF32 if tf32_allowed() else FLOAT32))
    checked(function(blas, int(b_columns), int(a_columns), out.shape[1], len(out), a.shape[1], one,
                     b.data.ptr, b_line, a.data.ptr, a_line, zero, out.data.ptr, line))
