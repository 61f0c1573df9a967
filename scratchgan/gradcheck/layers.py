"""`check_layer`: every entry of every gradient of one layer, and all that the contract of a layer promises."""

import copy
import warnings

import numpy as np

from scratchgan import backend
from scratchgan.gradcheck import oracles
from scratchgan.gradcheck.oracles import host
from scratchgan.gradcheck.passes import (
    Labelled,
    forward,
    named_params,
    one_pass,
    pristine,
    require_tensors,
    same_bits,
    twin_of,
)
from scratchgan.gradcheck.properties import check_properties
from scratchgan.gradcheck.pytorch import PYTORCH, check_layer_by_pytorch
from scratchgan.gradcheck.report import CENTRAL, COMPLEX_STEP, ZERO, Report
from scratchgan.kernels import plain

EXACT = 1e-12        # complex step in complex128
DIFFERENCES = 1e-7   # central differences in float64
SINGLE = 1e-5        # float32 against float64
AGREEMENT = 1e-11    # of kernels and formulas in float64
MOST_SKIPPED = 0.1   # of a tensor's entries, at kinks
AGREES = "formulas and kernels agree"


def check_layer(layer, x=None, *, input_shape=None, seed=0, name=None, batch_of_one=True, differences=True, zero=()):
    """Check a layer's backward pass against derivatives of its forward pass, entry by entry. Returns a `Report`.

    layer         any `Layer`; it is copied, so that it stays as it is
    x             a float array on the layer's device, or a tuple (x, labels) of one and whole numbers, which stay as
                  they are and get no gradient; or leave it out and give
    input_shape   the whole shape of a random normal input, batch first. Without either, the layer's own
                  `input_shape` (an attribute or a method) or (3, in_features)
    seed          of the input, the cotangent and the masks
    batch_of_one  whether to try a batch of 1 in training. A layer that couples samples may refuse it
    differences   whether to ask central differences, too: not for values far from 0 or all near it, beside which
                  their step is too small or too large
    zero          names of tensors whose gradient is zero by nature in training

    First oracle: complex step, to 1e-12. Second: central differences, to 1e-7. Third, for layers of the package, and
    where it is installed: PyTorch, to 1e-9. Values are rounded to float32
    before, so that the float32 gradient (to 1e-5) is one at the very same point; parameters that are all equal, as
    ones or zeros, are moved a little, since a mistake in their use would not show. Then the same with the formulas
    in place of the kernels ("plain"). Checked besides: `wrt`, accumulation, memory orders, one sample, eval mode,
    dtypes, memory, caches, twins, analytic forward and backward passes, `tangent` where there is one. `ValueError` if
    no input shape is known.
    """
    base, x, rng = prepared(layer, x, input_shape, seed)
    report = Report(name or f"{layer!r}, x {tuple(x.shape)}", seed, inputs_of(base, x))
    require_tensors(base, zero)
    check = _ModeCheck(report, x, rng, seed, zero, differences)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)  # found by the rows, whatever the filter
        base.train()
        trained = check.run(base)
        if trained and batch_of_one and x.ndim > 1 and len(x) > 1 and not refuses_one(report, base, x, seed):
            report.case = "batch of 1"
            _ModeCheck(report, x[:1].copy(), rng, seed, zero, differences).run(base, properties=False)
        report.case = "eval"
        if trained:
            base = pristine(base, like=check.trained).eval()  # with the statistics of a training pass
            if not _same_as(base, x, trained, seed):
                check.run(base)
    report.case = ""
    return report


def prepared(layer, x, input_shape, seed):
    """(a float64 copy of the layer, x in float64, the random numbers), both of float32 values."""
    rng = np.random.default_rng(seed)
    base = copy.deepcopy(layer)
    if isinstance(x, tuple):
        x, *labels = x
        base = Labelled(base, *labels)
    base = base.to(dtype="float32").to(dtype="float64")
    if x is None:
        shape = input_shape if input_shape is not None else known_input_shape(layer)
        if shape is None:
            raise ValueError(f"{type(layer).__name__}: no input shape is known; give input_shape, batch first, "
                             "or define the attribute input_shape")
        x = rng.standard_normal(tuple(shape))
    x = backend.to_device(np.array(host(x), np.float32).astype(np.float64), base.device)
    for value in named_params(base).values():
        if value.size and bool((value == value.ravel()[0]).all()):
            moved = host(value) + np.random.default_rng(seed).uniform(-0.25, 0.25, value.shape)
            value[...] = backend.to_device(moved.astype(np.float32).astype(np.float64), base.device)
    return base, x, rng


def inputs_of(base, x):
    """What a report shows of the input: x, and labels that came with it."""
    labels = base.labels if isinstance(base, Labelled) else ()
    return {"x": host(x), **{f"x[{i}]": host(each) for i, each in enumerate(labels, 1)}}


def refuses_one(report, base, x, seed):
    """Whether the layer takes no batch of one by right, as each sample depends on the others; adds a row if so."""
    try:
        forward(twin_of(base), x[:1].copy(), seed)
        return False
    except ValueError as error:
        others = x.copy()
        others[1:] *= 0.5
        if same_bits(forward(twin_of(base), x, seed)[:1], forward(twin_of(base), others, seed)[:1]):
            return False  # the refusal is a finding then
        report.add("the pass", f"refuses a batch of 1, as samples depend on each other: {error}", True)
        return True


def known_input_shape(layer):
    """What the layer says about its input's shape, or None."""
    shape = getattr(layer, "input_shape", None)
    if callable(shape):
        shape = shape()
    if shape is None and hasattr(layer, "in_features"):
        shape = (3, layer.in_features)
    return shape


class _ModeCheck:
    """All checks of a layer in the mode that it is in."""

    def __init__(self, report, x, rng, seed, zero, differences):
        self.report, self.x, self.rng, self.seed = report, x, rng, seed
        self.zero, self.differences = zero, differences
        self.trained = None  # the layer that made the ordinary pass, as in training

    def run(self, base, properties=True):
        """Returns the ordinary pass, or None if it did not run."""
        report, x, passed = self.report, self.x, None
        with report.guard("forward and backward"):
            passed, layer = self.ordinary_pass(base)
        if passed is None:
            return None
        if passed.dx is None or tuple(passed.dx.shape) != tuple(x.shape):
            got = "None" if passed.dx is None else f"shape {tuple(passed.dx.shape)}"
            report.add("x", "shape of dx", False, f"backward must return dx of shape {tuple(x.shape)}, got {got}")
            return None
        references = {}
        with report.guard("derivatives of the forward pass"):
            references = check_entries(report, layer, x, passed, self.seed, self.zero, self.differences)
        if properties:
            check_properties(report, layer, x, passed.dy, passed, self.seed, SINGLE, self.differences)
        check_plain(report, layer, x, passed, self.seed, SINGLE, references, properties, self.differences)
        with report.guard(PYTORCH):
            check_layer_by_pytorch(report, base, self.trained, x, passed)
        return passed

    def ordinary_pass(self, base):
        """(a pass as in training, a layer with the buffers that it left), or (None, None)."""
        report, x, seed = self.report, self.x, self.seed
        y = forward(twin_of(base), x, seed)
        if not same_bits(forward(twin_of(base), x, seed), y):
            report.add("y", "the same each time", False, "two equal passes differ: draw random numbers as Dropout "
                       "does, as a function of what set_step says")
            return None, None
        dy = np.array(self.rng.standard_normal(y.shape), np.float32).astype(np.float64)
        report.inputs.setdefault("dy", dy)
        dy = backend.to_device(dy, base.device)
        self.trained = pristine(base)
        passed = one_pass(self.trained, x, dy, seed)  # as in training; everything else happens on twins
        return passed, pristine(base, like=self.trained)


def check_plain(report, layer, x, passed, seed, single, references=None, properties=True, differences=True):
    """The same pass by the formulas beside the derivations, which `passed` by the kernels in use must agree with.

    references  tensor -> its derivatives by an oracle, where there are those of every entry
    """
    case, report.case = report.case, f"{report.case}, plain".lstrip(", ")
    with plain(), report.guard("forward and backward"):
        got = one_pass(twin_of(layer), x, passed.dy, seed)
        report.compare("y", AGREES, got.y, passed.y, AGREEMENT)
        for tensor, gradient in got.gradients().items():
            if references:
                report.compare(tensor, COMPLEX_STEP, gradient, references[tensor], EXACT, floor=passed.floor(tensor))
            else:
                report.compare(tensor, AGREES, gradient, passed.gradients()[tensor], AGREEMENT,
                               floor=passed.floor(tensor))
        if properties:
            check_properties(report, layer, x, passed.dy, got, seed, single, differences)
    report.case = case


def check_entries(report, layer, x, passed, seed, zero=(), differences=True):
    """Rows for x and every parameter: each entry against both oracles. Returns tensor -> the derivatives that hold."""
    layers = {"complex": copy.deepcopy(layer).to(dtype="complex128").twin(), "real": twin_of(layer)}
    points = {"complex": {"x": x.astype(np.complex128)}, "real": {"x": x.copy()}}
    for kind in layers:
        points[kind].update(named_params(layers[kind]))

    def run(kind):
        return forward(layers[kind], points[kind]["x"], seed)

    references = {}
    for tensor, gradient in passed.gradients().items():
        at = {kind: points[kind][tensor] for kind in points}
        references[tensor] = entry_rows(report, tensor, gradient, run, at, host(passed.dy), passed.scale,
                                        zero=(tensor in zero) * layer.training, differences=differences,
                                        checkable=bool(x.size) and (layer.training or tensor not in zero))
    return references


def entry_rows(report, tensor, gradient, run, at, dy, scale, *, zero=False, checkable=True, differences=True):
    """The rows of one tensor; returns the derivatives that hold, in its shape.

    run        kind -> y, kind being "complex" or "real", for what the arrays at[kind] hold
    dy         the cotangent, on the host
    scale      the size of the gradients around this one
    zero       whether the gradient is zero by nature
    checkable  whether it must not be, so that there is something to check
    """
    entries, shape = oracles.all_entries(gradient.shape), gradient.shape
    floor = scale if oracles.is_rounding(gradient, scale) else 0.0
    central = oracles.central(lambda: run("real"), at["real"], dy, entries) if differences else None
    try:
        exact = oracles.complex_step(lambda: run("complex"), at["complex"], dy, entries)
    except Exception as error:  # whatever a forward pass raises that cannot take complex values
        report.add("forward", f"analytic in {tensor}", False,
                   f"on complex values it raised {type(error).__name__}: {error}")
        central = np.zeros(len(entries)) if central is None else central
        report.compare(tensor, CENTRAL, gradient, central.reshape(shape), DIFFERENCES, floor=floor)
        return central.reshape(shape)
    report.compare(tensor, COMPLEX_STEP, gradient, exact.reshape(shape), EXACT, floor=floor)
    reference = exact
    if differences:
        smooth = _smooth_entries(lambda: run("complex"), at["complex"], dy, entries, exact, central, gradient, floor)
        _central_row(report, tensor, gradient, central, entries, smooth, floor)
        report.add("forward", f"analytic in {tensor}",
                   oracles.relative_error(exact[smooth], central[smooth], floor)[0] <= 10 * DIFFERENCES,
                   "complex step and central differences disagree: the forward pass uses abs, sign, a conjugate or a "
                   "comparison of complex values, drops the imaginary part, or changes from call to call")
        if not exact.any() and np.abs(central).max(initial=0) > DIFFERENCES * scale:
            reference = central
    _zero_row(report, tensor, gradient, reference, scale, zero, checkable)
    return reference.reshape(shape)


def _zero_row(report, tensor, gradient, reference, scale, zero, checkable):
    """Whether there was something to check. Where terms cancel, what is zero by nature comes out as rounding errors."""
    is_zero = oracles.is_rounding(reference, scale)
    if zero:
        report.add(tensor, "gradient is zero", is_zero, "it was said to be zero, but is not")
    elif is_zero and oracles.is_rounding(gradient, scale) and (reference.any() or gradient.any()):
        report.add(tensor, ZERO, True)
    elif gradient.size and checkable:
        report.add(tensor, "gradient is not all zero", reference.any(),
                   "the true gradient is zero at this point, so that nothing was checked; if it is zero by nature, "
                   f"name it: zero=({tensor!r},)")


def _smooth_entries(run, array, dy, entries, exact, central, gradient, floor):
    """A mask of the entries that a central difference can judge: all but those with a kink within its step."""
    scale = max(float(np.abs(central).max(initial=0)), float(np.abs(exact).max(initial=0)), floor)
    doubtful = np.maximum(np.abs(exact - central), np.abs(gradient.ravel() - central)) > DIFFERENCES * scale
    smooth = np.ones(len(entries), bool)
    if doubtful.any():
        chosen = [entry for entry, doubt in zip(entries, doubtful, strict=True) if doubt]
        kinks = oracles.crosses_kink(run, array, dy, chosen, exact[doubtful], DIFFERENCES * scale)
        smooth[np.flatnonzero(doubtful)[kinks]] = False
    return smooth


def _central_row(report, tensor, gradient, central, entries, smooth, floor):
    error, index = oracles.relative_error(gradient.ravel()[smooth], central[smooth], floor)
    skipped = int((~smooth).sum())
    where = entries[np.flatnonzero(smooth)[index[0]]] if index is not None else None
    enough = skipped <= max(1, MOST_SKIPPED * len(entries)) and (smooth.any() or not len(entries))
    report.add(tensor, CENTRAL, error <= DIFFERENCES and enough,
               "" if enough else "too many entries lie at a kink: choose another input",
               error=error, tolerance=DIFFERENCES, where=where, skipped=skipped)


def _same_as(base, x, passed, seed):
    """Whether the pass in eval mode has the same bits, so that what was found in training holds for it too."""
    try:
        again = one_pass(pristine(base), x, passed.dy, seed)
    except Exception:  # checked again, which reports it
        return False
    return same_bits(again.y, passed.y) and all(
        same_bits(a, b) for a, b in zip(again.gradients().values(), passed.gradients().values(), strict=True))
