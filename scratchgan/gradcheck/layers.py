"""`check_layer`: every entry of every gradient of one layer, and all that the contract of a layer promises."""

import copy
import warnings

import numpy as np

from scratchgan import backend
from scratchgan.gradcheck import oracles
from scratchgan.gradcheck.oracles import host
from scratchgan.gradcheck.passes import forward, named_params, one_pass, pristine, same_bits, twin_of
from scratchgan.gradcheck.properties import check_properties
from scratchgan.gradcheck.report import CENTRAL, COMPLEX_STEP, Report

EXACT = 1e-12        # complex step in complex128
DIFFERENCES = 1e-7   # central differences in float64
SINGLE = 1e-5        # float32 against float64
MOST_SKIPPED = 0.1   # of a tensor's entries, at kinks


def check_layer(layer, x=None, *, input_shape=None, seed=0, name=None, batch_of_one=True, zero=()):
    """Check a layer's backward pass against derivatives of its forward pass, entry by entry. Returns a `Report`.

    layer         any `Layer`; it is copied, so that it stays as it is
    x             a float array on the layer's device, or leave it out and give
    input_shape   the whole shape of a random normal input, batch first. Without either, the layer's own
                  `input_shape` (an attribute or a method) or (3, in_features)
    seed          of the input, the cotangent and the masks
    batch_of_one  whether the layer takes a batch of 1 in training (batch norm refuses one value a channel)
    zero          names of tensors whose gradient is zero by nature

    First oracle: complex step, to 1e-12. Second: central differences, to 1e-7. Values are rounded to float32
    before, so that the float32 gradient (to 1e-5) is one at the very same point. Checked besides: `wrt`,
    accumulation, memory orders, one sample, eval mode, dtypes, memory, caches, twins, analytic forward and
    backward passes. `ValueError` if no input shape is known.
    """
    base, x, rng = prepared(layer, x, input_shape, seed)
    report = Report(name or f"{layer!r}, x {tuple(x.shape)}", seed, {"x": host(x)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)  # found by the rows, whatever the filter
        base.train()
        trained = _check_mode(report, base, x, rng, seed, zero)
        if trained and batch_of_one and x.ndim > 1 and len(x) > 1:
            report.case = "batch of 1"
            _check_mode(report, base, x[:1].copy(), rng, seed, zero, properties=False)
        report.case = "eval"
        base.eval()
        if trained and not _same_as(base, x, trained, seed):
            _check_mode(report, base, x, rng, seed, zero)
    report.case = ""
    return report


def prepared(layer, x, input_shape, seed):
    """(a float64 copy of the layer, x in float64, the random numbers), both of float32 values."""
    rng = np.random.default_rng(seed)
    base = copy.deepcopy(layer).to(dtype="float32").to(dtype="float64")
    if x is None:
        shape = input_shape if input_shape is not None else known_input_shape(layer)
        if shape is None:
            raise ValueError(f"{type(layer).__name__}: no input shape is known; give input_shape, batch first, "
                             "or define the attribute input_shape")
        x = rng.standard_normal(tuple(shape))
    x = backend.to_device(np.array(host(x), np.float32).astype(np.float64), base.device)
    return base, x, rng


def known_input_shape(layer):
    """What the layer says about its input's shape, or None."""
    shape = getattr(layer, "input_shape", None)
    if callable(shape):
        shape = shape()
    if shape is None and hasattr(layer, "in_features"):
        shape = (3, layer.in_features)
    return shape


def _check_mode(report, base, x, rng, seed, zero, properties=True):
    """All checks in the mode that `base` is in. Returns the ordinary pass, or None if it did not run."""
    passed = None
    with report.guard("forward and backward"):
        y = forward(twin_of(base), x, seed)
        if not same_bits(forward(twin_of(base), x, seed), y):
            report.add("y", "the same each time", False, "two equal passes differ: draw random numbers as Dropout "
                       "does, as a function of what set_step says")
            return None
        dy = np.array(rng.standard_normal(y.shape), np.float32).astype(np.float64)
        report.inputs.setdefault("dy", dy)
        dy = backend.to_device(dy, base.device)
        real = pristine(base)
        passed = one_pass(real, x, dy, seed)  # as in training; everything else happens on twins
        layer = pristine(base, like=real)
    if passed is None:
        return None
    if passed.dx is None or tuple(passed.dx.shape) != tuple(x.shape):
        got = "None" if passed.dx is None else f"shape {tuple(passed.dx.shape)}"
        report.add("x", "shape of dx", False, f"backward must return dx of shape {tuple(x.shape)}, got {got}")
        return None
    with report.guard("derivatives of the forward pass"):
        check_entries(report, layer, x, dy, passed, seed, zero)
    if properties:
        check_properties(report, layer, x, dy, passed, seed, SINGLE)
    return passed


def check_entries(report, layer, x, dy, passed, seed, zero=()):
    """Rows for x and every parameter: each entry of the gradient against both oracles."""
    layers = {"complex": copy.deepcopy(layer).to(dtype="complex128").twin(), "real": twin_of(layer)}
    points = {"complex": {"x": x.astype(np.complex128)}, "real": {"x": x.copy()}}
    for kind in layers:
        points[kind].update(named_params(layers[kind]))

    def run(kind):
        return forward(layers[kind], points[kind]["x"], seed)

    for tensor, gradient in passed.gradients().items():
        at = {kind: points[kind][tensor] for kind in points}
        reference = entry_rows(report, tensor, gradient, run, at, host(dy))
        if tensor in zero:
            report.add(tensor, "gradient is zero", not reference.any(), "it was said to be zero, but is not")
        elif gradient.size and x.size:
            report.add(tensor, "gradient is not all zero", reference.any(),
                       "the true gradient is zero at this point, so that nothing was checked")


def entry_rows(report, tensor, gradient, run, at, dy):
    """The rows of one tensor; returns the reference, the derivatives that hold (by central differences if by
    complex step all are zero).

    run  kind -> y, kind being "complex" or "real", for what the arrays at[kind] hold
    dy   the cotangent, on the host
    """
    entries = oracles.all_entries(gradient.shape)
    central = oracles.central(lambda: run("real"), at["real"], dy, entries)
    try:
        exact = oracles.complex_step(lambda: run("complex"), at["complex"], dy, entries)
    except Exception as error:  # whatever a forward pass raises that cannot take complex values
        report.add("forward", f"analytic in {tensor}", False,
                   f"on complex values it raised {type(error).__name__}: {error}")
        report.compare(tensor, CENTRAL, gradient, central.reshape(gradient.shape), DIFFERENCES)
        return central
    report.compare(tensor, COMPLEX_STEP, gradient, exact.reshape(gradient.shape), EXACT)
    smooth = _smooth_entries(lambda: run("complex"), at["complex"], dy, entries, exact, central, gradient)
    _central_row(report, tensor, gradient, central, entries, smooth)
    report.add("forward", f"analytic in {tensor}",
               oracles.relative_error(exact[smooth], central[smooth])[0] <= 10 * DIFFERENCES,
               "complex step and central differences disagree: the forward pass uses abs, sign, a conjugate or a "
               "comparison of complex values, drops the imaginary part, or changes from call to call")
    return exact if exact.any() else central


def _smooth_entries(run, array, dy, entries, exact, central, gradient):
    """A mask of the entries that a central difference can judge: all but those with a kink within its step."""
    scale = max(float(np.abs(central).max(initial=0)), float(np.abs(exact).max(initial=0)))
    doubtful = np.maximum(np.abs(exact - central), np.abs(gradient.ravel() - central)) > DIFFERENCES * scale
    smooth = np.ones(len(entries), bool)
    if doubtful.any():
        chosen = [entry for entry, doubt in zip(entries, doubtful, strict=True) if doubt]
        kinks = oracles.crosses_kink(run, array, dy, chosen, exact[doubtful], DIFFERENCES * scale)
        smooth[np.flatnonzero(doubtful)[kinks]] = False
    return smooth


def _central_row(report, tensor, gradient, central, entries, smooth):
    error, index = oracles.relative_error(gradient.ravel()[smooth], central[smooth])
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
