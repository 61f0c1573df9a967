"""Elementwise functions of CuPy arrays, one kernel each."""

import cupy

from scratchgan.backend import empty_like, memory_order

SIGMOID = """
template <typename T> __device__ T sigmoid(T x) {
    T e = exp(x >= 0 ? -x : x);
    return (x >= 0 ? T(1) : e) / (1 + e);
}
"""


def elementwise(arrays, numbers, code, name):
    """A kernel of arrays and numbers of one type T that makes an array `out`. The numbers may be 0-d arrays."""
    arguments = ", ".join(f"T {argument}" for argument in (arrays + " " + numbers).split())
    return cupy.ElementwiseKernel(arguments, "T out", f"out = {code}", f"scratchgan_{name}", preamble=SIGMOID)


def apply(kernel, arrays, *numbers):
    """The kernel's result for arrays of one shape. It runs through them in the order of the first one's memory."""
    out = empty_like(arrays[0])
    if not out.flags.c_contiguous:
        axes = memory_order(out)
        kernel(*(array.transpose(axes) for array in arrays), *numbers, out.transpose(axes))
        return out
    return kernel(*arrays, *numbers, out)
