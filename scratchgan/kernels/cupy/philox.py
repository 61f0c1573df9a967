"""The random numbers of `scratchgan.random`, drawn on the device: one kernel for each drawing, which can be recorded.

The bits are those of the host, so that uniform numbers and masks are equal to the last bit. Normal ones differ in their
last digits, as logarithm, sine and cosine do. A thread encrypts whole blocks: all their numbers are used.
"""

import math
from functools import cache

import cupy
import numpy as np

from scratchgan import recording

NUMBERS = 8  # of 32 bits in a block

PHILOX = r"""
// Philox4x64-10, in place: Salmon et al. 2011, section 3.
__device__ void philox(unsigned long long* word, unsigned long long k0, unsigned long long k1) {
    for (int round = 0; round < 10; ++round) {
        unsigned long long a = word[0], b = word[2], c = 0xD2E7470EE14C6C93ull, d = 0xCA5A826395121157ull;
        word[0] = __umul64hi(d, b) ^ word[1] ^ k0; word[1] = d * b;
        word[2] = __umul64hi(c, a) ^ word[3] ^ k1; word[3] = c * a;
        k0 += 0x9E3779B97F4A7C15ull; k1 += 0xBB67AE8584CAA73Bull;
    }
}
struct Block {
    unsigned long long word[4];
    __device__ Block(unsigned long long number, unsigned long long step, unsigned long long k0, unsigned long long k1) {
        word[0] = number + 1; word[1] = 0; word[2] = step; word[3] = 0;
        philox(word, k0, k1);
    }
    __device__ unsigned int bits(int half, int i) const {             // number i of 4 in a half of the block
        return (unsigned int)((half ? word[2 + i / 2] : word[i / 2]) >> 32 * (i % 2));
    }
};
"""

# Every sample has `blocks` blocks and `size` numbers of them; sample 0 begins at block `first`. Thread i has block i
# (uniform), or four of a sample's u1 and four of its u2 (normal).
PLACE = "raw uint64 counter, uint64 offset, uint64 k0, uint64 k1, uint64 first, int64 blocks, int64 size"

EACH = """
    Block block(first + i, counter[0] + offset, k0, k1);
    long long sample = i / blocks, place = 8 * (i %% blocks);
    #pragma unroll
    for (int j = 0; j < 8; ++j) {
        unsigned int bits = block.bits(j / 4, j %% 4);
        if (place + j < size) %s[sample * size + place + j] = %s;
    }
"""

BOX_MULLER = """
    long long sample = i / blocks, four = i % blocks, other = blocks + four;
    unsigned long long step = counter[0] + offset, start = first + sample * blocks;
    Block one(start + four / 2, step, k0, k1), two(start + other / 2, step, k0, k1);
    #pragma unroll
    for (int j = 0; j < 4; ++j) {
        float u1 = __fmul_rn(__fadd_rn((float)one.bits(four % 2, j), 0.5f), 2.3283064365386963e-10f);  // 2^-32
        float u2 = __fmul_rn(__fadd_rn((float)two.bits(other % 2, j), 0.5f), 2.3283064365386963e-10f);
        float radius = sqrtf(__fmul_rn(-2.0f, logf(u1))), angle = __fmul_rn(u2, 6.2831855f), sine, cosine;
        sincosf(angle, &sine, &cosine);
        long long c = 4 * four + j, s = 4 * other + j;
        if (c < size) z[sample * size + c] = __fmul_rn(cosine, radius);
        if (s < size) z[sample * size + s] = __fmul_rn(sine, radius);
    }
"""

# Each rounded on its own, as on the host: a fused multiply and add would give other bits.
_uniform = cupy.ElementwiseKernel(f"{PLACE}, float32 low, float32 width", "raw T u", EACH % (
    "u", "__fadd_rn(low, __fmul_rn(width, (bits >> 8) * 5.9604644775390625e-8f))"),  # 2^-24
    "scratchgan_uniform", preamble=PHILOX)
_at_least = cupy.ElementwiseKernel(f"{PLACE}, uint64 least", "raw bool kept", EACH % ("kept", "bits >= least"),
                                   "scratchgan_at_least", preamble=PHILOX)
_normal = cupy.ElementwiseKernel(PLACE, "raw T z", BOX_MULLER, "scratchgan_normal", preamble=PHILOX)


def uniform(shape, key, step, first, low, width, dtype):
    """See `scratchgan.random.uniform`; key: its 128 bits."""
    return _draw(_uniform, shape, key, step, first, dtype, np.float32(low), np.float32(width))


def at_least(least, shape, key, step, first):
    """Where the 32 bits of a number are `least` or more."""
    return _draw(_at_least, shape, key, step, first, np.bool, np.uint64(min(max(least, 0), 1 << 32)))


def normal(shape, key, step, first):
    """See `scratchgan.random.normal`."""
    return _draw(_normal, shape, key, step, first, np.float32)


def _draw(kernel, shape, key, step, first, dtype, *numbers):
    with recording.ahead(math.prod(shape) * np.dtype(dtype).itemsize):
        result = cupy.empty(shape, dtype)
        if result.size:
            size = result.size // shape[0]
            blocks = -(-size // NUMBERS)
            counter, offset = recording.counter(step)
            counter = _zero(cupy.cuda.device.get_device_id()) if counter is None else counter
            words = (number & (1 << 64) - 1 for number in (offset, key, key >> 64, first * blocks))
            kernel(counter, *map(np.uint64, words), blocks, size, *numbers, result, size=shape[0] * blocks)
    return result


@cache
def _zero(device):
    """In the place of a step's number that lies on the device, so that there is one kernel for both."""
    zero = cupy.zeros(1, np.uint64)
    cupy.cuda.get_current_stream().synchronize()  # once: any stream may read it from now on
    return zero
