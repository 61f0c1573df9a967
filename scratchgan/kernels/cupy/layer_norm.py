"""The formulas of `scratchgan.layers.layer_norm` in one kernel each: a block of threads for each sample."""

from functools import cache

import cupy
import numpy as np

from scratchgan.backend import empty_like, flat, memory_order
from scratchgan.kernels.formulas import FORMULAS

THREADS = 256
CODE = """
__device__ double mean(double sum, long long size) {                  // of what all threads have added up
    __shared__ double sums[THREADS];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int n = THREADS / 2; n; n /= 2) {
        if (threadIdx.x < n) sums[threadIdx.x] += sums[threadIdx.x + n];
        __syncthreads();
    }
    double all = sums[0];
    __syncthreads();
    return all / size;
}

#define EACH for (long long i = threadIdx.x; i < size; i += THREADS)

extern "C" __global__ void scratchgan_layer_norm(const T* x, T* xhat, T* r, long long size, double eps) {
    x += blockIdx.x * size; xhat += blockIdx.x * size;
    double sum = 0, rest = 0, squares = 0;
    EACH sum += x[i];
    T centre = mean(sum, size);
    EACH rest += x[i] - centre;                                       // what the mean lost in the precision of x
    T off = mean(rest, size);
    EACH { T d = x[i] - centre - off; squares += d * d; }
    T scale = 1 / sqrt((T)mean(squares, size) + (T)eps);
    EACH xhat[i] = (x[i] - centre - off) * scale;
    if (threadIdx.x == 0) r[blockIdx.x] = scale;
}

extern "C" __global__ void scratchgan_layer_norm_grad(const T* g, const T* xhat, const T* r, T* dx, long long size) {
    g += blockIdx.x * size; xhat += blockIdx.x * size; dx += blockIdx.x * size;
    double sum = 0, product = 0;
    EACH { sum += g[i]; product += g[i] * xhat[i]; }
    T a = mean(sum, size), b = mean(product, size);
    EACH dx[i] = r[blockIdx.x] * (g[i] - a - xhat[i] * b);
}
"""


@cache
def kernel(name, dtype):
    real = {"float32": "float", "float64": "double"}[dtype.name]
    return cupy.RawKernel(f"#define THREADS {THREADS}\ntypedef {real} T;\n{CODE}", f"scratchgan_{name}")


def layer_norm(x, eps, axes):
    if not x.size:
        return FORMULAS.layer_norm(x, eps, axes)
    x, leading = by_samples(x, axes), x.shape[:x.ndim - axes]
    xhat, r = empty_like(x), cupy.empty((*leading, *(1,) * axes), x.dtype)
    kernel("layer_norm", x.dtype)((r.size,), (THREADS,), (x, xhat, r, np.int64(x.size // r.size), np.float64(eps)))
    return xhat, r


def layer_norm_grad(g, xhat, r, axes):
    if not g.size:
        return FORMULAS.layer_norm_grad(g, xhat, r, axes)
    xhat = by_samples(xhat, axes)
    dx = empty_like(xhat)
    if g.strides != xhat.strides:
        dx[...] = g
        g = dx
    kernel("layer_norm_grad", g.dtype)((r.size,), (THREADS,), (g, xhat, r, dx, np.int64(g.size // r.size)))
    return dx


def by_samples(x, axes):
    """x, or a copy of it, with one sample after the other in memory, in whatever order its numbers are."""
    leading = tuple(range(x.ndim - axes))
    if x.flags.c_contiguous or (memory_order(x)[:len(leading)] == leading and flat(x) is not None):
        return x
    return cupy.ascontiguousarray(x)
