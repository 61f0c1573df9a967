"""Convolution as one matrix product with a matrix of columns (im2col): each pass is one kernel and one product.

The column of an output (n, i, j) holds the kH kW C entries of x that it sees. With the columns K of all outputs, one a
row, (N OH OW, kH kW C), the weight as a matrix w (kH kW C, O), which is how a network stores it, and y as (N OH OW, O),
the images that `scratchgan.layers.convolution.Taps` computes tap by tap are

    y = K w        dK = dy w^T, each entry of x adding up what it gave to K        dw = K^T dy

Images lie in memory as (N, H, W, C), so that neighbouring threads read neighbouring channels, several at once where
their number allows. Where the kernel is one pixel or all of the image, the columns are the image. The sizes are
constants of the compiled kernels, one set for each shape of a layer, so that no thread divides by an unknown number.
"""

from dataclasses import replace
from functools import cache

import cupy
import numpy as np

from scratchgan.backend import empty_along
from scratchgan.kernels.cupy.gemm import gemm
from scratchgan.kernels.formulas import FORMULAS

CHANNELS_LAST = (0, 2, 3, 1)  # N, H, W, C
WEIGHT = (2, 3, 1, 0)         # kH, kW, C, O
KEPT = 64 << 20               # bytes of columns that wait for the gradient of the weight; more are made again
THREADS = 256                 # of a block
LARGEST = 2**31 - THREADS     # what an int counts

VECTOR = 16                   # bytes that a thread reads at once
NUMBERS = {("float32", False): "float", ("float32", True): "float4",
           ("float64", False): "double", ("float64", True): "double2"}

SOURCE = r"""
__device__ void operator+=(float4& a, float4 b) { a.x += b.x, a.y += b.y, a.z += b.z, a.w += b.w; }
__device__ void operator+=(double2& a, double2 b) { a.x += b.x, a.y += b.y; }

extern "C" {

// A thread makes one entry of the columns: K[(n, i, j), (r, q, c)] = x[n, c, s i + d r - p, s j + d q - p].
__global__ void columns_of(const NUMBER* x, int along_n, int along_c, int along_h, int along_w, NUMBER* K, int size) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    int c = index % C, q = index / C % KW, r = index / (C * KW) % KH;
    int row = index / (C * KW * KH), j = row % OW, i = row / OW % OH, n = row / (OW * OH);
    int h = SH * i + DH * r - TOP, w = SW * j + DW * q - LEFT;
    bool inside = h >= 0 && h < H && w >= 0 && w < W;
    K[index] = inside ? x[n * along_n + c * along_c + h * along_h + w * along_w] : NUMBER();
}

// A thread makes one entry of dx, from the entries of dK that come from it, tap by tap:
// dx[n, c, h, w] = sum of dK[(n, i, j), (r, q, c)] over r, q, i, j with s i + d r - p = h, s j + d q - p = w.
__global__ void sums_of_columns(const NUMBER* dK, NUMBER* dx, int size) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= size) return;
    int c = index % C, w = index / C % W, h = index / (C * W) % H, n = index / (C * W * H);
    NUMBER sum = NUMBER();
    for (int r = 0; r < KH; r++) {
        int down = h + TOP - DH * r, i = down / SH;
        if (down < 0 || down % SH || i >= OH) continue;
        for (int q = 0; q < KW; q++) {
            int right = w + LEFT - DW * q, j = right / SW;
            if (right < 0 || right % SW || j >= OW) continue;
            sum += dK[(((n * OH + i) * OW + j) * KH + r) * KW * C + q * C + c];
        }
    }
    dx[index] = sum;
}

}
"""


@cache
def compiled(geometry, x_size, y_size, dtype, width):
    """The two kernels for images of these sizes (C, H, W) and (OH, OW); an entry is of `width` channels."""
    (top, _), (left, _) = geometry.padding
    sizes = dict(zip(("C", "H", "W", "OH", "OW", "KH", "KW", "SH", "SW", "DH", "DW", "TOP", "LEFT"),
                     (x_size[0] // width, *x_size[1:], *y_size, *geometry.kernel, *geometry.stride, *geometry.dilation,
                      top, left)))
    constants = {"NUMBER": NUMBERS[dtype.name, width > 1], **sizes}
    source = "".join(f"#define {name} {value}\n" for name, value in constants.items()) + SOURCE
    module = cupy.RawModule(code=source)
    return module.get_function("columns_of"), module.get_function("sums_of_columns")


def convolution(geometry, weight, x_shape, y_shape):
    columns = y_shape[0] * y_shape[2] * y_shape[3] * x_shape[1] * geometry.kernel[0] * geometry.kernel[1]
    images = x_shape[0] * x_shape[1] * x_shape[2] * x_shape[3]
    if 0 < columns < LARGEST and images < LARGEST:
        return (Columns if geometry.groups == 1 else Groups)(geometry, weight, x_shape, y_shape)
    return FORMULAS.convolution(geometry, weight, x_shape, y_shape)


class Groups:
    """`Columns` of each group of channels, one after the other."""

    def __init__(self, geometry, weight, x_shape, y_shape):
        self.weight, self.x_shape, self.y_shape, self.parts = weight, x_shape, y_shape, []
        o, c = len(weight) // geometry.groups, weight.shape[1]
        for group in range(geometry.groups):
            of_y, of_x = slice(group * o, (group + 1) * o), slice(group * c, (group + 1) * c)
            columns = Columns(replace(geometry, groups=1), weight[of_y], (x_shape[0], c, *x_shape[2:]),
                              (y_shape[0], o, *y_shape[2:]))
            self.parts.append((of_y, of_x, columns))

    def forward(self, x):
        y = empty_images(self.y_shape, x.dtype)
        for of_y, of_x, part in self.parts:
            y[:, of_y] = part.forward(x[:, of_x])
        return y

    def input_gradient(self, dy):
        dx = empty_images(self.x_shape, dy.dtype)
        for of_y, of_x, part in self.parts:
            dx[:, of_x] = part.input_gradient(dy[:, of_y])
        return dx

    def weight_gradient(self, x, dy, out=None):
        fits = out is not None and out.dtype == dy.dtype
        dw = out if fits else empty_along(self.weight.shape, dy.dtype, WEIGHT, cupy)
        for of_y, of_x, part in self.parts:
            dw[of_y] = part.weight_gradient(x[:, of_x], dy[:, of_y])
        return dw


class Columns:
    """See `scratchgan.layers.convolution.Taps`, whose results these equal but for rounding."""

    def __init__(self, geometry, weight, x_shape, y_shape):
        self.geometry, self.weight, self.x_shape, self.y_shape = geometry, weight, x_shape, y_shape
        self.K_shape = (y_shape[0] * y_shape[2] * y_shape[3], x_shape[1] * geometry.kernel[0] * geometry.kernel[1])
        self.last = None  # (x, its columns), between the two passes that need them
        one_pixel = geometry.kernel == geometry.stride == (1, 1)
        all_pixels = geometry.kernel == tuple(x_shape[2:]) and geometry.dilation == y_shape[2:] == (1, 1)
        self.columns_are_x = geometry.padding == ((0, 0), (0, 0)) and (one_pixel or all_pixels)

    def forward(self, x):
        y = empty_images(self.y_shape, x.dtype)
        gemm(self.columns(x, keep=True), self.matrix(), pixels(y))              # y = K w
        return y

    def input_gradient(self, dy):
        dx = empty_images(self.x_shape, dy.dtype)
        dK = pixels(dx).reshape(self.K_shape) if self.columns_are_x else cupy.empty(self.K_shape, dy.dtype)
        gemm(pixels(dy), self.matrix().T, dK)                                   # dK = dy w^T
        if not self.columns_are_x:
            width = self.width(dx)
            self.kernels(dx.dtype, width)[1](*grid(dx.size // width), (dK, dx, np.int32(dx.size // width)))
        return dx

    def weight_gradient(self, x, dy, out=None):
        fits = out is not None and out.dtype == dy.dtype and out.transpose(WEIGHT).flags.c_contiguous
        dw = out if fits else empty_along(self.weight.shape, dy.dtype, WEIGHT, cupy)
        gemm(self.columns(x).T, pixels(dy), dw.transpose(WEIGHT).reshape(self.K_shape[1], -1))  # dw = K^T dy
        return dw

    def matrix(self):
        """The weight as (kH kW C, O): a view where memory holds it so."""
        return self.weight.transpose(WEIGHT).reshape(self.K_shape[1], -1)

    def columns(self, x, keep=False):
        """K, (N OH OW, kH kW C). Kept for the gradient of the weight, not by it: that may be computed aside."""
        if self.columns_are_x:
            return pixels(x).reshape(self.K_shape)
        there, self.last = self.last, None
        if there is not None and there[0] is x:
            return there[1]
        K = cupy.empty(self.K_shape, x.dtype)
        width = self.width(x)
        n, c, h, w = (stride // x.itemsize for stride in x.strides)
        steps = map(np.int32, (n // width, c, h // width, w // width))
        self.kernels(x.dtype, width)[0](*grid(K.size // width), (x, *steps, K, np.int32(K.size // width)))
        if keep and K.nbytes <= KEPT:
            self.last = x, K
        return K

    def width(self, x):
        """How many channels of x a thread can read at once."""
        width = VECTOR // x.itemsize
        n, c, h, w = x.strides
        fits = c == x.itemsize and x.shape[1] % width == (x.data.ptr | n | h | w) % VECTOR == 0
        return width if fits else 1

    def kernels(self, dtype, width):
        return compiled(self.geometry, tuple(self.x_shape[1:]), tuple(self.y_shape[2:]), dtype, width)


def grid(size):
    return (-(-size // THREADS),), (THREADS,)


_add_bias = cupy.ElementwiseKernel("raw T b, int32 channels", "T y", "y += b[(int) i % channels]",
                                   "scratchgan_add_bias")
_add_biases = cupy.ElementwiseKernel("raw T b, raw T c, int32 channels, int32 image", "T y",
                                     "y += c[(int) i / image] * b[(int) i % channels]", "scratchgan_add_biases")


def add_bias(y, b, c=None):
    images = y.transpose(CHANNELS_LAST)
    dense = images.flags.c_contiguous and b.flags.c_contiguous and b.dtype == y.dtype and 0 < y.size < LARGEST
    if not dense or (c is not None and (len(c) != len(y) or c.dtype != y.dtype or not c.flags.c_contiguous)):
        FORMULAS.add_bias(y, b, c)
    elif c is None:
        _add_bias(b, np.int32(len(b)), images.reshape(-1))
    else:
        _add_biases(b, c, np.int32(len(b)), np.int32(y.size // len(y)), images.reshape(-1))


def empty_images(shape, dtype):
    """Memory for images (N, C, H, W) that holds them as (N, H, W, C)."""
    return empty_along(shape, dtype, CHANNELS_LAST, cupy)


def pixels(images):
    """(N, C, H, W) as (N H W, C): a view where memory holds it so, else a copy."""
    return images.transpose(CHANNELS_LAST).reshape(-1, images.shape[1])
