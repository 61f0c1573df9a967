"""The random numbers: against the cipher's published vectors, a plain Philox, and their own promises."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgan import backend, random

MASK = 2**64 - 1


def philox(counter, key):
    """Philox4x64-10 in plain Python (Salmon et al. 2011, section 3): four words from four and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & MASK, (p0 >> 64) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return [c0, c1, c2, c3]


# The known-answer vectors published with Random123.
VECTORS = [
    ([0] * 4, [0] * 2, [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]),
    ([MASK] * 4, [MASK] * 2, [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]),
    ([0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
     [0x452821E638D01377, 0xBE5466CF34E90C6C],
     [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6]),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_plain_philox_gives_the_published_vectors(counter, key, expected):
    assert philox(counter, key) == expected


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_the_hosts_blocks_are_the_published_vectors(counter, key, expected, monkeypatch):
    monkeypatch.setattr(random, "_key", lambda seed, purpose: key[0] | key[1] << 64)
    number = sum(word << 64 * i for i, word in enumerate(counter)) - 1  # it is stepped before it is encrypted
    assert random._blocks(0, "", number >> 128, number & 2**128 - 1, 1).view("<u8").tolist() == expected


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_the_devices_cipher_gives_the_published_vectors(cuda, counter, key, expected):
    import cupy

    from scratchgan.kernels.cupy.philox import PHILOX
    encrypt = cupy.ElementwiseKernel("uint64 k0, uint64 k1", "raw uint64 words", "philox(&words[0], k0, k1)",
                                     "encrypt", preamble=PHILOX)
    words = cupy.asarray(np.array(counter, "uint64"))
    encrypt(*map(np.uint64, key), words, size=1)
    assert words.tolist() == expected


@given(seed=st.integers(0, 2**40), step=st.integers(0, 2**40), first=st.integers(0, 2**30))
def test_words_are_philox_of_the_documented_counter(seed, step, first):
    key = random._key(seed, "purpose")
    got = random.words((2, 5), seed, "purpose", step, first)
    for row, sample in enumerate((first, first + 1)):
        block = philox([sample + 1, 0, step, 0], [key & MASK, key >> 64])
        expected = [half for word in block for half in (word & 0xFFFFFFFF, word >> 32)]
        assert got[row].tolist() == expected


@given(split=st.integers(0, 9), size=st.integers(1, 19), step=st.integers(0, 1000))
def test_a_split_batch_sees_the_numbers_of_the_whole(split, size, step):
    for draw in (random.normal, random.uniform):
        whole = draw((9, size), 3, "noise", step)
        parts = [draw((split, size), 3, "noise", step), draw((9 - split, size), 3, "noise", step, first=split)]
        assert whole.tobytes() == np.concatenate(parts).tobytes()


@pytest.mark.parametrize("draw", [random.normal, random.uniform])
def test_large_drawings_in_parts(draw, monkeypatch):
    whole = draw((10, 3, 7), 0, "test", 1, 4)
    for size in (1, 50, 100):
        monkeypatch.setattr(random, "AT_ONCE", size)
        assert np.array_equal(draw((10, 3, 7), 0, "test", 1, 4), whole)


def test_threads_draw_independently():
    expected = [random.normal((50, 40), 0, "noise", step) for step in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            drawn = list(pool.map(lambda step: random.normal((50, 40), 0, "noise", step), range(40)))
            assert all(map(np.array_equal, drawn, expected))


def test_seed_purpose_and_step_each_change_the_numbers():
    base = random.normal((4, 8), 1, "a", 1)
    others = [random.normal((4, 8), *arguments) for arguments in ((2, "a", 1), (1, "b", 1), (1, "a", 2))]
    assert all(np.abs(base - other).min() > 0 for other in others)
    assert base.tobytes() == random.normal((4, 8), 1, "a", 1).tobytes()


def test_normal_has_the_moments_and_tails_of_a_normal():
    z = random.normal((2000, 500), 0, "test").astype(np.float64).ravel()
    n = z.size
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert np.isfinite(z).all()
    ordered = np.sort(z)
    cdf = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in ordered[:: n // 1000]])
    empirical = np.arange(n)[:: n // 1000] / n
    assert np.abs(cdf - empirical).max() < 1.95 / math.sqrt(n)  # Kolmogorov and Smirnov, level 0.001
    pairs = z.reshape(2000, 500)
    assert abs((pairs[:, 0] * pairs[:, 250]).mean()) < 4 / math.sqrt(2000)  # cosine against sine


def test_uniform_fills_the_half_open_interval():
    u = random.uniform((1000, 500), 0, "test", low=-2.0, high=3.0).astype(np.float64).ravel()
    assert u.min() >= -2 and u.max() < 3
    assert abs(u.mean() - 0.5) < 4 * 5 / math.sqrt(12 * u.size)
    counts = np.histogram(u, 100, (-2, 3))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 150  # chi-square with 99 degrees of freedom, level 0.001


@pytest.mark.parametrize("p", [0, 1e-9, 0.2, 1 / 3, 0.5, 1 - 1e-9, 1])
def test_at_least_compares_as_the_uniform_numbers_do(p, device):
    of, seen = ((300, 7), 3, "mask", 4, 2), random.at_least(p, (300, 7), 3, "mask", 4, 2, device=device)
    assert backend.device_of(seen) == device and seen.dtype == np.bool
    assert np.array_equal(backend.to_host(seen), random.uniform(*of) >= p)


def test_float64_numbers_are_the_float32_ones():
    assert np.array_equal(random.normal((3, 4), 0, "x", dtype="float64"), random.normal((3, 4), 0, "x"))
    assert random.normal((3, 4), 0, "x", dtype="float64").dtype == np.float64


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_permutation_visits_everything_once(n):
    order = random.permutation(n, 5, "order", 3)
    assert sorted(order.tolist()) == list(range(n))
    if n == 1000:
        assert (order == np.arange(n)).sum() < 10
        assert not np.array_equal(order, random.permutation(n, 5, "order", 4))


def test_every_device_gives_the_same_numbers(device):
    for draw, ulps in ((random.normal, 4), (random.uniform, 0)):
        got, expected = draw((3, 5), 1, "noise", 2, device=device), draw((3, 5), 1, "noise", 2)
        assert backend.device_of(got) == device
        assert (np.abs(backend.to_host(got) - expected) <= ulps * 2**-23 * np.maximum(1, np.abs(expected))).all()


@pytest.mark.parametrize("whole", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64, np.array])
@pytest.mark.parametrize("draw", [random.normal, random.uniform, random.words])
def test_whole_numbers_of_any_type(draw, whole):
    expected = draw((2, 3, 100), 5, "test", 100, 120)
    got = draw((whole(2), whole(3), whole(100)), whole(5), "test", whole(100), whole(120))
    assert np.array_equal(got, expected)
    assert np.array_equal(random.permutation(whole(120), whole(5), "test", whole(9)),
                          random.permutation(120, 5, "test", 9))


@pytest.mark.parametrize("type_", [np.uint8, np.int32])
def test_products_of_small_numbers_do_not_overflow(type_):
    shape = (type_(2), type_(100), type_(100))
    assert np.array_equal(random.uniform(shape, 0, "test"), random.uniform((2, 100, 100), 0, "test"))
    assert random.normal(np.array([3, 200], type_), 0, "test").shape == (3, 200)


@pytest.mark.parametrize("bad", [3.0, np.float32(3), "3", None], ids=repr)
def test_numbers_that_are_not_whole_are_refused(bad):
    for draw in (lambda: random.normal((2, 3), bad, "test"), lambda: random.uniform((2, bad), 0, "test"),
                 lambda: random.normal((2, 3), 0, "test", bad), lambda: random.words((2, 3), 0, "test", 0, bad),
                 lambda: random.permutation(bad, 0, "test")):
        with pytest.raises(TypeError, match="integer"):
            draw()


def test_true_is_one():
    assert np.array_equal(random.normal((2, 3), True, "test"), random.normal((2, 3), 1, "test"))
