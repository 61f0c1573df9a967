"""Random numbers as a pure function of (seed, purpose, step, index of the sample).

There is no generator and no state: asking twice gives the same numbers, on every device, however a batch is
split. The bits come from Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"),
a block cipher run on a counter, which NumPy implements:

    key     = 128-bit hash of "seed/purpose"
    counter = (block, 0, step, 0)      four 64-bit words; one block = 256 bits = 8 numbers of 32 bits

Axis 0 of every shape counts samples; in a step of several ranks those of this rank's share of the batch. Each
sample owns a fixed number of blocks, so sample i of a batch that starts at sample `first` reads the blocks of
sample first + i, whoever draws it. (NumPy's bit generator steps
the counter before it encrypts, so block b is the cipher of counter b + 1.)

On CUDA a kernel draws (`kernels/cupy/philox.py`), unless a step or a block has more than 63 bits: then the host does.
Bits, uniform numbers and masks are the same there; normal numbers agree to 4 ulp of max(1, |z|).
"""

import functools
import hashlib
import importlib
import inspect
import math
import operator
import threading

import numpy as np

from scratchgan import backend, ranks

NUMBERS_PER_BLOCK = 8
AT_ONCE = 1 << 16  # numbers drawn together: a drawing's temporaries stay in the cache
_local = threading.local()


def _key(seed, purpose):
    seed = operator.index(seed)  # a whole number of any type, True being 1, and nothing else: 3.0 would be another key
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest(), "little")


def _blocks(seed, purpose, step, first, count):
    """`count` blocks from block `first` on, as a flat uint32 array of 8 * count numbers."""
    key, counter = _key(seed, purpose), first + (operator.index(step) << 128)
    if not hasattr(_local, "bits"):
        _local.bits = np.random.Philox(0)  # one for each thread, since making one takes longer than drawing a batch
    _local.bits.state = {
        "bit_generator": "Philox", "buffer": [0] * 4, "buffer_pos": 4, "has_uint32": 0, "uinteger": 0,
        "state": {"key": _words64(key, 2), "counter": _words64(counter, 4)}}
    return _local.bits.random_raw(4 * count).astype("<u8", copy=False).view("<u4")


def _words64(number, count):
    """A number as 64-bit words, the least significant first."""
    return [number >> 64 * i & (1 << 64) - 1 for i in range(count)]


def _in_parts(draw, shape, first, dtype=np.float32):
    """draw((samples, size), first) for some samples after the other, so that temporaries are few."""
    size = math.prod(shape[1:])
    numbers, step = np.empty((shape[0], size), dtype), max(1, AT_ONCE // max(1, size))
    for start in range(0, shape[0], step):
        part = numbers[start:start + step]
        part[...] = draw(part.shape, first + start)
    return numbers.reshape(shape)


def _on_device(device, shape, step, first):
    """The module that draws there, or None: the host has to."""
    blocks = -(-math.prod(shape[1:]) // NUMBERS_PER_BLOCK)
    if device == "cpu" or not (0 <= step < 1 << 63 and first >= 0 and (first + shape[0]) * blocks < 1 << 63):
        return None
    return importlib.import_module("scratchgan.kernels.cupy.philox")


def _whole(shape):
    """A shape of Python's own numbers: products of NumPy's can overflow, and they have no 128 bits."""
    return tuple(map(operator.index, shape))


def words(shape, seed, purpose, step=0, first=0):
    """uint32 numbers, (samples, n) with n the size of one sample rounded up to whole blocks."""
    (samples, *rest), first = _whole(shape), operator.index(first)
    size = math.prod(rest)
    blocks = -(-size // NUMBERS_PER_BLOCK)
    return _blocks(seed, purpose, step, first * blocks, samples * blocks).reshape(samples, blocks * NUMBERS_PER_BLOCK)


def _for_share(draw):
    """A drawing whose rows are those of this rank's share, where there are several ranks: see `ranks.Share.rows`."""
    signature = inspect.signature(draw)

    @functools.wraps(draw)
    def drawn(*arguments, **named):
        share = ranks.share()
        if share.is_all:
            return draw(*arguments, **named)
        given = signature.bind(*arguments, **named)
        given.apply_defaults()
        (n, *sample), first, parts = given.arguments["shape"], given.arguments["first"], []
        for start, count in share.rows(n):
            given.arguments |= {"shape": (count, *sample), "first": first + start}
            parts.append(draw(*given.args, **given.kwargs))
        return parts[0] if len(parts) == 1 else backend.array_module(parts[0]).concatenate(parts)
    return drawn


@_for_share
def uniform(shape, seed, purpose, step=0, first=0, low=0.0, high=1.0, dtype="float32", device="cpu"):
    """U[low, high): the top 24 bits of each word, so that every float32 value is exact before scaling, which may round
    it to high."""
    shape, step, first = _whole(shape), operator.index(step), operator.index(first)
    if there := _on_device(device, shape, step, first):
        return there.uniform(shape, _key(seed, purpose), step, first, low, high - low, dtype)

    def draw(shape, first):
        u = (words(shape, seed, purpose, step, first)[:, :shape[1]] >> 8).astype(np.float32) * np.float32(2**-24)
        return np.float32(low) + np.float32(high - low) * u
    return backend.to_device(_in_parts(draw, shape, first).astype(dtype, copy=False), device)


@_for_share
def at_least(p, shape, seed, purpose, step=0, first=0, device="cpu"):
    """Where `uniform` of the same arguments is p or more: True with probability 1 - p, found without the floats."""
    least = math.ceil(float(np.float32(p)) * 2**24) << 8
    shape, step, first = _whole(shape), operator.index(step), operator.index(first)
    if there := _on_device(device, shape, step, first):
        return there.at_least(least, shape, _key(seed, purpose), step, first)

    def draw(shape, first):
        return words(shape, seed, purpose, step, first)[:, :shape[1]] >= least
    return backend.to_device(_in_parts(draw, shape, first, np.bool), device)


@_for_share
def normal(shape, seed, purpose, step=0, first=0, dtype="float32", device="cpu"):
    """N(0, 1) by Box and Muller (1958): sqrt(-2 ln u1) (cos, sin)(2 pi u2).

    The first half of a sample's words gives u1, the second u2; the cosines come before the sines. Computed in
    float32 whatever `dtype`, so that a float64 run starts from the same weights and sees the same noise. A device draws
    those of float32 itself, within 4 units of the last place; those of float64, in which runs are compared, are the
    host's.
    """
    shape, step, first = _whole(shape), operator.index(step), operator.index(first)
    if np.dtype(dtype) == np.float32 and (there := _on_device(device, shape, step, first)):
        return there.normal(shape, _key(seed, purpose), step, first)

    def draw(shape, first):
        return _box_muller(words(shape, seed, purpose, step, first))[:, :shape[1]]
    return backend.to_device(_in_parts(draw, shape, first).astype(dtype, copy=False), device)


def _box_muller(words):
    u = words.astype(np.float32)
    u += np.float32(0.5)
    u *= np.float32(2**-32)  # in (0, 1]: the logarithm is finite
    half = u.shape[1] // 2
    radius = np.log(u[:, :half])
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle = u[:, half:]
    angle *= np.float32(2 * math.pi)
    np.cos(angle, out=u[:, :half])
    np.sin(angle, out=angle)
    u.reshape(len(u), 2, half)[...] *= radius[:, None]
    return u


def permutation(n, seed, purpose, step=0):
    """A random order of range(n) (int64): the order of n random 64-bit numbers."""
    n = operator.index(n)
    raw = _blocks(seed, purpose, step, 0, -(-n // 4)).view("<u8")[:n]
    order = np.argsort(raw)  # far faster than a stable sort, and the same order where no two are equal
    ordered = raw[order]
    return order if (ordered[1:] != ordered[:-1]).all() else np.argsort(raw, kind="stable")
