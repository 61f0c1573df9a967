"""Batch norm's fast passes against the plain formulas, in every memory order and for any size of the blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgan import backend
from scratchgan.kernels import batch_norm, parallel
from scratchgan.layers import normalisation

shapes = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)
long_shapes = st.sampled_from([(2, 3, 300), (1, 3, 7, 90), (300, 2), (130, 5), (40, 600), (3, 2, 20, 50)])


@st.composite
def cases(draw):
    """(x, dy, three vectors), x and dy stored in some order of the axes."""
    shape = draw(shapes | long_shapes)
    axes = draw(st.permutations(range(len(shape))))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x, dy = (rng.normal(2, 1, [shape[axis] for axis in axes]).transpose(np.argsort(axes)) for _ in range(2))
    return x, dy, rng.standard_normal((3, shape[1]))


def passes(x, dy, vectors):
    """The four fast passes, with the mean subtracted first and without, and by the formulas what they must give."""
    mean = x.mean(axis=(0, *range(2, x.ndim)))
    every, plain = [*batch_norm.statistics(x)[:2]], [*normalisation.plain_statistics(x)]
    for far in (True, False):
        every += [batch_norm.normalise(x, mean, *vectors[:2], far, out=np.empty_like(x)),
                  *batch_norm.gradient_sums(dy, x, mean, far),
                  batch_norm.input_gradient(dy, x, mean, *vectors, far, out=np.empty_like(x))]
        plain += [normalisation.plain_normalise(x, mean, *vectors[:2]),
                  *normalisation.plain_gradient_sums(dy, x, mean),
                  normalisation.plain_input_gradient(dy, x, mean, *vectors)]
    return every, plain


@given(cases(), st.sampled_from([1, 16, 200, 1 << 19]), st.sampled_from([1, 16, 2048]), st.sampled_from([1, 1 << 20]),
       st.sampled_from([0, 16, 1e30]), st.sampled_from([1, 4, 256]))
def test_fast_passes_equal_the_plain_formulas(case, block, width, small, near, long):
    x, dy, vectors = case
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("BLOCK", block), ("WIDTH", width), ("SMALL", small), ("NEAR", near),
                            ("LONG", long)):
            patch.setattr(batch_norm, name, value)
        batch_norm._form_of.cache_clear()
        assert batch_norm._form(x, dy) is not None
        for got, expected in zip(*passes(x, dy, vectors), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    batch_norm._form_of.cache_clear()


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (2, 3, 0, 1)])
def test_neither_the_threads_nor_their_order_change_a_bit(monkeypatch, rng, axes):
    monkeypatch.setattr(batch_norm, "BLOCK", 1000)
    monkeypatch.setattr(batch_norm, "SMALL", 1000)
    batch_norm._form_of.cache_clear()
    x, dy = (np.ascontiguousarray(a.transpose(axes)).transpose(np.argsort(axes))
             for a in rng.standard_normal((2, 32, 8, 16, 16)).astype(np.float32))
    assert len(batch_norm._form(x).blocks) > 20
    vectors, results, counts, run = rng.standard_normal((3, 8)), [], [], parallel.run
    for workers, order in ((1, 1), (2, 1), (2, -1), (3, -1), (20, 1)):
        monkeypatch.setattr(parallel, "workers", lambda workers=workers: workers)
        monkeypatch.setattr(parallel, "run", lambda tasks, step=order: counts.append(len(tasks)) or run(tasks[::step]))
        results.append(passes(x, dy, vectors)[0])
    assert set(counts) == {1, 2, 3, 20}
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    batch_norm._form_of.cache_clear()


def test_blocks_are_few_and_where_threads_share_them_even(monkeypatch):
    for shape in ((16, 512, 4, 4), (64, 512, 4, 4), (64, 64, 32, 32), (128, 256, 16, 16)):
        x = np.ones((*shape[2:], *shape[:2]), np.float32).transpose(2, 3, 0, 1)
        form, shared = batch_norm._form(x), []
        assert max(rows.stop - rows.start for rows in form.blocks) * form.matrix[1] <= batch_norm.BLOCK
        assert len(form.blocks) <= 2 * -(-x.size // (2 * batch_norm.BLOCK))
        with monkeypatch.context() as patch:
            patch.setattr(parallel, "run", shared.append)
            batch_norm.normalise(x, np.zeros(shape[1]), *np.ones((2, shape[1])), far=False, out=np.empty_like(x))
        assert bool(shared) == (x.size >= batch_norm.SMALL)
        assert not shared or len(form.blocks) % 2 == 0


def test_the_buffer_size_is_the_callers_again(rng):
    before, during = np.getbufsize(), []
    x = rng.standard_normal((40, 600))

    def fail(x, vector):
        during.append(np.getbufsize())
        raise TypeError
    with pytest.raises(TypeError):
        batch_norm._form(x).each(fail, x, vectors=[np.ones(600)])
    assert during == [16] and np.getbufsize() == before


@pytest.mark.parametrize("mean, var, far", [
    ([0, 0], [1, 0], False), ([3.9, -3.9], [1, 1], False), ([0, -4.1], [1, 1], True), ([0, 1e-3], [1, 0], True),
    ([0, 1], [1, -1e-9], True), ([0, 1], [1, np.inf], True), ([0, 1], [1, np.nan], True)])
def test_far_is_a_mean_of_four_deviations(mean, var, far):
    assert batch_norm.is_far(np.array(mean, np.float64), np.array(var, np.float64)) == far


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_squares_too_large_for_the_precision_of_x(rng, axes):
    x = np.ascontiguousarray(rng.normal(1e20, 1e18, (200, 3)).astype(np.float32).transpose(axes)).transpose(axes)
    mean, var, far = batch_norm.statistics(x)
    assert far
    np.testing.assert_allclose(mean, x.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(var, x.var(axis=0, dtype=np.float64), rtol=1e-6)


def test_what_the_plain_formulas_are_for(rng):
    x = rng.standard_normal((6, 4))
    for other in (x + 0j, x[::2], x[:, ::2], x[:0], x[::-1]):
        assert batch_norm._form(other) is None
    assert batch_norm._form(x, x.astype(np.float32)) is None
    assert batch_norm._form(x, np.asfortranarray(x)) is None
    assert batch_norm._form(x, vectors=(np.ones(4) + 0j,)) is None
    one, gap = np.ones(4), np.empty((6, 8))[:, ::2]
    assert batch_norm.statistics(x[::2]) is None and batch_norm.gradient_sums(x[::2], x[::2], one, True) is None
    assert batch_norm.normalise(x, one, one, one, True, gap) is None
    assert batch_norm.input_gradient(x, x, one, one, one, one, True, gap) is None


@pytest.mark.parametrize("length", [1, 6, 7, 8, 13, 14, 50, 53])
def test_sums_of_rows_in_pieces(rng, length):
    a, b = rng.standard_normal((2, 3, length)).astype(np.float32)
    np.testing.assert_allclose(batch_norm.row_sums(a, b, 7), (a * b).sum(axis=1), rtol=1e-5, atol=1e-6)
    ones = np.ones(length, np.float32)
    np.testing.assert_allclose(batch_norm.row_sums(a, ones, 7), a.sum(axis=1), rtol=1e-5, atol=1e-6)
    assert batch_norm.row_sums(a, b, 7).dtype == ("float32" if length <= 7 else "float64")


def test_rows_of_a_prime_number_of_values_are_long():
    for shape in ((2, 3, 10007), (1, 2, 89, 97), (1, 3, 101, 103), (2, 3, 90000)):
        assert batch_norm._form(np.ones(shape, np.float32)).matrix[1] >= batch_norm.LONG, shape


def test_like_the_input_in_memory(rng):
    x, dy = rng.standard_normal((2, 3, 4, 5, 6))
    assert batch_norm.stored_like(dy, x) is dy
    turned = np.ascontiguousarray(x.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
    like = batch_norm.stored_like(dy, turned)
    assert like.strides == turned.strides and np.array_equal(like, dy)
    assert batch_norm.stored_like(like, turned) is like
    assert batch_norm.stored_like(dy, x[..., ::2].repeat(2, 3)[..., ::-1]) is dy  # x is not dense: no use


@pytest.mark.parametrize("dtype, wide", [("float32", "float64"), ("complex64", "complex128")])
def test_dtypes(device, rng, dtype, wide):
    x = backend.to_device(rng.standard_normal((5, 3, 2)).astype(dtype), device)
    mean, var = normalisation.plain_statistics(x)
    sums = normalisation.plain_gradient_sums(x, x, mean)
    assert {str(vector.dtype) for vector in (mean, var, *sums)} == {wide}
    assert normalisation.plain_normalise(x, mean, var, mean).dtype == dtype
    assert normalisation.plain_input_gradient(x, x, mean, var, mean, var).dtype == dtype


def test_each_device_has_the_formulas(device, rng):
    x, dy = rng.normal(2, 1, (2, 5, 3, 4))
    vectors = rng.standard_normal((3, 3))
    mean = x.mean(axis=(0, 2))
    to = [backend.to_device(a, device) for a in (x, dy, mean, *vectors)]
    x, dy, mean, *vectors = to
    shaped = [backend.to_host(v)[:, None] for v in (mean, *vectors)]
    d, hx, hdy = backend.to_host(x) - shaped[0], backend.to_host(x), backend.to_host(dy)
    for got, expected in (
            (normalisation.plain_statistics(x)[1], hx.var(axis=(0, 2))),
            (normalisation.plain_normalise(x, mean, *vectors[:2]), d * shaped[1] + shaped[2]),
            (normalisation.plain_gradient_sums(dy, x, mean)[1], (hdy * d).sum(axis=(0, 2))),
            (normalisation.plain_input_gradient(dy, x, mean, *vectors),
             shaped[1] * (hdy + shaped[2] * d + shaped[3]))):
        np.testing.assert_allclose(backend.to_host(got), expected, rtol=1e-12, atol=1e-12)
