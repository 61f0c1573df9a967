"""Products of small matrices, in one kernel with the bias and the activation: where cuBLAS leaves most of a GPU idle.

A block of 16 warps makes a tile of 16 x 16 numbers of the result, so that a layer of a few hundred features keeps all
multiprocessors busy. The warps share the sum over k: 16-byte words of k go to them in turn, and at the end their sums
are added in a fixed order, so that the bits depend on the shapes alone.
"""

from functools import cache

import cupy
import numpy as np

from scratchgan.kernels.cupy.activations import CODE

TILE, THREADS = 16, 512
# Two tiles or less for each multiprocessor of an H100; larger products fill the device by cuBLAS, too.
MOST_TILES, DEEPEST = 264, 800

SOURCE = r"""
#define TILE 16
#define WARPS 16
#define THREADS (32 * WARPS)
#define WIDE (16 / (int) sizeof(T))    // numbers in a word
#define CHUNK (1056 / (int) sizeof(T)) // of k that are in shared memory at a time
#define LINE (CHUNK + WIDE)            // apart, so that 8 lines lie in different banks
#define WORDS (TILE * CHUNK / WIDE)    // of a chunk
#define EACH ((WORDS + THREADS - 1) / THREADS)

struct __align__(16) Word { T number[WIDE]; };

// A matrix of `lines` numbered by m or n: number (line, k) is at from[line along_line + k along_k], one of these is 1.
struct Operand { const T* from; int along_line, along_k, lines, words; };

// Which word a thread brings: words of a line follow k if the memory does, else they go over several lines.
__device__ void place(const Operand& x, int word, int& line, int& k) {
    if (x.along_k == 1) { line = word / (CHUNK / WIDE); k = word % (CHUNK / WIDE) * WIDE; }
    else { k = word / (TILE / WIDE); line = word % (TILE / WIDE) * WIDE; }
}

__device__ Word fetch(const Operand& x, int line, int k, int depth) {
    Word word;
    const T* from = x.from + (long long) line * x.along_line + (long long) k * x.along_k;
    if (x.words && line < x.lines && k < depth) return *(const Word*) from;
    for (int e = 0; e < WIDE; e++) {
        bool inside = x.along_k == 1 ? line < x.lines && k + e < depth : line + e < x.lines && k < depth;
        word.number[e] = inside ? from[e] : (T) 0;
    }
    return word;
}

__device__ void bring(const Operand& x, int first, int start, int depth, Word* words) {
    for (int i = 0; i < EACH; i++) {
        int line, k, word = threadIdx.x + i * THREADS;
        place(x, word, line, k);
        if (word < WORDS) words[i] = fetch(x, first + line, start + k, depth);
    }
}

__device__ void put(const Operand& x, const Word* words, T* tile) {
    for (int i = 0; i < EACH; i++) {
        int line, k, word = threadIdx.x + i * THREADS;
        place(x, word, line, k);
        if (word >= WORDS) continue;
        if (x.along_k == 1) *(Word*) &tile[line * LINE + k] = words[i];
        else for (int e = 0; e < WIDE; e++) tile[(line + e) * LINE + k] = words[i].number[e];
    }
}

// out[m, n] = finish(sum_k a[m, k] b[k, n] + bias[n], y[m, n], number), where there is a bias, and a y in C order
extern "C" __global__ void __launch_bounds__(THREADS, 2) small_product(
        const T* a, int a_line, int a_k, int a_words, const T* b, int b_line, int b_k, int b_words, const T* bias,
        T* out, int out_m, int out_n, int M, int N, int depth, const T* y, T number) {
    __shared__ Word words[2 * TILE * LINE / WIDE];
    T *tile_a = (T*) words, *tile_b = tile_a + TILE * LINE;
    Operand A = {a, a_line, a_k, M, a_words}, B = {b, b_line, b_k, N, b_words};
    int first_m = blockIdx.y * TILE, first_n = blockIdx.x * TILE;
    int warp = threadIdx.x / 32, i = threadIdx.x % 32 / 4, j = threadIdx.x % 4;
    int m = first_m + threadIdx.x / TILE, n = first_n + threadIdx.x % TILE;  // of the result that this thread ends
    bool ends = threadIdx.x < TILE * TILE && m < M && n < N;
    T total = ends && bias ? bias[n] : (T) 0, seen = ends && y ? y[(long long) m * N + n] : (T) 0;
    Word next_a[EACH], next_b[EACH];
    T sum[2][4] = {};  // of rows i, i + 8 and columns j, j + 4, j + 8, j + 12
    bring(A, first_m, 0, depth, next_a);
    bring(B, first_n, 0, depth, next_b);
    for (int start = 0; start < depth; start += CHUNK) {
        __syncthreads();
        put(A, next_a, tile_a);
        put(B, next_b, tile_b);
        __syncthreads();
        if (start + CHUNK < depth) {  // while this chunk is multiplied the next is on its way
            bring(A, first_m, start + CHUNK, depth, next_a);
            bring(B, first_n, start + CHUNK, depth, next_b);
        }
        for (int k = warp * WIDE; k < CHUNK && start + k < depth; k += WARPS * WIDE) {
            Word of_a[2], of_b[4];
            for (int r = 0; r < 2; r++) of_a[r] = *(const Word*) &tile_a[(i + 8 * r) * LINE + k];
            for (int c = 0; c < 4; c++) of_b[c] = *(const Word*) &tile_b[(j + 4 * c) * LINE + k];
            for (int e = 0; e < WIDE; e++)
                for (int r = 0; r < 2; r++)
                    for (int c = 0; c < 4; c++) sum[r][c] += of_a[r].number[e] * of_b[c].number[e];
        }
    }
    __syncthreads();
    T* sums = tile_a;  // of each warp, TILE x TILE, over both tiles
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 4; c++) sums[(warp * TILE + i + 8 * r) * TILE + j + 4 * c] = sum[r][c];
    __syncthreads();
    if (!ends) return;
    for (int w = 0; w < WARPS; w++) total += sums[w * TILE * TILE + threadIdx.x];
    out[(long long) m * out_m + (long long) n * out_n] = finish(total, seen, number);
}
"""


def source(real, name=None):
    """Of the kernel for a type of numbers whose results go through the function of `activations.CODE` of a name."""
    arrays, numbers, code = CODE[name] if name else ("x", "", "x")
    arguments = ", ".join(f"T {argument}" for argument in (*(arrays.split() + ["none"])[:2], numbers or "nothing"))
    return f"#define T {real}\n__device__ T finish({arguments}) {{ return {code}; }}\n{SOURCE}"


@cache
def kernel(dtype, name):
    return cupy.RawKernel(source({"float32": "float", "float64": "double"}[dtype.name], name), "small_product")


def is_small(m, n, k):
    return k <= DEEPEST and -(-m // TILE) * -(-n // TILE) <= MOST_TILES


def small_product(a, b, out, bias=None, name=None, y=None, number=0):
    """out = f(a @ b + bias), for matrices that have a stride of one number, and a bias (n,) that is dense or None.

    f is the function of `activations.CODE` with that name, of the sum, of y (m, n) in C order and of the number.
    """
    (m, k), n = a.shape, b.shape[1]
    null = np.uintp(0)
    kernel(out.dtype, name)((-(-n // TILE), -(-m // TILE)), (THREADS,), (
        a, *operand(a), b, *operand(b.T), null if bias is None else bias, out,
        *(np.int32(stride // out.itemsize) for stride in out.strides), np.int32(m), np.int32(n), np.int32(k),
        null if y is None else y, out.dtype.type(number)))


def operand(x):
    """(stride of lines, stride of k, whether it may be read in words of 16 bytes) of x (lines, k)."""
    lines, depth = x.shape
    size = x.itemsize
    along_line, along_k = (stride // size for stride in x.strides)
    if along_k != 1 and along_line != 1:  # a single line, or a k of 1, whose stride says nothing
        along_line, along_k = (1, along_k) if lines == 1 else (along_line, 1)
    wide = 16 // size
    other, length = (along_line, depth) if along_k == 1 else (along_k, lines)
    words = x.data.ptr % 16 == 0 and other % wide == 0 and length % wide == 0
    return np.int32(along_line), np.int32(along_k), np.int32(words)
