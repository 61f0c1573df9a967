import itertools

import numpy as np
import pytest

from scratchgan import kernels
from scratchgan.backend import to_device, to_host


def stored(matrix, how, device):
    """The matrix on the device, in rows, in columns, or with gaps between its numbers."""
    if how == "columns":
        return to_device(np.ascontiguousarray(matrix.T), device).T
    if how == "gaps":
        return to_device(np.repeat(matrix, 2, axis=1), device)[:, ::2]
    return to_device(np.ascontiguousarray(matrix), device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m, k, n", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (0, 3, 2), (2, 0, 3),
                                     (17, 260, 33), (20, 1030, 16), (64, 256, 20)])
def test_products_of_matrices_however_they_are_stored(cuda, rng, dtype, m, k, n):
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    for of_a, of_b, of_out in itertools.product(["rows", "columns", "gaps"], ["rows", "columns"],
                                                [None, "rows", "columns", "gaps"]):
        out = None if of_out is None else stored(np.full((m, n), np.nan, dtype), of_out, cuda)
        x, y = stored(a, of_a, cuda), stored(b, of_b, cuda)
        product = kernels.of(x).gemm(x, y, out)
        assert out is None or product is out
        np.testing.assert_allclose(to_host(product), a.astype(float) @ b,
                                   atol=2e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("n, size, outputs", [(5, 7, 3), (64, 30, 20), (2000, 200, 200)])
def test_a_linear_layer_s_product_with_its_bias(cuda, rng, n, size, outputs):
    x, weight, bias = (rng.normal(size=shape).astype("float32") for shape in ((n, size), (outputs, size), (outputs,)))
    linear = kernels.of(to_device(x, cuda)).linear
    for b in (bias, None):
        y = linear(*(each if each is None else to_device(each, cuda) for each in (x, weight, b)))
        np.testing.assert_allclose(to_host(y), x.astype(float) @ weight.T + (0 if b is None else b), atol=2e-4)


def test_a_product_of_part_of_a_matrix_and_with_a_vector(cuda, rng):
    a, b = rng.normal(size=(6, 5)), rng.normal(size=7)
    x, y = to_device(a, cuda), to_device(b, cuda)
    gemm = kernels.of(x).gemm
    np.testing.assert_allclose(to_host(gemm(x[1:5:2, 1:4], y[1:6:2])), a[1:5:2, 1:4] @ b[1:6:2])
    out = to_device(np.zeros((3, 4)), cuda)
    np.testing.assert_allclose(to_host(gemm(x[:4, :3].T, x[:4, 1:], out)), a[:4, :3].T @ a[:4, 1:])


def test_tf32_is_asked_for(cuda, monkeypatch):
    import cupy

    from scratchgan.kernels.cupy import gemm as module
    asked, real = [], module.library().cublasSetMathMode
    monkeypatch.setattr(module.library(), "cublasSetMathMode", lambda handle, mode: asked.append(mode) or real(handle,
                                                                                                           mode))
    x = cupy.ones((400, 300), "float32")
    product = kernels.of(x).gemm
    with kernels.gemm.tf32():
        product(x, x.T)
        with kernels.gemm.tf32(False):
            product(x, x.T)
        product(x, x.T)
    product(x, x.T)
    assert asked == [module.TF32, module.FLOAT32, module.TF32, module.FLOAT32]


@pytest.mark.parametrize("status, error", [(3, MemoryError), (1, RuntimeError)])
def test_what_cublas_says_is_raised(cuda, status, error):
    from scratchgan.kernels.cupy.gemm import checked
    with pytest.raises(error, match=f"cuBLAS failed with status {status}"):
        checked(status)


def test_it_can_be_recorded_and_has_the_same_bits(cuda, rng):
    import cupy
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x, y = (cupy.asarray(rng.normal(size=shape).astype("float32")) for shape in ((7, 33), (33, 5)))
        gemm = kernels.of(x).gemm
        expected, out = to_host(gemm(x, y)), cupy.empty((7, 5), "float32")
        stream.begin_capture()
        gemm(x, y, out)
        graph = stream.end_capture()
        graph.launch()
        stream.synchronize()
        np.testing.assert_array_equal(to_host(out), expected)
