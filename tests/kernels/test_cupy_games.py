"""CuPy's kernels of games, against their formulas."""

import numpy as np
import pytest

from scratchgan import kernels
from scratchgan.backend import memory_order, to_device, to_host
from scratchgan.gan import objectives
from scratchgan.kernels import FORMULAS

TERMS = {name: getattr(objectives, name) for name in ("LOG_REAL", "LOG_FAKE", "SCORE", "MINUS", "ABOVE", "BELOW",
                                                      "NEAR_ONE", "NEAR_ZERO")}
TERMS |= {"margin": objectives.margin(2), "smoothed": objectives.smoothed(0.9)}


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_slope_is_its_formula_in_one_kernel(cuda, rng, launches, name, dtype):
    s = to_device(np.array([0, 1, -1, 2, 30, -30, 1e4, -1e4, np.inf, -np.inf, np.nan, 0.3], dtype)[:, None], cuda)
    out = s.copy()
    kernels.of(s).scaled_slope(TERMS[name].slope, s, 0.25, out)
    expected = FORMULAS.scaled_slope(TERMS[name].slope, s, 0.25)
    np.testing.assert_allclose(to_host(out), to_host(expected), rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
    assert launches(kernels.of(s).scaled_slope, TERMS[name].slope, s, 0.25) == 1


@pytest.mark.parametrize("name, of_d, of_g", [("non-saturating", 1, 1), ("minimax", 1, None), ("hinge", 1, 1),
                                              ("wasserstein", 1, 1), ("relativistic", 3, 2)])
def test_launches_of_an_objective(cuda, rng, launches, name, of_d, of_g):
    row, both = objectives.get(name), to_device(rng.standard_normal((16, 1)).astype("float32"), cuda)
    gradients = row.grad_both(both)
    for got, expected in zip((gradients[:8], gradients[8:]), row.grad_d(both[:8], both[8:]), strict=True):
        np.testing.assert_array_equal(to_host(got), to_host(expected))
    assert launches(row.grad_both, both) == of_d
    assert of_g is None or launches(row.grad_g, both[8:], both[:8]) == of_g


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_and_penalties(cuda, rng, launches, dtype):
    x, g = (to_device(rng.standard_normal((6, 4, 5, 2)).astype(dtype), cuda).transpose(0, 3, 1, 2) for _ in range(2))
    c, weight = (to_device(rng.standard_normal(6).astype(dtype), cuda) for _ in range(2))
    sigma = to_device(np.array(0.3, dtype), cuda)
    for name, most, arguments in (("noisy", 1, (x, g, 0.3)), ("noisy", 1, (x, g, sigma)),
                                  ("direction", 1, (x, c, g, weight)), ("weighted_squares", 2, (g, weight))):
        got, expected = getattr(kernels.of(x), name)(*arguments), getattr(FORMULAS, name)(*arguments)
        np.testing.assert_allclose(to_host(got), to_host(expected), rtol=1e-5 if dtype == "float32" else 1e-14)
        assert got.ndim == 0 or memory_order(got) == memory_order(x)
        assert launches(getattr(kernels.of(x), name), *arguments) <= most, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_penalty_on_the_length_of_a_gradient(cuda, rng, launches, dtype):
    g = to_device(rng.standard_normal((6, 4, 5, 2)).astype(dtype), cuda).transpose(0, 3, 1, 2)
    g[2], weight = 0, np.dtype(dtype).type(0.7)
    for got, expected in zip(kernels.of(g).unit_slope(g, weight), FORMULAS.unit_slope(g, weight), strict=True):
        np.testing.assert_allclose(to_host(got), to_host(expected), rtol=1e-5 if dtype == "float32" else 1e-14)
    assert launches(kernels.of(g).unit_slope, g, weight) == 3
