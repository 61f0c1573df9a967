"""CUDA's convolution against the formulas."""

import copy

import numpy as np
import pytest

from scratchgan import kernels
from scratchgan.backend import to_device, to_host
from scratchgan.gradcheck.oracles import relative_error
from scratchgan.layers import Conv2d, ConvTranspose2d

CASES = [
    (Conv2d(3, 5, 4, 2, 1), (4, 3, 8, 6)), (Conv2d(2, 3, (3, 2), (1, 3), (2, 0), (2, 1)), (3, 2, 9, 8)),
    (Conv2d(2, 3, 4, 1, "same"), (2, 2, 4, 5)), (Conv2d(2, 3, 2, 3), (3, 2, 11, 10)),
    (Conv2d(8, 4, 3, 2, 1), (2, 8, 5, 6)), (ConvTranspose2d(3, 4, 4, 2, 1), (2, 3, 5, 4)),
    (Conv2d(3, 4, 1), (2, 3, 5, 4)), (Conv2d(2, 3, 1, 4, 3), (3, 2, 2, 1)), (Conv2d(3, 2, (4, 5)), (3, 3, 4, 5)),
    (Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)), (Conv2d(2, 3, 3), (0, 2, 5, 5)), (Conv2d(2, 3, 3), (2, 5, 5)),
    (ConvTranspose2d(5, 3, 4, 2, 1), (4, 5, 4, 3)), (ConvTranspose2d(3, 2, 3, 2, 1, 1), (3, 3, 4, 6)),
    (ConvTranspose2d(4, 3, (4, 2)), (5, 4, 1, 1)), (ConvTranspose2d(3, 2, 3, 1, 0, dilation=2), (3, 3, 5, 4)),
    (ConvTranspose2d(3, 2, 2, 3, output_padding=1), (2, 3, 3, 2)),
    (ConvTranspose2d(4, 6, 3, 2, 1, groups=2), (2, 4, 3, 4)), (Conv2d(4, 4, 3, padding=1, groups=4), (2, 4, 3, 4))]


def arranged(array, how, device):
    """The values on the device, in one of several memory orders."""
    axes = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1), "WNCH": (3, 0, 1, 2)}.get(how, ())
    if array.ndim == 4 and axes:
        return to_device(np.ascontiguousarray(array.transpose(axes)), device).transpose(np.argsort(axes).tolist())
    return to_device(np.repeat(array, 2, axis=-1), device)[..., ::2] if how == "gaps" else to_device(array, device)


def passed(layer, x, dy, z):
    """What all passes give, each twice or after another that shares its columns."""
    results = {"y": layer.forward(x), "x": layer.backward(dy, "tangent"), "tangent": layer.tangent(z)}
    results |= {"again": layer.backward(dy), "once more": layer.backward(dy)}
    return {name: to_host(value) for name, value in (results | layer.grads).items()}


@pytest.mark.parametrize("order", ["NCHW", "NHWC", "WNCH", "gaps"])
@pytest.mark.parametrize(("layer", "shape"), CASES,
                         ids=[f"{layer!r}-{shape}".replace(" ", "") for layer, shape in CASES])
def test_like_the_formulas(cuda, rng, layer, shape, order):
    for dtype, tolerance in (("float64", 1e-13), ("float32", 1e-5)):
        on_device = copy.deepcopy(layer).to(cuda, dtype)
        x, z = rng.standard_normal((2, *shape)).astype(dtype)
        dy = rng.standard_normal(on_device.forward(to_device(x, cuda)).shape).astype(dtype)
        given = [arranged(array, order, cuda) for array in (x, dy, z)]
        got = passed(on_device, *given)
        with kernels.plain():
            expected = passed(copy.deepcopy(layer).to(dtype=dtype), x, dy, z)
        for tensor, value in got.items():
            assert value.dtype == dtype
            assert value.size == 0 or relative_error(value, expected[tensor])[0] <= tolerance, (tensor, dtype)
        for array, before in zip(given, (x, dy, z), strict=True):
            assert np.array_equal(to_host(array), before)


def test_of_no_images_with_a_bias(cuda):
    layer, nothing = Conv2d(2, 3, 3).to(cuda), to_device(np.zeros((0, 2, 5, 5), np.float32), cuda)
    layer.backward(layer.forward(nothing), "tangent")
    assert layer.tangent(nothing, to_device(np.zeros(0, np.float32), cuda)).shape == (0, 3, 3, 3)
