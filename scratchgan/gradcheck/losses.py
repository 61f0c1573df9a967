"""`check_loss`: every entry of a loss's gradient."""

import copy
import warnings

import numpy as np

from scratchgan import backend
from scratchgan.backend import array_module
from scratchgan.gradcheck.layers import AGREEMENT, AGREES, EXACT, SINGLE, entry_rows
from scratchgan.gradcheck.oracles import DIFFERENCE, H, host
from scratchgan.gradcheck.passes import same_bits
from scratchgan.gradcheck.properties import NOT_ANALYTIC, ROUNDING, SECOND, layouts, second_order_error
from scratchgan.gradcheck.pytorch import check_loss_by_pytorch
from scratchgan.gradcheck.report import COMPLEX_STEP, FLOAT32, Report
from scratchgan.kernels import plain
from scratchgan.losses import BCELoss

SHAPE = (4, 3)


def check_loss(loss, input=None, target=None, *, shape=SHAPE, seed=0, name=None):
    """Check dL/d(input) of a loss against derivatives of its forward pass, entry by entry. Returns a `Report`.

    loss           an object with forward(input, target) and backward(dy=None); copied, so that it stays as it is
    input, target  arrays; by default of `shape`: the input normal (uniform in 0.05 .. 0.95 for BCELoss), the
                   target uniform in 0 .. 1
    seed           of these and, where the loss is not reduced, of the cotangent

    The oracles and tolerances are those of `check_layer`. Checked besides: memory orders, arrays unchanged and
    fresh, caches, backward twice, dtypes, and that the gradient is analytic.
    """
    rng = np.random.default_rng(seed)
    if input is None:
        random = rng.uniform(0.05, 0.95, shape) if isinstance(loss, BCELoss) else rng.standard_normal(shape)
        input = _exact(random)
    if target is None:
        target = _exact(rng.uniform(0, 1, input.shape))
    device = backend.device_of(input)
    input, target = backend.to_device(_exact(input), device), backend.to_device(_exact(target), device)
    report = Report(name or f"{loss!r}, input {tuple(input.shape)}", seed,
                    {"input": host(input), "target": host(target)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        checked = _LossCheck(report, loss, input, target, rng)
        with report.guard("forward and backward"):
            checked.run()
        if checked.gradient is not None:
            checked.everything()
    return report


def _exact(array):
    """A float array in float64 with float32 values; integers as they are."""
    array = host(np.asarray(array) if not backend.is_array(array) else array)
    return array.astype(np.float32).astype(np.float64) if array.dtype.kind == "f" else array


class _LossCheck:
    """The checks of one loss at one point; `gradient` is dL/d(input) as the loss gave it."""

    def __init__(self, report, loss, input, target, rng):
        self.report, self.loss, self.input, self.target, self.rng = report, loss, input, target, rng
        self.dy = self.gradient = None

    def everything(self):
        """All rows; then those that the formulas in place of the kernels may change."""
        rest = (self.orders, self.arrays, self.caches, self.second_order, self.single, self.pytorch)
        for check in (self.entries, *rest, self.formulas):
            with self.report.guard(check.__name__):
                check()

    def one_pass(self, input, target, dy=None, loss=None, protect=True):
        """(y, dL/d(input)); dy only where the loss is not reduced. `protect`: on copies of the arrays."""
        loss = copy.copy(self.loss) if loss is None else loss
        given = (input, target) if dy is None else (input, target, dy)
        input, target, *dy = [array.copy() for array in given] if protect else given
        y = loss.forward(input, target)
        return y, loss.backward(*dy)

    def run(self):
        y, _ = self.one_pass(self.input, self.target)
        if y.ndim:
            self.dy = backend.to_device(_exact(self.rng.standard_normal(y.shape)), backend.device_of(y))
            self.report.inputs["dy"] = host(self.dy)
        self.y, gradient = self.one_pass(self.input, self.target, self.dy)
        if tuple(gradient.shape) != tuple(self.input.shape):
            self.report.add("input", "shape of its gradient", False, f"got shape {tuple(gradient.shape)}")
        else:
            self.gradient = gradient

    def entries(self):
        at = {"complex": self.input.astype(np.complex128), "real": self.input.copy()}
        def run(kind):
            return copy.copy(self.loss).forward(at[kind].copy(), self.target.copy())
        weights = np.float64(1) if self.dy is None else host(self.dy)
        scale = max(float(np.linalg.norm(weights)), float(np.linalg.norm(host(self.gradient))))
        self.derivative = entry_rows(self.report, "input", host(self.gradient), run, at, weights, scale)

    def pytorch(self):
        check_loss_by_pytorch(self.report, self.loss, self.input, self.target, self.dy, self.y, self.gradient)

    def formulas(self):
        """Loss and gradient by the formulas in place of the kernels."""
        self.report.case = "plain"
        with plain():
            y, gradient = self.one_pass(self.input, self.target, self.dy)
            self.report.compare("y", AGREES, y, self.y, AGREEMENT)
            self.report.compare("input", COMPLEX_STEP, gradient, self.derivative, EXACT)
            self.single()
        self.report.case = ""

    def orders(self):
        """Input, target and dy stored by columns, with gaps, backwards."""
        targets = [view for _, view in layouts(self.target)] or [self.target] * 3
        dys = [None] * 3 if self.dy is None else [view for _, view in layouts(self.dy)]
        for (order, input), target, dy in zip(layouts(self.input), targets, dys, strict=False):  # none for a scalar
            y, gradient = self.one_pass(input, target, dy, protect=False)
            self.report.compare("y", f"memory order: {order}", y, self.y, ROUNDING)
            self.report.compare("input", f"memory order: {order}", gradient, self.gradient, ROUNDING)

    def arrays(self):
        """The caller's arrays stay as they are; results share no memory with them."""
        given = {"input": self.input.copy(), "target": self.target.copy()}
        if self.dy is not None:
            given["dy"] = self.dy.copy()
        before = {name: host(array).copy() for name, array in given.items()}
        y, gradient = self.one_pass(**given, protect=False)
        for name, array in given.items():
            self.report.add(name, f"mutates {name}", same_bits(array, before[name]), "the caller's array was changed")
            for result, what in ((y, "y"), (gradient, "the gradient")):
                shared = result.size and array_module(array).may_share_memory(result, array)
                self.report.add(what, f"fresh, not {name}", not shared, f"it shares memory with {name}")

    def caches(self):
        """Backward belongs to the last forward pass and may be called twice."""
        loss = copy.copy(self.loss)
        self.one_pass(1 - self.input, self.target, self.dy, loss)
        _, gradient = self.one_pass(self.input, self.target, self.dy, loss)
        again = loss.backward() if self.dy is None else loss.backward(self.dy)
        self.report.add("input", "stale cache", same_bits(gradient, self.gradient), "it depends on an earlier pass")
        self.report.add("input", "backward twice, same bits", same_bits(again, gradient), "the second time differs")

    def second_order(self):
        """The gradient of a complex pass has its derivative as the imaginary part."""
        v = np.random.default_rng(self.report.seed).standard_normal(self.input.shape)
        v = backend.to_device(v, backend.device_of(self.input))
        above, below, got = (host(self.one_pass(self.input + h * v, self.target, self.dy)[1])
                             for h in (DIFFERENCE, -DIFFERENCE, 1j * H))
        middle = host(self.gradient)
        error, skipped = second_order_error(got, np.abs(middle).max(initial=0), above, middle, below, DIFFERENCE)
        self.report.add("input", "analytic backward", error <= SECOND, error=error, tolerance=SECOND, skipped=skipped,
                        detail=NOT_ANALYTIC)

    def single(self):
        """float32 in, float32 out, near the float64 numbers; complex64 likewise."""
        def low(array, dtype=np.float32):
            return array.astype(dtype) if array is not None and array.dtype.kind == "f" else array
        y, gradient = self.one_pass(low(self.input), low(self.target), low(self.dy))
        self.report.compare("y", FLOAT32, y, self.y, SINGLE)
        self.report.compare("input", FLOAT32, gradient, self.gradient, SINGLE)
        for name, result in (("y", y), ("input", gradient)):
            self.report.add(name, "dtype", result.dtype == np.float32, f"float32 went in, {result.dtype} came out")
        y, gradient = self.one_pass(low(self.input, np.complex64), low(self.target), low(self.dy))
        for name, result in (("y", y), ("input", gradient)):
            self.report.add(name, "complex dtype", result.dtype == np.complex64,
                            f"complex64 went in, {result.dtype} came out")
