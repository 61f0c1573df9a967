"""CUDA's pooling and upsampling against the formulas."""

import copy

import numpy as np
import pytest

from scratchgan import kernels
from scratchgan.backend import memory_order, to_device, to_host
from scratchgan.layers import AvgPool2d, MaxPool2d, Upsample

CASES = [
    (AvgPool2d(2), (3, 4, 6, 8)), (AvgPool2d(3, 2, 1), (2, 3, 7, 6)), (AvgPool2d(3, 2, 1, ceil_mode=True), (3, 6, 7)),
    (AvgPool2d((2, 3), 1, 1, count_include_pad=False), (2, 3, 5, 4)), (MaxPool2d(2), (3, 4, 6, 8)),
    (MaxPool2d(3, 2, 1), (2, 3, 7, 6)), (MaxPool2d(2, 1, 0, 2), (2, 2, 5, 6)), (MaxPool2d(2, 1, 1, 3), (2, 3, 2, 2)),
     (Upsample(scale_factor=2), (2, 3, 4, 5)),
    (Upsample(scale_factor=(3, 1)), (2, 3, 4, 5)), (Upsample(size=(7, 6)), (2, 3, 4, 3)), (AvgPool2d(2), (0, 3, 4, 4))]


def passes(layer, x, dy, z):
    layer = copy.deepcopy(layer)
    return [layer.forward(x), layer.backward(dy), layer.tangent(z)]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("layer, shape", CASES, ids=[f"{layer!r}-{shape}".replace(" ", "") for layer, shape in CASES])
def test_like_the_formulas(cuda, rng, layer, shape, last):
    def stored(array):
        if not last:
            return to_device(array, cuda)
        return to_device(np.ascontiguousarray(np.moveaxis(array, -3, -1)), cuda).transpose(
            *range(array.ndim - 3), array.ndim - 1, array.ndim - 3, array.ndim - 2)
    for dtype in ("float32", "float64"):
        x, z = rng.standard_normal((2, *shape)).astype(dtype).round(1)  # of equal values the first wins
        x.flat[3:4] = np.nan
        dy = rng.standard_normal(copy.deepcopy(layer).forward(x).shape).astype(dtype)
        with kernels.plain():
            expected = passes(layer, x, dy, z)
        for dy_stored in (stored(dy), to_device(dy, cuda)):
            got = passes(layer, stored(x), dy_stored, stored(z))
            for value, right in zip(got, expected, strict=True):
                assert value.dtype == dtype
                np.testing.assert_allclose(to_host(value), right, rtol=1e-6 if dtype == "float32" else 1e-14, atol=1e-6)
        assert not x.size or memory_order(got[0]) == memory_order(stored(x)) or 1 in got[0].shape


@pytest.mark.parametrize("layer", [AvgPool2d(4), MaxPool2d(4)])
def test_gradients_with_more_numbers_than_an_index_counts_are_left_to_the_formulas(cuda, rng, monkeypatch, layer):
    from scratchgan.kernels.cupy import pooling
    monkeypatch.setattr(pooling, "LARGEST", 100)
    monkeypatch.setattr(pooling, "launch", lambda *arguments, **out: pytest.fail("a kernel was launched"))
    layer, x = copy.deepcopy(layer), rng.standard_normal((2, 1, 16, 16)).astype("float32")
    y = layer.forward(to_device(x, cuda))
    assert layer.backward(y).shape == x.shape
