"""The formulas of `scratchgan.layers.pooling`, one launch each.

Images lie in memory as (outer, H, W, inner): (N C, H, W, 1) or (N, H, W, C), so that neighbouring threads read
neighbours; other orders take the formulas. A thread makes one number of the result, from all taps that have to do with
it. Sizes are constants of the compiled kernels.
"""

import math
from functools import cache

import cupy
import numpy as np

from scratchgan.backend import empty_along, flat, memory_order
from scratchgan.kernels.formulas import FORMULAS

THREADS = 256
LARGEST = 2**29  # numbers of an array; its windows, up to four times as many, are still counted by an int
NUMBERS = {"float32": "float", "float64": "double"}

SOURCE = r"""
#define TAPS (KH * KW)

// The number `index` of images (outer, rows, columns, INNER).
struct Place {
    int k, w, h, outer;
    __device__ Place(int index, int rows, int columns)
        : k(index % INNER), w(index / INNER % columns), h(index / (INNER * columns) % rows),
          outer(index / (INNER * columns * rows)) {}
};

// Where y looks in x by a tap of its window; -1 outside.
__device__ int seen(const Place& y, int tap) {
    int h = y.h * SH + tap / KW * DH - PH, w = y.w * SW + tap % KW * DW - PW;
    return h >= 0 && h < H && w >= 0 && w < W ? ((y.outer * H + h) * W + w) * INNER + y.k : -1;
}

// Where the y is that looks at x by this tap; -1 if there is none.
__device__ int seer(const Place& x, int tap) {
    int down = x.h + PH - tap / KW * DH, right = x.w + PW - tap % KW * DW, i = down / SH, j = right / SW;
    bool there = down >= 0 && down % SH == 0 && i < OH && right >= 0 && right % SW == 0 && j < OW;
    return there ? ((x.outer * OH + i) * OW + j) * INNER + x.k : -1;
}

extern "C" {

__global__ void average_pool(const NUMBER* x, const NUMBER* counts, NUMBER count, NUMBER* y, int size) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    NUMBER sum = 0;
    for (int tap = 0; tap < TAPS; tap++) {
        int at = seen(Place(index, OH, OW), tap);
        if (at >= 0) sum += x[at];
    }
    y[index] = sum / (counts ? counts[index / INNER % (OH * OW)] : count);
}

__global__ void average_pool_grad(const NUMBER* dy, const NUMBER* counts, NUMBER count, NUMBER* dx, int size) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    NUMBER sum = 0;
    for (int tap = 0; tap < TAPS; tap++) {
        int at = seer(Place(index, H, W), tap);
        if (at >= 0) sum += dy[at] / (counts ? counts[at / INNER % (OH * OW)] : count);
    }
    dx[index] = sum;
}

__global__ void max_pool(const NUMBER* x, NUMBER* y, int* winner, int size) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    NUMBER largest = -1 / (NUMBER) 0;                   // minus infinity
    int won = 0;                                        // the taps count from 1
    for (int tap = 0; tap < TAPS; tap++) {
        int at = seen(Place(index, OH, OW), tap);
        if (at >= 0 && (won == 0 || x[at] > largest || x[at] != x[at])) largest = x[at], won = tap + 1;
    }
    y[index] = largest;
    winner[index] = won;
}

__global__ void max_pool_grad(const NUMBER* dy, const int* winner, NUMBER* dx, int size) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    NUMBER sum = 0;
    for (int tap = 0; tap < TAPS; tap++) {
        int at = seer(Place(index, H, W), tap);
        if (at >= 0) sum += dy[at] * (winner[at] == tap + 1);
    }
    dx[index] = sum;
}

__global__ void max_pool_tangent(const NUMBER* z, const int* winner, NUMBER* y, int size) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    NUMBER sum = 0;
    for (int tap = 0; tap < TAPS; tap++) {
        int at = seen(Place(index, OH, OW), tap);
        if (at >= 0) sum += z[at] * (winner[index] == tap + 1);
    }
    y[index] = sum;
}

}
"""


@cache
def compiled(window, inner, dtype):
    """The kernels, by name, for a window on images of one size."""
    names = "KH", "KW", "SH", "SW", "PH", "PW", "DH", "DW", "H", "W", "OH", "OW", "INNER"
    sizes = (*window.kernel, *window.stride, *window.padding, *window.dilation, *window.x_size, *window.y_size, inner)
    constants = {**dict(zip(names, sizes)), "NUMBER": NUMBERS[dtype]}
    module = cupy.RawModule(code="".join(f"#define {key} {value}\n" for key, value in constants.items()) + SOURCE)
    return {name: module.get_function(name) for name in
            ("average_pool", "average_pool_grad", "max_pool", "max_pool_grad", "max_pool_tangent")}


def inner_of(*images, result=(0, 0)):
    """The size of what lies inside (H, W) in memory, the same for all of these images; None where it is not simple.

    result  (H, W) of what is made of them, where it is larger
    """
    first = images[0]
    if not 0 < first.size < LARGEST or first.dtype.name not in NUMBERS or first.ndim not in (3, 4):
        return None
    if math.prod((*first.shape[:-2], *result)) >= LARGEST:
        return None
    if all(x.flags.c_contiguous for x in images):
        return 1
    axes = (*range(first.ndim - 3), -2, -1, -3)
    return first.shape[-3] if all(x.transpose(axes).flags.c_contiguous for x in images) else None


def images_like(x, size, inner, dtype=None):
    shape = (*x.shape[:-2], *size)
    axes = range(x.ndim) if inner == 1 else (*range(x.ndim - 3), x.ndim - 2, x.ndim - 1, x.ndim - 3)
    return empty_along(shape, dtype or x.dtype, tuple(axes), cupy)


def launch(name, window, inner, *arguments, out):
    kernel = compiled(window, inner, arguments[0].dtype.name)[name]
    kernel((-(-out.size // THREADS),), (THREADS,), (*arguments, np.int32(out.size)))


def divisor(n, dtype):
    """(array of n or a null pointer, n as a number)."""
    return (n, dtype.type(1)) if isinstance(n, cupy.ndarray) else (np.uintp(0), dtype.type(n))


def average_pool(x, window, n):
    inner = inner_of(x)
    if inner is None:
        return FORMULAS.average_pool(x, window, n)
    y = images_like(x, window.y_size, inner)
    launch("average_pool", window, inner, x, *divisor(n, x.dtype), y, out=y)
    return y


def average_pool_grad(dy, window, n):
    inner = inner_of(dy, result=window.x_size)
    if inner is None:
        return FORMULAS.average_pool_grad(dy, window, n)
    dx = images_like(dy, window.x_size, inner)
    launch("average_pool_grad", window, inner, dy, *divisor(n, dy.dtype), dx, out=dx)
    return dx


def max_pool(x, window):
    inner = inner_of(x)
    if inner is None:
        return FORMULAS.max_pool(x, window)
    y, winner = (images_like(x, window.y_size, inner, dtype) for dtype in (x.dtype, np.dtype(np.int32)))
    launch("max_pool", window, inner, x, y, winner, out=y)
    return y, winner


def max_pool_grad(dy, winner, window):
    inner = inner_of(dy, winner, result=window.x_size)
    if inner is None:
        return FORMULAS.max_pool_grad(dy, winner, window)
    dx = images_like(dy, window.x_size, inner)
    launch("max_pool_grad", window, inner, dy, winner, dx, out=dx)
    return dx


def max_pool_tangent(z, winner, window):
    inner = inner_of(z, winner)
    if inner is None:
        return FORMULAS.max_pool_tangent(z, winner, window)
    y = images_like(z, window.y_size, inner)
    launch("max_pool_tangent", window, inner, z, winner, y, out=y)
    return y


# -- upsampling ----------------------------------------------------------------------------------------------------

REPEAT = cupy.ElementwiseKernel(
    "raw T x, int32 inner, int32 ratio", "T y",
    "y = x[i / inner / ratio * inner + i % inner]", "scratchgan_repeat")  # y[o, i, k] = x[o, i / ratio, k]
REPEAT_GRAD = cupy.ElementwiseKernel(
    "raw T dy, int32 inner, int32 ratio", "T dx",
    """
    T sum = 0;
    int at = i / inner * ratio * inner + i % inner;
    for (int copy = 0; copy < ratio; copy++) sum += dy[at + copy * inner];
    dx = sum;
    """, "scratchgan_repeat_grad")  # dx[o, i, k] = sum over copies of dy[o, ratio i + copy, k]


def along(kernel, x, axis, size, ratio):
    """What the kernel makes of x, its axis becoming of this size; None where x has gaps or there is no whole ratio."""
    line = flat(x)
    if line is None or not ratio or x.size * max(1, size) >= 2**31 or x.dtype.name not in NUMBERS:
        return None
    axes = memory_order(x)
    result = empty_along((*x.shape[:axis], size, *x.shape[axis + 1:]), x.dtype, axes, cupy)
    inner = math.prod(x.shape[each] for each in axes[axes.index(axis) + 1:])
    kernel(line, np.int32(inner), np.int32(ratio), flat(result))
    return result


def ratio_of(n, m, copies):
    """m / n where each value is simply repeated so many times, else 0."""
    return m // n if m % n == 0 and copies[0][0] == slice(None) else 0


def repeat(x, axis, n, m, copies):
    y = along(REPEAT, x, axis, m, ratio_of(n, m, copies))
    return FORMULAS.repeat(x, axis, n, m, copies) if y is None else y


def repeat_grad(dy, axis, n, m, copies):
    dx = along(REPEAT_GRAD, dy, axis, n, ratio_of(n, m, copies))
    return FORMULAS.repeat_grad(dy, axis, n, m, copies) if dx is None else dx
