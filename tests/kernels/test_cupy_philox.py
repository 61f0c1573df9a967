"""Random numbers drawn on the device, against the host's."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from scratchgan import random, recording
from scratchgan.backend import device_of, to_host

SHAPES = [(0, 3), (3, 0), (3,), (4, 5), (3, 8), (2, 9), (2, 3, 7), (3, 24), (300, 17)]
ARGUMENTS = [(0, "noise", 0, 0), (7, "other", 5, 3), (2**70, "noise", 2**62, 2**40), (1, "noise", 2**64 - 1, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_numbers_of_the_host(cuda, shape, arguments, dtype):
    for draw in (random.uniform, random.normal):
        expected, got = draw(shape, *arguments, dtype=dtype), draw(shape, *arguments, dtype=dtype, device=cuda)
        assert device_of(got) == cuda and got.dtype == dtype and got.shape == shape
        if draw is random.uniform:
            np.testing.assert_array_equal(to_host(got), expected)
        else:
            apart = np.abs(to_host(got).astype("float64") - expected)
            assert (apart <= 4 * 2**-23 * np.maximum(1, np.abs(expected))).all()
    scaled = random.uniform(shape, *arguments, -1.3, 0.7, dtype), random.uniform(shape, *arguments, -1.3, 0.7, dtype,
                                                                                 device=cuda)
    np.testing.assert_array_equal(to_host(scaled[1]), scaled[0])
    for p in (0, 0.3, 1):
        np.testing.assert_array_equal(to_host(random.at_least(p, shape, *arguments, device=cuda)),
                                      random.at_least(p, shape, *arguments))


@pytest.mark.parametrize("first", [2**61, 2**63 - 2, 2**64 + 5])
def test_counters_beyond_63_bits_are_the_hosts_affair(cuda, first):
    expected = random.uniform((4, 9), 0, "noise", 0, first)
    np.testing.assert_array_equal(to_host(random.uniform((4, 9), 0, "noise", 0, first, device=cuda)), expected)


def test_a_recorded_drawing_reads_the_step_from_the_device(cuda, monkeypatch):
    import cupy
    draws = [lambda step, device: random.normal((5, 7), 1, "noise", step, device=device),
             lambda step, device: random.uniform((5, 7), 1, "between", step, device=device),
             lambda step, device: random.at_least(0.5, (5, 70), 1, "mask", step, device=device)]
    with cupy.cuda.Stream(non_blocking=True) as stream:
        eager = [[to_host(draw(step, cuda)) for draw in draws] for step in (2, 12)]
        steps = cupy.zeros(1, "uint64")
        token = recording._current.set(SimpleNamespace(
            counter=lambda step: (steps, step - 3), ahead=nullcontext))
        stream.begin_capture()
        recorded = [draw(2, cuda) for draw in draws]
        graph = stream.end_capture()
        recording._current.reset(token)
        for step, expected in zip((2, 12), eager, strict=True):
            steps.fill(step + 1)  # the offset is -1
            graph.launch()
            for got, numbers in zip(recorded, expected, strict=True):
                np.testing.assert_array_equal(to_host(got), numbers)


def test_one_kernel_each(cuda, launches):
    for draw in (lambda: random.normal((64, 100), 0, "z", 1, device=cuda),
                 lambda: random.uniform((64, 100), 0, "z", 1, device=cuda),
                 lambda: random.at_least(0.3, (64, 100), 0, "z", 1, device=cuda)):
        assert launches(draw) == 1
