"""`check_objective`: every entry of the gradients that an objective gives on D's scores."""

import numpy as np

from scratchgan.gradcheck.layers import AGREEMENT, AGREES, EXACT, SINGLE, entry_rows
from scratchgan.gradcheck.oracles import DIFFERENCE, H, host
from scratchgan.gradcheck.passes import plain
from scratchgan.gradcheck.properties import NOT_ANALYTIC, SECOND, second_order_error
from scratchgan.gradcheck.report import COMPLEX_STEP, FLOAT32, Report

SCORES = 5
GRADIENTS = {"real": "loss_d", "fake": "loss_d", "g": "loss_g"}  # a gradient's name: the loss that it is of


def check_objective(objective, *, scores=SCORES, seed=0, name=None):
    """Check d loss_d / d real, d loss_d / d fake and d loss_g / d fake ("real", "fake", "g"). Returns a `Report`.

    objective  an object with loss_d(real, fake), loss_g(fake) and their gradients, as in `scratchgan.gan.objectives`
    scores     of real samples and of fake ones, as many of each, random from `seed`

    The oracles and tolerances are those of `check_layer`. Checked besides: that gradients are analytic, and dtypes.
    """
    rng = np.random.default_rng(seed)
    given = {what: (2 * rng.standard_normal((scores, 1))).astype(np.float32).astype(np.float64)
             for what in ("real", "fake")}
    name = name or f"{getattr(objective, 'name', type(objective).__name__)}, {scores} scores of each"
    report = Report(name, seed, given)
    with report.guard("the gradients"):
        _check(report, objective, given, rng)
    return report


def _check(report, objective, given, rng):
    ours, derivatives = _gradients(objective, **given), {}
    for tensor, loss in GRADIENTS.items():
        if ours[tensor].shape != given["real"].shape:
            report.add(tensor, "shape of the gradient", False, f"got shape {ours[tensor].shape}")
            return
        arrays = {kind: {what: array.astype(dtype) for what, array in given.items()}
                  for kind, dtype in (("complex", np.complex128), ("real", np.float64))}
        at = {kind: arrays[kind]["real" if tensor == "real" else "fake"] for kind in arrays}
        derivatives[tensor] = entry_rows(report, tensor, ours[tensor], lambda kind, loss=loss, arrays=arrays:
                                         _losses(objective, **arrays[kind])[loss], at, np.float64(1), 1.0)
    v = {what: rng.standard_normal(array.shape) for what, array in given.items()}
    above, below, got = (_gradients(objective, **{what: given[what] + h * v[what] for what in given})
                         for h in (DIFFERENCE, -DIFFERENCE, 1j * H))
    for tensor, middle in ours.items():
        error, skipped = second_order_error(got[tensor], np.abs(middle).max(), above[tensor], middle, below[tensor],
                                            DIFFERENCE)
        report.add(tensor, "analytic backward", error <= SECOND, error=error, tolerance=SECOND, skipped=skipped,
                   detail=NOT_ANALYTIC)
    _check_single(report, objective, given, ours)
    if plain is not None:
        report.case = "plain"
        with plain():
            for tensor, gradient in _gradients(objective, **given).items():
                report.compare(tensor, COMPLEX_STEP, gradient, derivatives[tensor], EXACT)
            by_formulas = _losses(objective, **given)
        for loss, value in _losses(objective, **given).items():
            report.compare(loss, AGREES, by_formulas[loss], value, AGREEMENT)
        report.case = ""


def _check_single(report, objective, given, ours):
    """float32 in, float32 out, near the float64 numbers."""
    low = {what: array.astype(np.float32) for what, array in given.items()}
    for tensor, gradient in _gradients(objective, **low).items():
        report.compare(tensor, FLOAT32, gradient, ours[tensor], SINGLE)
        report.add(tensor, "dtype", gradient.dtype == np.float32, f"float32 went in, {gradient.dtype} came out")


def _gradients(objective, real, fake):
    return {"real": host(objective.grad_real(real)), "fake": host(objective.grad_fake(fake)),
            "g": host(objective.grad_g(fake))}


def _losses(objective, real, fake):
    return {"loss_d": objective.loss_d(real, fake), "loss_g": objective.loss_g(fake)}
