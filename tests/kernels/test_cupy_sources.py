"""NVIDIA's compiler takes the CUDA sources, for each generation of devices that there is to train on."""

import re
from pathlib import Path

import numpy as np
import pytest

from scratchgan.kernels import cupy as cupy_kernels

PASTED = """
extern "C" __global__ void uses(unsigned long long* words, T* x) {
    philox(words, 1, 2);
    Block block(words[0], words[1], 1, 2);
    *x = sigmoid(*x) + block.bits(1, 3);
}
"""


def ask_for_all(dtype):
    """Ask for every raw kernel of these numbers, also for those that were compiled before."""
    from scratchgan.kernels.cupy import activations, batch_norm, convolution, layer_norm, pooling, small_products
    from scratchgan.layers.convolution import Geometry
    from scratchgan.layers.pooling import Window
    geometry = Geometry((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1)
    for width in (1, convolution.VECTOR // dtype.itemsize):
        convolution.compiled.__wrapped__(geometry, (8, 6, 6), (3, 3), dtype, width)
    pooling.compiled.__wrapped__(Window((2, 2), (2, 2), (0, 0), (1, 1), (6, 6), (3, 3)), 1, dtype.name)
    for side_by_side in (1, batch_norm.SIDE_BY_SIDE):
        batch_norm.module.__wrapped__(dtype, side_by_side)
    layer_norm.kernel.__wrapped__("layer_norm", dtype)
    for name in (None, *(name for name, (arrays, *_) in activations.CODE.items() if len(arrays.split()) <= 2)):
        small_products.kernel.__wrapped__(dtype, name)


@pytest.fixture
def sources(cuda, monkeypatch):
    """The sources of all raw kernels, and of what is pasted into CuPy's own."""
    import cupy

    from scratchgan.kernels.cupy import elementwise, philox
    found = ["typedef float T;\n" + philox.PHILOX + elementwise.SIGMOID + PASTED]

    class Asked:
        def __init__(self, code, name=None):
            found.append(code)

        def get_function(self, name):
            return self
    for kind in ("RawKernel", "RawModule"):
        monkeypatch.setattr(cupy, kind, Asked)
    for dtype in ("float32", "float64"):
        ask_for_all(np.dtype(dtype))
    return found


def test_each_file_with_a_raw_kernel_is_asked(sources):
    kernels = {"convolution": "columns_of", "pooling": "max_pool_grad", "batch_norm": "add_in_turn",
               "layer_norm": "scratchgan_layer_norm_grad", "small_products": "small_product"}
    files = Path(cupy_kernels.__file__).parent.glob("*.py")
    assert {file.stem for file in files if re.search(r"cupy\.Raw(Kernel|Module)\(", file.read_text())} == set(kernels)
    for word in kernels.values():
        assert sum(word in source for source in sources) >= 2, word


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_sources_compile(sources, architecture):
    from cupy.cuda import nvrtc
    try:
        nvrtc.getVersion()
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")
    for source in sources:
        program = nvrtc.createProgram(source, "kernels.cu", (), ())
        try:
            nvrtc.compileProgram(program, (f"--gpu-architecture={architecture}", "--std=c++17"))
            assert nvrtc.getCUBIN(program)
        except nvrtc.NVRTCError:
            pytest.fail(f"{nvrtc.getProgramLog(program)}\n{source}")
        finally:
            nvrtc.destroyProgram(program)
