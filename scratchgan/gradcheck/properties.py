"""What the contract of a layer promises besides the right numbers. Each function adds its rows to the report.

`layer` is in float64, `passed` its ordinary pass at (x, dy). Every check runs on a twin, whose caches are its own.
"""

import copy
from contextlib import contextmanager

import numpy as np

from scratchgan import backend
from scratchgan.backend import array_module
from scratchgan.gradcheck.oracles import H, host
from scratchgan.gradcheck.passes import forward, named_grads, named_params, one_pass, same_bits, twin_of
from scratchgan.gradcheck.report import FLOAT32
from scratchgan.gradcheck.tangents import check_tangent

ROUNDING = 1e-12   # the same numbers, added up in another order
SECOND = 1e-6      # a central difference of the gradient
SECOND_STEP = 2.0**-23  # its step: so small that few branches change within it
BEND = 1e-3        # of the gradient: beyond it a kink lies within the step
NOT_ANALYTIC = ("backward on complex values does not give the gradient's derivative: it uses abs, sign or a "
                "conjugate, or drops the imaginary part")


def check_properties(report, layer, x, dy, passed, seed, single, differences=True):
    """All of them; `single` is the tolerance for float32. `differences`: whether central differences hold here."""
    for name, check in (("wrt", check_wrt), ("accumulation", check_accumulation), ("memory order", check_orders),
                        ("unchanged arrays", check_unchanged), ("fresh arrays", check_fresh),
                        ("cache", check_caches), ("twin", check_twin), ("buffers", check_buffers),
                        ("memory", check_memory), ("analytic backward", check_second_order)):
        if differences or check is not check_second_order:
            with report.guard(name):
                check(report, layer, x, dy, passed, seed)
    for name, check in (("float32", check_single), ("tangent", check_tangent)):
        with report.guard(name):
            check(report, layer, x, dy, passed, seed, single)


def check_wrt(report, layer, x, dy, passed, seed):
    """wrt="input" gives dx and leaves the gradients; wrt="params" gives the gradients and returns None."""
    twin = twin_of(layer)
    one_pass(twin, x, dy, seed)
    dx = twin.backward(dy.copy(), "input")
    for name, grad in named_grads(twin).items():
        report.add(name, 'wrt="input"', same_bits(grad, passed.grads[name]), "its gradient must stay as it is")
    _compare_dx(report, 'wrt="input"', dx, passed)
    twin = twin_of(layer)
    params = one_pass(twin, x, dy, seed, "params")
    report.add("x", 'wrt="params"', params.dx is None, "backward must return None")
    for name, grad in params.grads.items():
        report.compare(name, 'wrt="params"', grad, passed.grads[name], ROUNDING, floor=passed.floor(name))


def _compare_dx(report, check, dx, passed):
    if dx is None:
        report.add("x", check, False, "backward returned None for dx")
    else:
        report.compare("x", check, dx, passed.dx, ROUNDING, floor=passed.floor("x"))


def check_accumulation(report, layer, x, dy, passed, seed):
    """Backward twice gives the same dx, to the bit, and twice the gradients, to rounding, since a layer within may be
    applied twice; after zero_grad they are fresh."""
    twin = twin_of(layer)
    first = one_pass(twin, x, dy, seed)
    again = twin.backward(dy.copy())
    report.add("x", "backward twice, same bits", same_bits(first.dx, again), "the second dx differs")
    flat = host(twin.grad).copy()
    start = 0
    for name, grad in named_grads(twin).items():
        report.compare(name, "accumulation", grad, 2 * first.grads[name], ROUNDING,
                       "after two backward passes it must hold twice the gradient of one: add to self.grads[name] in "
                       "place, or use accumulate", floor=passed.floor(name))
        part = flat[start:start + grad.size]
        report.add(name, "gradient in the flat vector", same_bits(np.sort(part), np.sort(grad, axis=None)),
                   "network.grad does not hold it: write into self.grads[name], do not put another array there")
        start += grad.size
    twin.zero_grad()
    report.add("grad", "zero_grad", not host(twin.grad).any(), "gradients remain after zero_grad")
    fresh = one_pass(twin, x, dy, seed)
    for name, grad in fresh.grads.items():
        report.add(name, "fresh after zero_grad", same_bits(grad, first.grads[name]), "it holds something older")


def layouts(array):
    """(name, the same values stored in another way)."""
    xp = array_module(array)
    if array.ndim == 0:
        return
    yield "by columns", xp.asfortranarray(array)
    spread = xp.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    spread[..., ::2] = array
    yield "strided", spread[..., ::2]
    yield "reversed", array[::-1].copy()[::-1]


def check_orders(report, layer, x, dy, passed, seed):
    """x and dy stored by columns, with gaps, and backwards."""
    # A scalar has one order only.
    for (order, x_view), (_, dy_view) in zip(layouts(x), layouts(dy), strict=False):
        got = one_pass(twin_of(layer), x_view, dy_view, seed, protect=False)
        report.compare("y", f"memory order: {order}", got.y, passed.y, ROUNDING)
        expected = passed.gradients()
        for name, gradient in got.gradients().items():
            report.compare(name, f"memory order: {order}", gradient, expected[name], ROUNDING,
                           floor=passed.floor(name))


def check_unchanged(report, layer, x, dy, passed, seed):
    """forward and backward change neither the caller's arrays, nor y once returned, nor the parameters."""
    for wrt in ("all", "input", "params"):
        twin, x_in, dy_in = twin_of(layer), x.copy(), dy.copy()
        y = forward(twin, x_in, seed, protect=False)
        y_before = host(y).copy()
        report.add("x", "forward mutates x", same_bits(x_in, x), "forward changed the caller's x")
        twin.backward(dy_in, wrt)
        for tensor, now, before in (("x", x_in, x), ("dy", dy_in, dy), ("y", y, y_before)):
            report.add(tensor, f'backward mutates {tensor} (wrt="{wrt}")', same_bits(now, before),
                       "backward changed an array that is not its own")
        before = named_params(layer)
        for name, value in named_params(twin).items():
            report.add(name, f'mutates parameters (wrt="{wrt}")', same_bits(value, before[name]),
                       "a pass changed the parameter")


def check_fresh(report, layer, x, dy, passed, seed):
    """Results are nobody else's, and a later pass does not write into them. Views are fine: y of x, dx of dy."""
    share = array_module(x).may_share_memory
    twin, x, dy = twin_of(layer), x.copy(), dy.copy()
    got = one_pass(twin, x, dy, seed, protect=False)
    for result, name, others in ((got.y, "y", {"dy": dy}), (got.dx, "dx", {"x": x, "y": got.y})):
        for what, other in {**others, "the parameters": twin.theta}.items():
            if result.size and other.size and hasattr(result, "base"):
                report.add(name, f"fresh, not {what}", not share(result, other), f"it shares memory with {what}")
    y, dx = host(got.y).copy(), host(got.dx).copy()
    one_pass(twin, 0.5 * x, 0.5 * dy, seed)
    report.add("y", "kept by a later pass", same_bits(got.y, y), "a later pass wrote into the array returned before")
    report.add("dx", "kept by a later pass", same_bits(got.dx, dx), "a later pass wrote into the array returned before")


def _same_pass(report, check, got, passed, detail):
    expected = passed.gradients()
    for name, gradient in got.items():
        report.add(name, check, same_bits(gradient, expected[name]), detail)


def check_caches(report, layer, x, dy, passed, seed):
    """Backward belongs to the last forward pass, whatever came before it."""
    twin = twin_of(layer)
    one_pass(twin, -0.75 * x, dy, seed)
    got = one_pass(twin, x, dy, seed)
    _same_pass(report, "stale cache", got.gradients(), passed, "it depends on an earlier pass")


def check_twin(report, layer, x, dy, passed, seed):
    """A pass through a twin leaves the other's pending backward alone, and gives the same numbers."""
    first = twin_of(layer)
    forward(first, x, seed)
    first.zero_grad()
    second = first.twin()
    got = one_pass(second, -0.75 * x, dy, seed)
    report.add("grad", "twin", not host(first.grad).any() or not got.grads,
               "a twin's backward pass added to the original's gradients")
    dx = first.backward(dy.copy())
    _same_pass(report, "twin", {"x": host(dx), **named_grads(first)}, passed,
               "a pass through a twin changed the original's pending backward pass: keep caches by self.keep(y, ...), "
               "and reach children by self.layers[name]")


def check_buffers(report, layer, x, dy, passed, seed):
    """Neither a twin nor eval mode writes buffers."""
    for twin, mode in ((twin_of(layer), "a twin"), (copy.deepcopy(layer).eval(), "eval mode")):
        before = {f"{prefix}{name}": host(value).copy() for prefix, sub in twin.named_layers()
                  for name, value in sub.buffers.items()}
        one_pass(twin, x, dy, seed)
        after = {f"{prefix}{name}": value for prefix, sub in twin.named_layers() for name, value in sub.buffers.items()}
        for name, value in before.items():
            report.add(name, f"buffer in {mode}", same_bits(after[name], value), f"{mode} must not write it")


def check_memory(report, layer, x, dy, passed, seed):
    """Nothing that a pass returns is left unwritten: memory that comes full of NaN gives the same bits."""
    with spoiled_memory():
        got = one_pass(twin_of(layer), x, dy, seed)
    report.add("y", "all of it written", same_bits(got.y, passed.y), "part of it is what memory held before")
    _same_pass(report, "all of it written", got.gradients(), passed, "part of it is what memory held before")


@contextmanager
def spoiled_memory():
    """Inside, memory for results (`backend.empty`) comes full of NaN, or of a large number."""
    empty = backend.empty

    def spoiled(*arguments, **keywords):
        array = empty(*arguments, **keywords)
        array.fill(np.nan if array.dtype.kind in "fc" else 99)
        return array
    backend.empty = spoiled
    try:
        yield
    finally:
        backend.empty = empty


def second_order_error(gradient, scale, above, middle, below, h):
    """(error of a complex pass's gradient as a derivative, number of entries left out), all arrays on the host.

    It is compared with (above - below) / 2h, relative to that and to `scale`, the size of the gradient itself.
    Entries whose three values do not lie on a line, up to what any curvature may do over so small a step, have a
    kink between them and are left out; so are those whose error a smaller bend explains, as a kink beside the middle
    makes the two differ by just that bend.
    """
    central, bend = (above - below) / (2 * h), np.abs(above - 2 * middle + below) / (2 * h)
    scale = max(np.abs(central).max(initial=0), scale) or 1.0
    error = np.abs(gradient.imag / H - central)
    kink = (bend > BEND * scale) | ((bend > SECOND * scale) & (error <= 1.01 * bend))
    return float(error[~kink].max(initial=0) / scale), int(kink.sum())


def check_second_order(report, layer, x, dy, passed, seed):
    """The backward pass is analytic too: of a complex twin it gives the gradient's derivative (see derivatives).

    Against the central difference of the gradient along a random direction of x.
    """
    v = np.random.default_rng(seed).standard_normal(x.shape)
    v = backend.to_device(v, backend.device_of(x))
    middle = passed.gradients()
    above = one_pass(twin_of(layer), x + SECOND_STEP * v, dy, seed).gradients()
    below = one_pass(twin_of(layer), x - SECOND_STEP * v, dy, seed).gradients()
    for name, gradient in one_pass(twin_of(layer, "complex128"), x + 1j * H * v, dy, seed).gradients().items():
        scale = max(np.abs(middle[name]).max(initial=0), passed.floor(name))
        error, skipped = second_order_error(gradient, scale, above[name], middle[name], below[name], SECOND_STEP)
        report.add(name, "analytic backward", error <= SECOND, error=error, tolerance=SECOND, skipped=skipped,
                   detail=NOT_ANALYTIC)


def check_single(report, layer, x, dy, passed, seed, tolerance):
    """In float32 all results are float32 and near the float64 ones; in complex64 they are complex64."""
    low = copy.deepcopy(layer).to(dtype="float32")
    x32, dy32 = x.astype(np.float32), dy.astype(np.float32)
    got = one_pass(twin_of(low), x32, dy32, seed)
    for tensor, result in (("y", got.y), ("dx", got.dx)):
        report.add(tensor, "dtype", result.dtype == np.float32, f"float32 went in, {result.dtype} came out")
    report.compare("y", FLOAT32, got.y, passed.y, tolerance)
    expected = passed.gradients()
    for name, gradient in got.gradients().items():
        report.compare(name, FLOAT32, gradient, expected[name], tolerance, floor=passed.floor(name))
        report.add(name, "dtype", gradient.dtype == np.float32, f"float32 went in, {gradient.dtype} came out")
    got = one_pass(twin_of(low, "complex64"), x32.astype(np.complex64), dy32.astype(np.complex64), seed)
    for tensor, result in (("y", got.y), ("dx", got.dx)):
        report.add(tensor, "complex dtype", result.dtype == np.complex64,
                   f"complex64 went in, {result.dtype} came out")
