"""`check_objective`: every entry of the gradients that an objective gives on D's scores."""

import numpy as np

from scratchgan.gradcheck.layers import AGREEMENT, AGREES, EXACT, SINGLE, entry_rows
from scratchgan.gradcheck.oracles import DIFFERENCE, H, host
from scratchgan.gradcheck.properties import NOT_ANALYTIC, SECOND, second_order_error
from scratchgan.gradcheck.report import COMPLEX_STEP, FLOAT32, Report
from scratchgan.kernels import plain

SHAPE = (4, 1, 2)  # maps of two scores
PATH = 500         # points of an integral
# A gradient's name: (the loss that it is of, the scores that it is on).
GRADIENTS = {"real": ("loss_d", "real"), "fake": ("loss_d", "fake"), "fake for G": ("loss_g", "fake")}


def check_objective(objective, *, shape=SHAPE, seed=0, name=None):
    """Check what an objective, such as a row of `scratchgan.gan.objectives.TABLE`, gives as gradients. A `Report`.

    d loss_d / d real, d loss_d / d fake and d loss_g / d fake at random scores of this shape, a few of them far from 0.
    The oracles and tolerances are those of `check_layer`. Checked besides: that gradients are analytic, and dtypes.
    """
    rng = np.random.default_rng(seed)
    given = {what: np.array(2 * rng.standard_normal(shape), np.float32).astype(np.float64) for what in ("real", "fake")}
    given["real"].flat[[0, -1]], given["fake"].flat[[0, -1]] = (15, -13), (-12, 14)
    report = Report(name or f"objective {objective.name}", seed, given)
    with report.guard("losses and gradients"):
        _check(report, objective, given, rng)
    return report


def _check(report, objective, given, rng):
    ours, derivatives = _gradients(objective, **given), {}
    for tensor, (loss, moved) in GRADIENTS.items():
        if ours[tensor].shape != given[moved].shape:
            report.add(tensor, "shape of the gradient", False, f"got shape {ours[tensor].shape}")
            return
        points = {kind: {what: array.astype(dtype) for what, array in given.items()}
                  for kind, dtype in (("complex", np.complex128), ("real", np.float64))}
        at = {kind: point[moved] for kind, point in points.items()}
        derivatives[tensor] = entry_rows(report, tensor, ours[tensor], lambda kind, loss=loss, points=points:
                                         _losses(objective, **points[kind])[loss], at, np.float64(1), 1.0)
    _check_alone(report, objective, given, ours)
    _check_path(report, objective, given)
    _check_second_order(report, objective, given, ours, rng)
    _check_single(report, objective, given, ours)
    report.case = "plain"
    with plain():
        for tensor, gradient in _gradients(objective, **given).items():
            report.compare(tensor, COMPLEX_STEP, gradient, derivatives[tensor], EXACT)
        by_formulas = _losses(objective, **given)
    for loss, value in _losses(objective, **given).items():
        report.compare(loss, AGREES, by_formulas[loss], value, AGREEMENT)
    report.case = ""


def _check_alone(report, objective, given, ours):
    """Where real and fake have terms of their own, each gradient is the same from one alone."""
    if not objective.paired:
        for tensor, gradient in (("real", objective.grad_real), ("fake", objective.grad_fake)):
            report.add(tensor, "the same by itself", np.array_equal(gradient(given[tensor]), ours[tensor]),
                       f"grad_{tensor} and grad_d differ")


def _check_path(report, objective, given):
    """From these scores to the opposite ones a loss changes by the integral of its gradient: it has no jump."""
    ends = [_losses(objective, **{what: sign * scores for what, scores in given.items()}) for sign in (1, -1)]
    integral, size = dict.fromkeys(ends[0], 0.0), dict.fromkeys(ends[0], 0.0)
    for t in (np.arange(PATH) + 0.5) / PATH:
        gradients = _gradients(objective, **{what: (1 - 2 * t) * scores for what, scores in given.items()})
        gradients["real for G"] = -gradients["fake for G"] if objective.paired else 0 * gradients["real"]
        for loss, parts in (("loss_d", ("real", "fake")), ("loss_g", ("real for G", "fake for G"))):
            steps = [-2 * gradients[part] * scores / PATH for part, scores in zip(parts, given.values(), strict=True)]
            integral[loss] += sum(step.sum() for step in steps)
            size[loss] += sum(np.abs(step).sum() for step in steps)
    for loss, change in integral.items():
        error = abs(ends[1][loss] - ends[0][loss] - change) / size[loss]
        report.add(loss, "integral of its gradient", error <= 2 / PATH, error=float(error), tolerance=2 / PATH)


def _check_second_order(report, objective, given, ours, rng):
    """The gradients are analytic in the scores."""
    v = {what: rng.standard_normal(array.shape) for what, array in given.items()}
    above, below, got = (_gradients(objective, **{what: given[what] + h * v[what] for what in given})
                         for h in (DIFFERENCE, -DIFFERENCE, 1j * H))
    for tensor, middle in ours.items():
        error, skipped = second_order_error(got[tensor], np.abs(middle).max(), above[tensor], middle, below[tensor],
                                            DIFFERENCE)
        report.add(tensor, "analytic backward", error <= SECOND, error=error, tolerance=SECOND, skipped=skipped,
                   detail=NOT_ANALYTIC)


def _check_single(report, objective, given, ours):
    """float32 in, float32 out, near the float64 numbers."""
    low = {what: array.astype(np.float32) for what, array in given.items()}
    for tensor, gradient in _gradients(objective, **low).items():
        report.compare(tensor, FLOAT32, gradient, ours[tensor], SINGLE)
        report.add(tensor, "dtype", gradient.dtype == np.float32, f"float32 went in, {gradient.dtype} came out")


def _gradients(objective, real, fake):
    dreal, dfake = objective.grad_d(real, fake)
    return {"real": host(dreal), "fake": host(dfake), "fake for G": host(objective.grad_g(fake, real))}


def _losses(objective, real, fake):
    return {"loss_d": objective.loss_d(real, fake), "loss_g": objective.loss_g(fake, real)}
