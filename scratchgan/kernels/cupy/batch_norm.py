"""The formulas of `scratchgan.layers.batch_norm` in one launch each, and the sums of channels.

x, (B, n, C, ...), lies in memory as (B, n, ..., C) or (B, n, C, ...); other orders take the formulas. A block of
threads looks after a few channels of one batch, neighbours in memory where they are, and after a part of the M values
of each. Sums are of few numbers in the precision of x, then of float64; the last block of a channel to finish adds up
what all its blocks found, in their order, so that the same numbers give the same bits.

What is added up is taken about a number near it, so that data far from zero keep their digits: each thread's values
about its first, and those sums, in float64, about the channel's first.
"""

import math
from functools import cache
from typing import NamedTuple

import cupy
import numpy as np

from scratchgan.backend import empty_like
from scratchgan.kernels.cupy.gemm import COUNTERS, of_stream
from scratchgan.kernels.formulas import FORMULAS

THREADS = 256
SIDE_BY_SIDE = 32  # channels of a block at most: their float32 numbers are one line of the cache
LARGEST = 2**31 - 2**20  # numbers that an int counts, and a step of all threads beyond
BLOCKS = 2048      # enough to keep a GPU busy
NOTHING = np.uintp(0)
NUMBERS = {"float32": "float", "float64": "double"}

SOURCE = r"""
// A block: CHANNELS threads side by side, and THREADS / CHANNELS of these rows.
struct Part {
    int channel, batch, base, stride_of_channel, count, channels, inner, first, step;
    __device__ Part(int channels, int inner, int count) : count(count), channels(channels), inner(inner) {
        int groups = (channels + CHANNELS - 1) / CHANNELS;
        batch = blockIdx.x / groups;
        channel = blockIdx.x % groups * CHANNELS + threadIdx.x % CHANNELS;
        base = batch * count * channels + channel * inner;
        first = blockIdx.y * (THREADS / CHANNELS) + threadIdx.x / CHANNELS;
        step = gridDim.y * (THREADS / CHANNELS);
        if (channel >= channels) first = count;
    }
    __device__ int operator[](int m) const {  // where the value m of the channel is
        return base + (inner == 1 ? m * channels : m / inner * (channels * inner) + m % inner);
    }
    __device__ int vector(int per_batch) const { return batch * per_batch + channel; }
};

// The sums of all threads of a channel. True for the one thread of each channel that has them.
__device__ bool add_up(const Part& part, double& a, double& b, double* found, unsigned int* arrived) {
    __shared__ double sums[2][THREADS];
    __shared__ bool is_last;
    int t = threadIdx.x;
    for (int round = 0; ; round++) {
        sums[0][t] = a;
        sums[1][t] = b;
        __syncthreads();
        for (int half = THREADS / 2; half >= CHANNELS; half /= 2) {
            if (t < half) {
                sums[0][t] += sums[0][t + half];
                sums[1][t] += sums[1][t + half];
            }
            __syncthreads();
        }
        if (t < CHANNELS) {
            a = sums[0][t];
            b = sums[1][t];
        }
        if (round == 1 || gridDim.y == 1) return t < CHANNELS && part.channel < part.channels;
        // found: [block along y][2][block along x][CHANNELS]
        int across = gridDim.x * CHANNELS, mine = blockIdx.x * CHANNELS + t % CHANNELS;
        if (t < CHANNELS) {
            found[2 * blockIdx.y * across + mine] = a;
            found[(2 * blockIdx.y + 1) * across + mine] = b;
        }
        __threadfence();
        __syncthreads();
        if (t == 0) is_last = atomicAdd(arrived + blockIdx.x, 1u) == gridDim.y - 1;
        __syncthreads();
        if (!is_last) return false;
        if (t == 0) arrived[blockIdx.x] = 0;
        __threadfence();
        a = b = 0;
        for (int y = t / CHANNELS; y < gridDim.y; y += THREADS / CHANNELS) {
            a += ((volatile double*) found)[2 * y * across + mine];
            b += ((volatile double*) found)[(2 * y + 1) * across + mine];
        }
    }
}

// x - mean, where the mean has more digits than x.
struct Centre {
    NUMBER high, low;
    __device__ Centre(double mean) : high((NUMBER) mean), low((NUMBER) (mean - (NUMBER) mean)) {}
    __device__ NUMBER operator()(NUMBER x) const { return x - high - low; }
};

extern "C" {

// mean, var and r = 1 / sqrt(var + eps), (B, C) each
__global__ void moments(int channels, int inner, int count, double* found, unsigned int* arrived, const NUMBER* x,
                        double eps, double* mean, double* var, double* r) {
    Part part(channels, inner, count);
    double a = 0, b = 0, centre = 0;
    if (part.channel < channels) centre = x[part[0]];
    if (part.first < count) {
        NUMBER own = x[part[part.first]], sum = 0, squares = 0;
        int n = 0;
        for (int m = part.first; m < count; m += part.step, n++) {
            NUMBER d = x[part[m]] - own;
            sum += d;
            squares += d * d;
        }
        double far = own - centre;                      // sums about own become sums about centre
        a = sum + n * far;
        b = squares + 2 * far * sum + n * far * far;
    }
    if (add_up(part, a, b, found, arrived)) {
        int v = part.vector(channels);
        a /= count;
        b = b / count - a * a;
        mean[v] = centre + a;
        var[v] = b < 0 ? 0 : b;
        r[v] = 1 / sqrt(var[v] + eps);
    }
}

// (x - mean) r weight + bias
__global__ void normalised(int channels, int inner, int count, const NUMBER* x, NUMBER* y, const double* mean,
                           const double* r, int per_batch, const NUMBER* weight, const NUMBER* bias) {
    Part part(channels, inner, count);
    if (part.first >= count) return;
    int v = part.vector(per_batch);
    Centre centred(mean[v]);
    NUMBER scale = weight ? r[v] * weight[part.channel] : r[v], shift = bias ? bias[part.channel] : (NUMBER) 0;
    for (int m = part.first; m < count; m += part.step) y[part[m]] = centred(x[part[m]]) * scale + shift;
}

// sum dy, sum dy xhat
__global__ void gradient_sums(int channels, int inner, int count, double* found, unsigned int* arrived,
                              const NUMBER* dy, const NUMBER* x, const double* mean, const double* r, int per_batch,
                              double* dbias, double* dweight) {
    Part part(channels, inner, count);
    NUMBER sum = 0, products = 0;
    int v = part.vector(per_batch);
    if (part.first < count) {
        Centre centred(mean[v]);
        for (int m = part.first; m < count; m += part.step) {
            NUMBER d = dy[part[m]];
            sum += d;
            products += d * centred(x[part[m]]);
        }
    }
    double a = sum, b = products;
    if (add_up(part, a, b, found, arrived)) {
        dbias[part.vector(channels)] = a;
        dweight[part.vector(channels)] = b * r[v];
    }
}

// weight r (dy - dbias / M - xhat dweight / M)
__global__ void gradient(int channels, int inner, int count, const NUMBER* dy, const NUMBER* x, NUMBER* dx,
                         const double* mean, const double* r, int per_batch, const NUMBER* weight,
                         const double* dbias, const double* dweight, int sums_per_batch) {
    Part part(channels, inner, count);
    if (part.first >= count) return;
    int v = part.vector(per_batch), s = part.vector(sums_per_batch);
    Centre centred(mean[v]);
    NUMBER scale = weight ? r[v] * weight[part.channel] : r[v];
    NUMBER offset = dbias[s] / count, slope = r[v] * dweight[s] / count;
    for (int m = part.first; m < count; m += part.step) {
        int at = part[m];
        dx[at] = scale * (dy[at] - offset - centred(x[at]) * slope);
    }
}

// sum dy, as it is or in the precision of dy, one of which is a null pointer
__global__ void sums(int channels, int inner, int count, double* found, unsigned int* arrived, const NUMBER* dy,
                     double* total, NUMBER* rounded) {
    Part part(channels, inner, count);
    NUMBER sum = 0;
    for (int m = part.first; m < count; m += part.step) sum += dy[part[m]];
    double a = sum, b = 0;
    if (!add_up(part, a, b, found, arrived)) return;
    if (total) total[part.channel] = a;
    else rounded[part.channel] = a;
}

// The moving averages of all channels, in one block; `momentum` below 0 stands for 1 / tracked.
__global__ void averages(int channels, NUMBER* running_mean, NUMBER* running_var, long long* tracked,
                         const double* mean, const double* var, int batches, int count, double momentum) {
    long long before = *tracked;
    __syncthreads();
    if (threadIdx.x == 0) *tracked = before + batches;
    if (count == 0) return;
    for (int c = threadIdx.x; c < channels; c += THREADS)
        for (int b = 0; b < batches; b++) {
            double share = momentum < 0 ? 1.0 / (before + b + 1) : momentum;
            double unbiased = var[b * channels + c] * (count / (count - 1.0));
            running_mean[c] += share * (mean[b * channels + c] - running_mean[c]);
            running_var[c] += share * (unbiased - running_var[c]);
        }
}

// total += each of its terms, (rows, size), for two totals; a null pointer stands for none.
__global__ void add_in_turn(int size, int rows, NUMBER* a, const double* a_terms, int a_is_fresh,
                            NUMBER* b, const double* b_terms, int b_is_fresh) {
    NUMBER* total = blockIdx.y ? b : a;
    const double* terms = blockIdx.y ? b_terms : a_terms;
    int c = blockIdx.x * THREADS + threadIdx.x;
    if (!total || c >= size) return;
    NUMBER sum = (blockIdx.y ? b_is_fresh : a_is_fresh) ? (NUMBER) 0 : total[c];
    for (int row = 0; row < rows; row++) sum += terms[row * size + c];
    total[c] = sum;
}

}
"""


class Form(NamedTuple):
    """How memory holds x: batches x (count / inner) x channels x inner numbers."""

    batches: int
    channels: int
    inner: int
    count: int       # M
    side_by_side: int  # channels of a block

    @property
    def across(self):
        return self.batches * -(-self.channels // self.side_by_side)

    def parts(self, values, blocks):
        """Blocks that share a channel: each thread gets `values` values or more, all blocks are about so many."""
        return min(-(-self.count * self.side_by_side // (THREADS * values)), max(1, blocks // self.across))


def form_of(x, *others):
    """The `Form` of arrays (B, n, C, ...); None where only the formulas will do."""
    others_differ = any(other.dtype != x.dtype for other in others)
    if others_differ or not 0 < x.size < LARGEST or x.dtype.name not in NUMBERS:
        return None
    batches, n, channels, *rest = x.shape
    inner = math.prod(rest)
    if not x.flags.c_contiguous or channels == 1:
        if not x.transpose(0, 1, *range(3, x.ndim), 2).flags.c_contiguous:
            return None
        inner = 1
    side_by_side = min(SIDE_BY_SIDE, 1 << (channels - 1).bit_length()) if inner == 1 else 1
    return Form(batches, channels, inner, n * math.prod(rest), side_by_side)


@cache
def module(dtype, side_by_side):
    constants = {"NUMBER": NUMBERS[dtype.name], "THREADS": THREADS, "CHANNELS": side_by_side}
    return cupy.RawModule(code="".join(f"#define {key} {value}\n" for key, value in constants.items()) + SOURCE)


@cache
def compiled(name, dtype, side_by_side):
    return module(dtype, side_by_side).get_function(name)


def launch(name, form, dtype, parts, *arguments):
    sizes = map(np.int32, (form.channels, form.inner, form.count))
    compiled(name, dtype, form.side_by_side)((form.across, parts), (THREADS,), (*sizes, *arguments))


def add_up(name, form, dtype, *arguments):
    """Launch a kernel that shares its sums by several blocks."""
    parts, found, arrived = form.parts(8, COUNTERS), NOTHING, NOTHING
    if parts > 1:
        found = cupy.empty((parts, 2, form.across * form.side_by_side), np.float64)
        arrived = of_stream()[2]
    launch(name, form, dtype, parts, found, arrived, *arguments)


def each(name, form, dtype, *arguments):
    """Launch a kernel that computes every number by itself."""
    launch(name, form, dtype, form.parts(4, BLOCKS), *arguments)


def wide(form, *vectors):
    """The vectors, (B, C) or (1, C), as float64 arrays, and the step from one batch to the next."""
    per_batch = form.channels if len(vectors[0]) > 1 else 0
    return *(cupy.ascontiguousarray(vector, np.float64) for vector in vectors), np.int32(per_batch)


def given(vector):
    """weight or bias, of which a number is what it is where there is none."""
    return NOTHING if isinstance(vector, float) else cupy.ascontiguousarray(vector)


def stored_like(dy, x):
    """dy in the memory order of x: itself where it is in it already."""
    if dy.strides == x.strides or (dy.flags.c_contiguous and x.flags.c_contiguous):
        return dy
    copied = empty_like(x)
    copied[...] = dy
    return copied


def batch_moments(x):
    return FORMULAS.batch_moments(x) if form_of(x) is None else batch_statistics(x, 0.0)[:2]


def batch_statistics(x, eps):
    form = form_of(x)
    if form is None:
        return FORMULAS.batch_statistics(x, eps)
    mean, var, r = cupy.empty((3, form.batches, form.channels), np.float64)
    add_up("moments", form, x.dtype, x, np.float64(eps), mean, var, r)
    return mean, var, r


def batch_norm(x, mean, r, weight, bias):
    form = form_of(x, *(vector for vector in (weight, bias) if not isinstance(vector, float)))
    if form is None:
        return FORMULAS.batch_norm(x, mean, r, weight, bias)
    y = empty_like(x)
    each("normalised", form, x.dtype, x, y, *wide(form, mean, r), given(weight), given(bias))
    return y


def batch_norm_sums(dy, x, mean, r):
    form = form_of(x, dy)
    if form is None:
        return FORMULAS.batch_norm_sums(dy, x, mean, r)
    dbias, dweight = cupy.empty((2, form.batches, form.channels), np.float64)
    add_up("gradient_sums", form, x.dtype, stored_like(dy, x), x, *wide(form, mean, r), dbias, dweight)
    return dbias, dweight


def batch_norm_grad(dy, x, mean, r, weight, dbias, dweight):
    form = form_of(x, dy, *(() if isinstance(weight, float) else (weight,)))
    if form is None:
        return FORMULAS.batch_norm_grad(dy, x, mean, r, weight, dbias, dweight)
    dx = empty_like(x)
    each("gradient", form, x.dtype, stored_like(dy, x), x, dx, *wide(form, mean, r), given(weight),
         *wide(form, dbias, dweight))
    return dx


def channel_sums(dy, out=None):
    form = form_of(dy[None])
    if form is None:
        return FORMULAS.channel_sums(dy)
    fits = out is not None and out.dtype == dy.dtype and out.flags.c_contiguous
    rounded, total = (out, NOTHING) if fits else (NOTHING, cupy.empty(form.channels, np.float64))
    add_up("sums", form, dy.dtype, dy, total, rounded)
    return out if fits else total


def running_averages(running_mean, running_var, count, means, variances, M, momentum):
    if running_mean.dtype.name not in NUMBERS or (momentum is not None and momentum < 0):
        return FORMULAS.running_averages(running_mean, running_var, count, means, variances, M, momentum)
    share = np.float64(-1 if momentum is None else momentum)
    compiled("averages", running_mean.dtype, 1)((1,), (THREADS,), (
        np.int32(running_mean.size), running_mean, running_var, count, *map(cupy.ascontiguousarray, (means, variances)),
        np.int32(len(means)), np.int32(M), share))


def add_in_turn(totals, terms, fresh):
    first = terms[0]
    if len(totals) > 2 or any(total.dtype.name not in NUMBERS or not total.flags.c_contiguous for total in totals) or \
            any(each.shape != first.shape or each.dtype != np.float64 or not each.flags.c_contiguous for each in terms):
        return FORMULAS.add_in_turn(totals, terms, fresh)
    rows, size = first.shape
    given = [part for each in zip(totals, terms, map(np.int32, fresh)) for part in each]
    given += [NOTHING, NOTHING, np.int32(0)] * (2 - len(totals))
    compiled("add_in_turn", totals[0].dtype, 1)((-(-size // THREADS), len(totals)), (THREADS,),
                                                (np.int32(size), np.int32(rows), *given))
