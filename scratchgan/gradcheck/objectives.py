"""`check_objective`: the slopes of an objective's terms against derivatives of its losses, every entry."""

import numpy as np

from scratchgan.gradcheck import oracles
from scratchgan.gradcheck.report import CENTRAL, COMPLEX_STEP, FLOAT32, Report

EXACT = 1e-12        # complex step in complex128
DIFFERENCES = 1e-7   # central differences in float64
SINGLE = 1e-5        # float32 against float64
SHAPE = (4, 1, 2)    # maps of two scores


def check_objective(objective, *, shape=SHAPE, seed=0, name=None):
    """Check what an objective, such as a row of `scratchgan.gan.objectives.TABLE`, gives as gradients. A `Report`.

    d loss_d / d real, d loss_d / d fake and d loss_g / d fake at random scores, a few of them far from 0: by complex
    step, by central differences, and in float32.
    """
    rng = np.random.default_rng(seed)
    real, fake = (np.array(2 * rng.standard_normal(shape), np.float32).astype(np.float64) for _ in range(2))
    real.flat[0], fake.flat[0], real.flat[-1], fake.flat[-1] = 15, -12, -13, 14
    report = Report(name or f"objective {objective.name}", seed, {"real": real, "fake": fake})
    with report.guard("losses and gradients"):
        dreal, dfake = objective.grad_d(real, fake)
        low = objective.grad_d(np.float32(real), np.float32(fake))
        _rows(report, "real", objective.loss_d, (real, fake), 0, dreal, low[0])
        _rows(report, "fake", objective.loss_d, (real, fake), 1, dfake, low[1])
        _rows(report, "fake for G", objective.loss_g, (fake, real), 0, objective.grad_g(fake, real),
              objective.grad_g(np.float32(fake), np.float32(real)))
        if not objective.paired:
            for tensor, alone, both in (("real", objective.grad_real(real), dreal),
                                        ("fake", objective.grad_fake(fake), dfake)):
                report.add(tensor, "the same by itself", np.array_equal(alone, both))
    return report


def _rows(report, tensor, loss, scores, which, gradient, low):
    """The rows of d loss(*scores) / d scores[which]; `low`: the gradient in float32."""
    real, moved = [s.copy() for s in scores], [s.astype(np.complex128) for s in scores]
    entries = oracles.all_entries(gradient.shape)
    exact = oracles.complex_step(lambda: loss(*moved), moved[which], 1.0, entries).reshape(gradient.shape)
    central = oracles.central(lambda: loss(*real), real[which], 1.0, entries).reshape(gradient.shape)
    report.compare(tensor, COMPLEX_STEP, gradient, exact, EXACT)
    report.compare(tensor, CENTRAL, gradient, central, DIFFERENCES)
    report.compare(tensor, FLOAT32, low, gradient, SINGLE)
    report.add(tensor, "dtype", low.dtype == np.float32, f"float32 scores give a gradient in {low.dtype}")
    report.add(tensor, "gradient is not all zero", exact.any(), "the true gradient is zero: nothing was checked")
