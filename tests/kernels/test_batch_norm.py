"""Batch norm's fast passes against the plain formulas, in every memory order and for any size of the blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgan import backend
from scratchgan.kernels import batch_norm, parallel

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
    """The four fast passes and, by the formulas, what they must give."""
    mean = x.mean(axis=(0, *range(2, x.ndim)))
    every = [*batch_norm.statistics(x), batch_norm.normalise(x, mean, *vectors[:2], out=np.empty_like(x)),
             *batch_norm.gradient_sums(dy, x, mean),
             batch_norm.input_gradient(dy, x, mean, *vectors, out=np.empty_like(x))]
    plain = [*batch_norm._plain_statistics(x), batch_norm._plain_normalise(x, mean, *vectors[:2]),
             *batch_norm._plain_gradient_sums(dy, x, mean), batch_norm._plain_input_gradient(dy, x, mean, *vectors)]
    return every, plain


@given(cases(), st.sampled_from([1, 16, 200, 1 << 19]), st.sampled_from([1, 16, 2048]))
def test_fast_passes_equal_the_plain_formulas(case, block, width):
    x, dy, vectors = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_norm, "BLOCK", block)
        patch.setattr(batch_norm, "WIDTH", width)
        batch_norm._form_of.cache_clear()
        assert batch_norm._form(x, dy) is not None
        for got, expected in zip(*passes(x, dy, vectors), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    batch_norm._form_of.cache_clear()


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (2, 3, 0, 1)])
def test_the_order_in_which_blocks_are_done_changes_no_bit(monkeypatch, rng, axes):
    monkeypatch.setattr(batch_norm, "BLOCK", 1000)
    x, dy = (np.ascontiguousarray(a.transpose(axes)).transpose(np.argsort(axes))
             for a in rng.standard_normal((2, 32, 8, 16, 16)).astype(np.float32))
    vectors, results, counts = rng.standard_normal((3, 8)), [], []
    run = parallel.run
    for order in (lambda tasks: tasks, lambda tasks: tasks[::-1], lambda tasks: tasks[1::2] + tasks[::2]):
        monkeypatch.setattr(parallel, "run", lambda tasks, order=order: (counts.append(len(tasks)), run(order(tasks))))
        results.append(passes(x, dy, vectors)[0])
    assert min(counts) > 20
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_blocks_are_few_and_even():
    for shape in ((64, 512, 4, 4), (64, 64, 32, 32), (128, 256, 16, 16)):
        form = batch_norm._form(np.empty((*shape[2:], *shape[:2]), np.float32).transpose(2, 3, 0, 1))
        parts = form.parts()
        assert len(parts) % 2 == 0
        assert max(part.stop - part.start for part in parts) * form.matrix[1] <= batch_norm.BLOCK
    assert len(batch_norm._form(np.empty((64, 256), np.float32)).parts()) == 1


def test_the_buffer_size_is_the_callers_again(rng):
    before = np.getbufsize()
    x = rng.standard_normal((40, 600))
    batch_norm.statistics(x)
    with pytest.raises(TypeError):
        batch_norm._form(x).each(lambda rows, x: x + None, x)
    assert np.getbufsize() == before


def test_what_the_plain_formulas_are_for(rng):
    x = rng.standard_normal((6, 4))
    for other in (x + 0j, x[::2], x[:, ::2], x[:0], x[::-1]):
        assert batch_norm._form(other) is None
    assert batch_norm._form(x, x.astype(np.float32)) is None
    assert batch_norm._form(x, np.asfortranarray(x)) is None
    assert batch_norm._form(x, vectors=(np.ones(4) + 0j,)) is None


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
    mean, var = batch_norm.statistics(x)
    sums = batch_norm.gradient_sums(x, x, mean)
    assert {str(vector.dtype) for vector in (mean, var, *sums)} == {wide}
    assert batch_norm.normalise(x, mean, var, mean).dtype == dtype
    assert batch_norm.input_gradient(x, x, mean, var, mean, var).dtype == dtype


def test_each_device_has_the_formulas(device, rng):
    x, dy = rng.normal(2, 1, (2, 5, 3, 4))
    vectors = rng.standard_normal((3, 3))
    mean = x.mean(axis=(0, 2))
    to = [backend.to_device(a, device) for a in (x, dy, mean, *vectors)]
    x, dy, mean, *vectors = to
    shaped = [backend.to_host(v)[:, None] for v in (mean, *vectors)]
    d, hx, hdy = backend.to_host(x) - shaped[0], backend.to_host(x), backend.to_host(dy)
    for got, expected in (
            (batch_norm.statistics(x)[1], hx.var(axis=(0, 2))),
            (batch_norm.normalise(x, mean, *vectors[:2], out=x.copy()), d * shaped[1] + shaped[2]),
            (batch_norm.gradient_sums(dy, x, mean)[1], (hdy * d).sum(axis=(0, 2))),
            (batch_norm.input_gradient(dy, x, mean, *vectors), shaped[1] * (hdy + shaped[2] * d + shaped[3]))):
        np.testing.assert_allclose(backend.to_host(got), expected, rtol=1e-12, atol=1e-12)
