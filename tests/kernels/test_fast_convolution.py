"""The fast convolutions against the formulas, with blocks of any size and shared by any number of threads."""

import copy
import math
import tracemalloc

import numpy as np
import pytest

from scratchgan import kernels, recipes
from scratchgan.gradcheck.oracles import relative_error
from scratchgan.kernels.numpy import parallel
from scratchgan.kernels.numpy.convolution import columns, winograd
from scratchgan.layers import Conv2d, ConvTranspose2d

CASES = [  # kernel, layer, input shape
    *(("Winograd", Conv2d(9, 5, 4, 2, 1), (5, 9, *size)) for size in
      [(28, 12), (14, 22), (8, 8), (6, 10), (4, 2), (2, 2), (3, 3), (5, 7), (13, 15), (9, 2), (30, 3)]),
    *(("Winograd", ConvTranspose2d(5, 9, 4, 2, 1), (5, 5, *size)) for size in
      [(14, 6), (7, 11), (4, 4), (3, 5), (2, 1), (1, 1), (1, 4), (6, 1)]),
    ("Winograd", ConvTranspose2d(5, 9, 4, 2, 1, 1), (5, 5, 7, 4)),
    ("Winograd", ConvTranspose2d(5, 9, 4, 2, 1, (0, 1)), (4, 5, 6, 3)),
    ("Winograd", Conv2d(8, 1, 4, 2, 1), (1, 8, 6, 6)),
    # A weight much larger than the images: the cores share features.
    *(("Winograd", Conv2d(9, 70, 4, 2, 1), (1, 9, *size)) for size in [(6, 6), (5, 7)]),
    ("Winograd", ConvTranspose2d(70, 9, 4, 2, 1), (1, 70, 3, 3)),
    *(("Columns", Conv2d(channels, 5, 4, 2, 1), (5, channels, *size)) for channels, size in
      [(1, (28, 28)), (3, (16, 10)), (2, (7, 9)), (4, (2, 2)), (3, (3, 20))]),
    *(("Columns", ConvTranspose2d(5, channels, 4, 2, 1), (5, 5, *size)) for channels, size in
      [(1, (14, 14)), (3, (8, 5)), (2, (3, 4)), (4, (1, 1))]),
    ("Columns", Conv2d(2, 3, (3, 2), (1, 3), (2, 0), (2, 1)), (3, 2, 9, 8)),
    ("StrideOne", Conv2d(9, 4, 3), (4, 9, 8, 5)),
    ("Columns", Conv2d(2, 3, 2, 3), (3, 2, 11, 10)), ("StrideOne", Conv2d(2, 3, 3, 1, "same"), (3, 2, 4, 5)),
    ("Columns", Conv2d(2, 3, 1, 4, 3), (3, 2, 2, 1)), ("Columns", ConvTranspose2d(3, 2, 3, 2, 1, 1), (3, 3, 4, 6)),
    # Many channels: a pixel's together in memory.
    ("Columns", Conv2d(8, 3, (3, 2), (2, 3), (2, 1), (1, 2)), (3, 8, 9, 8)),
    ("Columns", Conv2d(9, 4, 5, 2, 2), (3, 9, 7, 6)), ("Columns", Conv2d(8, 2, 1, 3), (2, 8, 5, 4)),
    ("StrideOne", ConvTranspose2d(3, 9, 3, 1, 0, 0, 1, True, 2), (3, 3, 5, 4)),
    ("StrideOne", ConvTranspose2d(4, 3, 2, 1, 0, 1, 1, True, 2), (2, 4, 3, 3)),  # with output padding
    ("StrideOne", ConvTranspose2d(3, 12, 1, 1, 0, (2, 1), 1, True, 3), (2, 3, 4, 3)),
    ("StrideOne", Conv2d(16, 4, 3, 1, 1), (4, 16, 6, 5)), ("StrideOne", Conv2d(8, 1, 3), (3, 8, 7, 4)),
    ("StrideOne", Conv2d(12, 2, (3, 2), 1, "same", (2, 1)), (3, 12, 5, 6)),
    ("StrideOne", Conv2d(4, 1, 5, 1, 3), (1, 4, 3, 3)),
    ("StrideOne", ConvTranspose2d(3, 12, 3, 1, (0, 2)), (2, 3, 4, 5)), ("Columns", Conv2d(8, 1, 3, 1, 3), (2, 8, 4, 4)),
    ("Whole", Conv2d(9, 4, (4, 3)), (5, 9, 4, 3)), ("Whole", Conv2d(3, 1, 7), (1, 3, 7, 7)),
    ("Whole", Conv2d(3, 4, 2, 2), (5, 3, 2, 2)), ("Whole", ConvTranspose2d(9, 4, (4, 3)), (5, 9, 1, 1)),
    ("Whole", ConvTranspose2d(3, 2, 1, 3), (5, 3, 1, 1)),
]


def passed(layer, x, dy):
    """(name of the kernel, what the passes give)."""
    layer = copy.deepcopy(layer)
    y = layer.forward(x)
    dx = layer.backward(dy)
    return type(kernel_of(layer, y)).__name__, {"y": y, "x": dx, **layer.grads}


def kernel_of(layer, y):
    """What the layer keeps to compute with."""
    return layer.kept(y)[1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("kernel", "layer", "shape"), CASES,
                         ids=[f"{kernel}-{layer!r}-{shape}".replace(" ", "") for kernel, layer, shape in CASES])
def test_like_the_formulas(kernel, layer, shape, dtype, rng, monkeypatch):
    layer = copy.deepcopy(layer).to(dtype=dtype)
    x = rng.standard_normal(shape).astype(dtype)
    dy = rng.standard_normal(layer.forward(x).shape).astype(dtype)
    with kernels.plain():
        name, expected = passed(layer, x, dy)
        assert name == "Taps"
    for workers, block in ((1, None), (2, 1), (3, 4), (2, 50), (7, 300)):
        with monkeypatch.context() as cut:
            cut.setattr(parallel, "workers", lambda workers=workers: workers)
            if block:
                for module, size in ((winograd, "TILES"), (columns, "BLOCK")):
                    cut.setattr(module, size, block)
            if workers != 3:
                cut.setattr(winograd, "NUMBERS", 0)
                cut.setattr(winograd, "NARROW", 0)  # all three by Winograd's algorithm
            name, got = passed(layer, x, dy)
        assert name == kernel
        for tensor, value in got.items():
            assert relative_error(value, expected[tensor])[0] <= {"float64": 1e-13, "float32": 1e-5}[dtype], \
                (tensor, workers, block)


def test_the_formulas_where_nothing_is_faster():
    for layer, shape in ((Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)), (Conv2d(2, 3, 3), (0, 2, 5, 5))):
        x = np.zeros(shape, np.float32)
        assert passed(layer, x, layer.forward(x))[0] == "Taps"
    layer, x = Conv2d(2, 3, 3), np.ones((2, 2, 5, 5), np.float32)
    assert passed(layer, x, layer.forward(x))[0] == "StrideOne"
    moved = copy.deepcopy(layer).to(dtype="complex64")
    for each, its_x in ((layer, x + 0j), (layer.twin("complex64"), x), (moved, x)):
        y = each.forward(its_x)
        assert type(kernel_of(each, y)).__name__ == "Taps"
        assert np.iscomplexobj(each.backward(y + 0j, "input"))


def test_gradients_of_the_weight_are_added_up_in_few_places(rng, monkeypatch):
    """However many pieces there are: the weight may be much larger than the images."""
    monkeypatch.setattr(columns, "BLOCK", 1)
    layer = Conv2d(32, 64, 3)
    x = rng.standard_normal((64, 32, 4, 3)).astype(np.float32)
    dy = layer.forward(x)
    assert type(kernel_of(layer, dy)).__name__ == "StrideOne"
    tracemalloc.start()
    layer.backward(dy, "params")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (parallel.workers() + 8) * layer.params["weight"].nbytes


def dcgan64_layers():
    game = recipes.get("dcgan64").build(seed=0, channels=3)
    for network, shape in ((game.generator, (16, 100, 1, 1)), (game.discriminator, (16, 3, 64, 64))):
        for layer in network:
            layer = copy.deepcopy(layer)
            x = np.zeros(shape, np.float32)
            shape = layer.forward(x).shape
            if isinstance(layer, Conv2d | ConvTranspose2d):
                yield layer, x


def test_no_buffer_at_dcgan64_is_larger_than_input_or_output_or_three_quarters_of_the_weight(monkeypatch):
    largest, lend = {}, parallel.scratch

    def recorded(dtype, *shapes, arena="task"):
        each = [s for shape in shapes for s in (shape if isinstance(shape[0], tuple) else [shape])]
        largest[arena] = max(largest.get(arena, 0), *map(math.prod, each))
        return lend(dtype, *shapes, arena=arena)
    monkeypatch.setattr(parallel, "scratch", recorded)
    kinds = set()
    for layer, x in dcgan64_layers():
        largest.clear()
        y = layer.forward(x)
        layer.backward(y)
        kinds.add(type(kernel_of(layer, y)).__name__)
        assert largest.get("task", 0) <= max(x.size, y.size), layer
        assert largest.get("weights", 0) <= 3 / 4 * layer.params["weight"].size, layer
    assert kinds == {"Winograd", "Columns", "Whole"}
