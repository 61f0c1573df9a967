"""Batch norm's fast passes against the formulas, in every memory order and for any size of the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchgan import backend
from scratchgan.kernels import FORMULAS
from scratchgan.kernels.numpy import FASTER, batch_norm, parallel
from scratchgan.layers import BatchNorm2d

PASSES = ("batch_moments", "batch_norm", "batch_norm_sums", "batch_norm_grad")
shapes = st.tuples(st.integers(1, 3), st.lists(st.integers(1, 5), min_size=2, max_size=4)).map(lambda s: (s[0], *s[1]))
long_shapes = st.sampled_from([(1, 2, 3, 300), (2, 1, 3, 7, 90), (1, 300, 2), (2, 130, 5), (1, 40, 600),
                               (1, 3, 2, 20, 50), (3, 1, 2, 300)])


@st.composite
def cases(draw):
    """(x, dy, vectors): x and dy are stored in some order of the axes, mostly with the batches one after the other."""
    shape = draw(shapes | long_shapes)
    axes = 0, *draw(st.permutations(range(1, len(shape))))
    axes = draw(st.just(axes) | st.permutations(range(len(shape))))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x, dy = (rng.normal(2, 1, [shape[axis] for axis in axes]).transpose(np.argsort(axes)) for _ in range(2))
    vectors = [rng.standard_normal((shape[0], shape[2])) for _ in range(3)] + [rng.standard_normal(shape[2])] * 2
    if draw(st.booleans()):
        vectors[3:] = 1.0, 0.0  # without weight and bias
    if draw(st.booleans()):
        vectors[0] = vectors[0][:1]  # one mean and one r for all batches
    return x, dy, vectors


def passes(functions, x, dy, vectors):
    """All that the four passes give, for some mean; the formulas say what it must be."""
    r, dbias, dweight, weight, bias = vectors
    mean = FORMULAS.batch_moments(x)[0][:len(r)]
    return [*functions.batch_moments(x), functions.batch_norm(x, mean, r, weight, bias),
            *functions.batch_norm_sums(dy, x, mean, r),
            functions.batch_norm_grad(dy, x, mean, r, weight, dbias, dweight)]


@pytest.fixture(autouse=True)
def other_sizes():
    """Whatever a test set the sizes to, the next one starts from no forms."""
    batch_norm._form_of.cache_clear()
    yield
    batch_norm._form_of.cache_clear()


@settings(max_examples=100)
@given(cases(), st.sampled_from([1, 16, 200, 1 << 19]), st.sampled_from([1, 16, 2048]), st.sampled_from([1, 1 << 20]),
       st.sampled_from([0, 16, 1e30]), st.sampled_from([1, 4, 256]), st.sampled_from([1, 3, 7]))
def test_fast_passes_equal_the_formulas(case, block, width, small, near, long, workers):
    x, dy, vectors = case
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("BLOCK", block), ("WIDTH", width), ("SHARED_FROM", small), ("NEAR", near), ("LONG", long)):
            patch.setattr(batch_norm, name, value)
        patch.setattr(parallel, "workers", lambda: workers)
        patch.setattr(batch_norm.backend, "empty_like", lambda x: np.full_like(x, np.nan))
        batch_norm._form_of.cache_clear()
        if backend.memory_order(x)[0] == 0 or backend.memory_order(x)[:2] == (2, 0):
            assert batch_norm._batches([x, dy]) is not None
        for got, expected in zip(passes(FASTER, x, dy, vectors), passes(FORMULAS, x, dy, vectors), strict=True):
            assert got.shape == expected.shape and got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    batch_norm._form_of.cache_clear()


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 1, 3, 2), (3, 2, 1, 0)])
@pytest.mark.parametrize("n", [1, 4])
def test_one_mean_for_all_batches(rng, axes, n):
    """As in eval mode, for images by themselves."""
    x, dy = (stored(a, axes) for a in rng.standard_normal((2, 5, n, 3, 6)))
    vectors = [*rng.uniform(1, 2, (3, 1, 3)), *rng.standard_normal((2, 3))]
    for got, expected in zip(passes(FASTER, x, dy, vectors), passes(FORMULAS, x, dy, vectors), strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@given(cases(), st.sampled_from([1, 16, 200, 1 << 19]), st.sampled_from([1, 16, 2048]), st.sampled_from([1, 4, 256]))
def test_fast_sums_of_channels_equal_the_formula(case, block, width, long):
    x = case[0][0]
    x = x.reshape(*x.shape[:2], *x.shape[2:], *[1] * (4 - x.ndim))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("BLOCK", block), ("WIDTH", width), ("LONG", long), ("SHARED_FROM", 1)):
            patch.setattr(batch_norm, name, value)
        batch_norm._form_of.cache_clear()
        got, expected = FASTER.channel_sums(x), FORMULAS.channel_sums(x)
        assert got.shape == expected.shape and got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    batch_norm._form_of.cache_clear()


@pytest.mark.parametrize("axes", [(0, 1, 2, 3, 4), (0, 3, 4, 1, 2)])
def test_neither_the_threads_nor_their_order_change_a_bit(monkeypatch, rng, axes):
    monkeypatch.setattr(batch_norm, "BLOCK", 1000)
    monkeypatch.setattr(batch_norm, "SHARED_FROM", 1000)
    x, dy = (stored(a, axes) for a in rng.standard_normal((2, 2, 32, 8, 16, 16)).astype(np.float32))
    assert len(batch_norm._form(x[0]).blocks) > 20
    vectors, results, counts, run = [*rng.standard_normal((3, 2, 8)), 1.0, 0.0], [], [], parallel.run
    for workers, order in ((1, 1), (2, 1), (2, -1), (3, -1), (20, 1)):
        monkeypatch.setattr(parallel, "workers", lambda workers=workers: workers)
        monkeypatch.setattr(parallel, "run", lambda tasks, step=order: counts.append(len(tasks)) or run(tasks[::step]))
        results.append(passes(FASTER, x, dy, vectors))
    assert set(counts) == {1, 2, 3, 20}
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def stored(array, axes):
    """The same values in memory that holds the axes in this order."""
    return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))


def test_blocks_are_few_and_where_threads_share_them_even(monkeypatch):
    for shape in ((16, 512, 4, 4), (64, 512, 4, 4), (64, 64, 32, 32), (128, 256, 16, 16)):
        x = np.ones((*shape[2:], *shape[:2]), np.float32).transpose(2, 3, 0, 1)
        form, shared = batch_norm._form(x), []
        assert max(rows.stop - rows.start for rows in form.blocks) * form.matrix[1] <= batch_norm.BLOCK
        assert len(form.blocks) <= 2 * -(-x.size // (2 * batch_norm.BLOCK))
        with monkeypatch.context() as patch:
            patch.setattr(parallel, "run", shared.append)
            FASTER.batch_norm(x[None], np.zeros((1, shape[1])), np.ones((1, shape[1])), 1.0, 0.0)
        assert bool(shared) == (x.size >= batch_norm.SHARED_FROM)
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


@pytest.mark.parametrize("mean, r, far", [
    ([0, 0], [1, 1e8], False), ([3.9, -3.9], [1, 1], False), ([0, -4.1], [1, 1], True), ([0, 1e-3], [1, 1e4], True),
    ([1e3, 1], [1e-3, np.nan], True), ([0, 1], [1, np.inf], True), ([39, 0], [0.1, 1], False)])
def test_far_is_a_mean_of_four_deviations(mean, r, far):
    mean, r = np.array(mean, np.float64), np.array(r, np.float64)
    centre, rest = batch_norm._centre(np.zeros(2, np.float32), mean, r)
    if far:
        assert centre[0].dtype == np.float32 and np.array_equal(centre[0] + rest, mean)
    else:
        assert centre == [] and rest is mean


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1)])
@pytest.mark.parametrize("mean, spread", [(1e20, 1e18), (1e4, 1), (1e5, 0), (0.1, 0)])  # the first's square overflows
def test_moments_of_data_far_from_zero_keep_their_digits(rng, axes, mean, spread):
    x = stored(rng.normal(mean, spread, (2, 200, 3)).astype(np.float32), axes)
    wide = x.astype(np.float64)
    got = FASTER.batch_moments(x)
    np.testing.assert_allclose(got[0], wide.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(got[1], wide.var(axis=1), rtol=1e-5, atol=1e-12 * mean**2)


def test_what_the_formulas_are_for(rng):
    x = rng.standard_normal((6, 4))
    for other in (x[::2], x[:, ::2], x[:0], x[::-1]):
        assert batch_norm._form(other) is None
    assert batch_norm._form(x, np.asfortranarray(x)) is None
    assert batch_norm._batches([x[None], x[None].astype(np.float32)]) is None
    assert batch_norm._batches([x.reshape(3, 2, 4).transpose(1, 0, 2)]) is None  # batches with gaps
    dy, vectors = rng.standard_normal((1, 3, 4)), [*rng.standard_normal((3, 1, 4)), 1.0, 0.0]
    for other in (x[None, ::2], x[None, 2::-1], np.broadcast_to(x[:1], (3, 4))[None]):
        for got, expected in zip(passes(FASTER, other, dy, vectors), passes(FORMULAS, other, dy, vectors), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    gaps = rng.standard_normal((2, 3, 4, 10))[..., ::2]
    np.testing.assert_allclose(FASTER.channel_sums(gaps), FORMULAS.channel_sums(gaps), rtol=1e-12)
    assert FASTER.channel_sums(gaps[:0]).tolist() == [0, 0, 0]


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


def test_images_by_themselves_are_taken_together_where_channels_are_rows(rng):
    x = rng.standard_normal((6, 1, 3, 4, 5)).astype(np.float32)
    assert len(batch_norm._batches([x])) == 1
    assert len(batch_norm._batches([stored(x, (0, 1, 3, 4, 2))])) == 6
    assert len(batch_norm._batches([np.concatenate([x, x], axis=1)])) == 6


def test_like_the_input_in_memory(rng):
    x, dy = rng.standard_normal((2, 3, 4, 5, 6))
    assert batch_norm._stored_like(dy, x) is dy
    turned = stored(x, (2, 3, 0, 1))
    like = batch_norm._stored_like(dy, turned)
    assert like.strides == turned.strides and np.array_equal(like, dy)
    assert batch_norm._stored_like(like, turned) is like
    assert batch_norm._stored_like(dy, x[..., ::2].repeat(2, 3)[..., ::-1]) is dy  # x is not dense: no use


def test_they_are_what_runs(monkeypatch, rng):
    """On chains of convolutions and of Linear: the formulas would be right too, but slow."""
    for name in PASSES:
        monkeypatch.setattr(FORMULAS, name, None)
    for axes in ((0, 2, 3, 1), (2, 3, 0, 1), (0, 1, 2, 3)):
        layer = BatchNorm2d(3)
        layer.backward(layer.forward(stored(rng.standard_normal((4, 3, 5, 5)).astype(np.float32), axes)))


# -- the formulas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, wide", [("float32", "float64"), ("complex64", "complex128")])
def test_dtypes(device, rng, dtype, wide):
    x = backend.to_device(rng.standard_normal((2, 5, 3, 2)).astype(dtype), device)
    mean, var = FORMULAS.batch_moments(x)
    sums = FORMULAS.batch_norm_sums(x, x, mean, var)
    assert {str(vector.dtype) for vector in (mean, var, *sums)} == {wide}
    assert FORMULAS.batch_norm(x, mean, var, 1.0, 0.0).dtype == dtype
    assert FORMULAS.batch_norm_grad(x, x, mean, var, 1.0, mean, var).dtype == dtype


def test_each_device_has_the_formulas(device, rng):
    x, dy = rng.normal(2, 1, (2, 2, 5, 3, 4))
    r, dbias, dweight = rng.standard_normal((3, 2, 3))
    weight, bias = rng.standard_normal((2, 3))
    got = [backend.to_host(each) for each in passes(
        FORMULAS, *(backend.to_device(a, device) for a in (x, dy)),
        [backend.to_device(a, device) for a in (r, dbias, dweight, weight, bias)])]
    mean, shaped = x.mean(axis=(1, 3)), lambda vectors: vectors[:, None, :, None]
    xhat, over = (x - shaped(mean)) * shaped(r), (1, 3)
    expected = [mean, x.var(axis=over), xhat * weight[:, None] + bias[:, None], dy.sum(axis=over),
                (dy * xhat).sum(axis=over),
                weight[:, None] * shaped(r) * (dy - shaped(dbias) / 20 - xhat * shaped(dweight) / 20)]
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
