"""Objectives: gradients by complex step, and no infinity at any score."""

import math

import numpy as np
import pytest

from scratchgan import backend
from scratchgan.gan import Minimax, NonSaturating

OBJECTIVES = [NonSaturating(), NonSaturating(scale_d=0.5), Minimax()]
H = 1e-30


def derivative(f, x):
    """Every entry of df/dx by complex step."""
    xp = backend.array_module(x)
    out = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape, complex)
        step[index] = H * 1j
        out[index] = float(f(x + xp.asarray(step)).imag) / H
    return out


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_gradients_by_complex_step(device, rng, objective):
    real, fake = (backend.to_device(3 * rng.standard_normal((4, 1)), device) for _ in range(2))
    dreal, dfake = backend.to_host(objective.grad_real(real)), backend.to_host(objective.grad_fake(fake))
    assert np.abs(dreal - derivative(lambda r: objective.loss_d(r, fake), real)).max() <= 1e-14
    assert np.abs(dfake - derivative(lambda f: objective.loss_d(real, f), fake)).max() <= 1e-14
    dg = backend.to_host(objective.grad_g(fake))
    assert np.abs(dg - derivative(objective.loss_g, fake)).max() <= 1e-14
    assert min(np.abs(dreal).max(), np.abs(dfake).max(), np.abs(dg).max()) > 0.01


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_at_any_score(objective, dtype):
    for real in (1e4, -1e4):
        for fake in (1e4, -1e4):
            r, f = np.full((3, 1), real, dtype), np.full((3, 1), fake, dtype)
            values = [objective.loss_d(r, f), objective.loss_g(f), objective.grad_real(r), objective.grad_fake(f),
                      objective.grad_g(f)]
            assert all(np.isfinite(v).all() and v.dtype == dtype for v in values)


def test_losses_at_an_undecided_discriminator():
    zero = np.zeros((5, 1))
    assert NonSaturating().loss_d(zero, zero) == pytest.approx(2 * math.log(2))  # -V at the optimum is log 4
    assert NonSaturating(0.5).loss_d(zero, zero) == pytest.approx(math.log(2))
    assert NonSaturating().loss_g(zero) == pytest.approx(math.log(2))
    assert Minimax().loss_g(zero) == pytest.approx(-math.log(2))


def test_minimax_saturates_where_the_other_does_not():
    sure = np.full((1, 1), -20.0)
    assert abs(Minimax().grad_g(sure)) < 1e-8
    assert abs(NonSaturating().grad_g(sure)) > 0.99
