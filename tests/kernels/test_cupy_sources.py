"""NVIDIA's compiler takes the CUDA sources, for each generation of devices that there is to train on."""

import pytest

HEAD = "#define THREADS 256\ntypedef float T;\n"
USES = """
extern "C" __global__ void uses(unsigned long long* words, T* x) {
    philox(words, 1, 2);
    Block block(words[0], words[1], 1, 2);
    *x = sigmoid(*x) + block.bits(1, 3);
}
"""


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_sources_compile(cuda, architecture):
    from cupy.cuda import nvrtc

    from scratchgan.kernels.cupy import elementwise, layer_norm, philox
    try:
        nvrtc.getVersion()
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")
    source = HEAD + layer_norm.CODE + philox.PHILOX + elementwise.SIGMOID + USES
    program = nvrtc.createProgram(source, "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture={architecture}", "--std=c++17"))
        assert nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)
