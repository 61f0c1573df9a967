"""How many kernels a layer launches: at the sizes of GANs that is what a GPU's time goes to. Counted by an emulator."""

import copy
import sys

import numpy as np
import pytest

from scratchgan.backend import to_device, to_host
from scratchgan.layers import AvgPool2d, BatchNorm2d, Conv2d, ConvTranspose2d, InstanceNorm2d, MaxPool2d, Upsample

LAYERS = {  # layer, launches of a forward pass, of a backward pass
    "convolution": (Conv2d(8, 6, 4, 2, 1), 3, 4),
    "without bias": (Conv2d(8, 6, 4, 2, 1, bias=False), 2, 3),
    "of one pixel": (Conv2d(8, 6, 1, bias=False), 1, 2),
    "of all pixels": (Conv2d(8, 6, 10, bias=False), 1, 2),
    "transposed": (ConvTranspose2d(8, 6, 4, 2, 1, bias=False), 2, 3),
    "batch norm": (BatchNorm2d(8), 3, 3),
    "batch norm without weights": (BatchNorm2d(8, affine=False), 3, 2),
    "instance norm": (InstanceNorm2d(8), 2, 2),
    "average": (AvgPool2d(2), 1, 1),
    "largest": (MaxPool2d(2), 1, 1),
    "upsampling": (Upsample(scale_factor=2), 2, 2)}


@pytest.fixture
def counters(cuda):
    """The emulator; a real device does not count."""
    emulator = sys.modules.get("cupysim")
    if emulator is None:
        pytest.skip("only an emulator counts launches")
    return emulator


def images(rng, shape, device):
    """On the device, channels last."""
    n, c, h, w = shape
    return to_device(rng.standard_normal((n, h, w, c)).astype(np.float32), device).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("name", LAYERS)
def test_launches_of_a_layer(cuda, counters, rng, name):
    layer, forward, backward = LAYERS[name]
    layer = copy.deepcopy(layer).to(cuda)
    x = images(rng, (4, 8, 10, 10), cuda)
    dy = images(rng, layer.forward(x).shape, cuda)
    for _ in range(2):                                  # the first pass may make what stays
        layer.zero_grad()
        counters.reset()
        layer.forward(x)
        of_forward = counters.counters()
        layer.backward(dy)
        both = counters.counters()
    assert (of_forward["launches"], both["launches"] - of_forward["launches"]) == (forward, backward), both["names"]
    assert not both["syncs"] and not both["h2d"] and not both["d2h"]


@pytest.mark.parametrize("name", LAYERS)
def test_passes_can_be_recorded_and_have_the_same_bits(cuda, rng, name):
    import cupy
    layer = copy.deepcopy(LAYERS[name][0]).to(cuda)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x = images(rng, (64, 8, 10, 10), cuda)
        dy = images(rng, layer.forward(x).shape, cuda)

        def passes():
            layer.zero_grad()
            return layer.forward(x), layer.backward(dy), *layer.grads.values()
        expected = [to_host(value) for value in passes()]
        stream.begin_capture()
        recorded = passes()
        graph = stream.end_capture()
        for _ in range(2):
            graph.launch()
            stream.synchronize()
            for value, right in zip(recorded, expected, strict=True):
                np.testing.assert_array_equal(to_host(value), right)
