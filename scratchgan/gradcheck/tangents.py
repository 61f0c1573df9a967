"""What `tangent` promises, for layers that have one. All of it by other passes: backward, and backward by complex step.

Of any layer the returned J v is compared with backward's J^T dy: <dy, J v> = <J^T dy, v>. Of one that is piecewise
linear so are the gradients that `tangent(z, c)` adds, with the derivative of backward's gradients along z for c = 0,
and for z = c x with the gradients of backward(c dy).
"""

import copy

import numpy as np

from scratchgan import backend
from scratchgan.derivatives import gradient_derivative
from scratchgan.gradcheck.oracles import host, is_rounding
from scratchgan.gradcheck.passes import forward, named_grads, named_params, one_pass, same_bits, twin_of
from scratchgan.gradcheck.report import ADJOINT
from scratchgan.layers import Layer

EXACT = 1e-12
DERIVATIVE = "tangent: complex step of backward"
WEIGHTED = "tangent of c x: backward of c dy"
SCALED = "tangent of c x is c y"


def check_tangent(report, layer, x, dy, passed, seed, single):
    """All rows; `single` is the tolerance for float32."""
    if not all(type(sub).tangent is not Layer.tangent for _, sub in layer.named_layers()):
        if layer.is_piecewise_linear:
            report.add("tangent", "defined", False, "a layer that is piecewise linear must define tangent")
        return
    v, c = directions(x, passed.y, seed)
    products = Products(layer, x, dy, v, c, seed)
    check_adjoint(report, dy, passed, v, products.jv)
    check_neighbours(report, layer, x, dy, passed, v, c, seed)
    if layer.is_piecewise_linear:
        check_gradients(report, layer, x, dy, passed, v, c, seed, products)
        check_precisions(report, layer, x, dy, v, c, seed, single, products)


def directions(x, y, seed):
    """v like x, and c: a number a sample, or one number where the first axis is no batch."""
    rng, device = np.random.default_rng((seed, 1)), backend.device_of(x)
    n = len(x) if x.ndim > 1 and y.ndim > 0 and len(y) == len(x) else 1
    v, c = (rng.standard_normal(shape).astype(np.float32).astype(np.float64) for shape in (x.shape, (n,)))
    return backend.to_device(np.asarray(v), device), backend.to_device(c, device)


def by_sample(c, x):
    """c x."""
    return c.reshape(-1, *[1] * (x.ndim - 1)) * x if x.ndim else c[0] * x


def begun(layer, x, dy, seed):
    """A twin after forward and backward(dy, "tangent"), its gradients zero."""
    twin = twin_of(layer)
    forward(twin, x, seed)
    twin.backward(dy.copy(), "tangent")
    twin.zero_grad()
    return twin


class Products:
    """What `tangent` gives: jv and the gradients `second` for (v, 0), cy and the gradients `first` for (c x, c)."""

    def __init__(self, layer, x, dy, v, c, seed):
        twin = begun(layer, x, dy, seed)
        self.jv, self.second = twin.tangent(v.copy()), named_grads(twin)
        twin.zero_grad()
        self.cy, self.first = twin.tangent(by_sample(c, x), c.copy()), named_grads(twin)


def check_adjoint(report, dy, passed, v, jv):
    if jv is None or tuple(jv.shape) != tuple(dy.shape):
        report.add("tangent", "shape", False, f"tangent must return an array like y, {tuple(dy.shape)}")
        return
    dy, dx, v, jv = (host(value) for value in (dy, passed.dx, v, jv))
    scale = np.linalg.norm(dy) * np.linalg.norm(jv) + np.linalg.norm(dx) * np.linalg.norm(v)
    error = float(abs((dy * jv).sum() - (dx * v).sum()) / scale) if scale else 0.0
    report.add("tangent", ADJOINT, error <= EXACT, error=error, tolerance=EXACT)


def check_neighbours(report, layer, x, dy, passed, v, c, seed):
    """backward(dy, "tangent") gives the dx of "input" and leaves gradients alone; `tangent` adds to them, changes
    neither its arguments nor what a later backward needs."""
    twin = twin_of(layer)
    one_pass(twin, x, dy, seed)
    dx = twin.backward(dy.copy(), "tangent")
    report.add("x", 'wrt="tangent"', dx is not None and same_bits(dx, twin.backward(dy.copy(), "input")),
               'backward must return the dx of wrt="input"')
    before = named_grads(twin)
    for name, grad in before.items():
        report.add(name, 'wrt="tangent"', same_bits(grad, passed.grads[name]), "its gradient must stay as it is")
    twin.zero_grad()
    z, c_in = by_sample(c, x) + v, c.copy()
    z_in = z.copy()
    twin.tangent(z_in, c_in)
    once = named_grads(twin)
    twin.tangent(z_in, c_in)
    for name, grad in named_grads(twin).items():
        report.add(name, "tangent: accumulation", same_bits(grad, 2 * once[name]), "it must add to the gradient")
    report.add("tangent", "mutates its arguments", same_bits(z, z_in) and same_bits(c, c_in),
               "tangent changed an array that is not its own")
    twin.zero_grad()
    dx = twin.backward(dy.copy())
    for name, grad in {"x": host(dx), **named_grads(twin)}.items():
        report.add(name, "backward after tangent", same_bits(grad, passed.gradients()[name]),
                   "tangent changed what backward needs")


def check_gradients(report, layer, x, dy, passed, v, c, seed, products):
    """Against backward: its complex step along v, and its gradients for c dy."""
    real = twin_of(layer)
    real.set_step(seed, real._draw[2])
    flat = host(gradient_derivative(real, x, dy, v))
    compare_gradients(report, DERIVATIVE, products.second, by_name(layer, flat), EXACT, passed.scale)
    if tuple(products.cy.shape) == tuple(passed.y.shape):
        weighted = one_pass(twin_of(layer), x, by_sample(c, dy), seed)
        compare_gradients(report, WEIGHTED, products.first, weighted.grads, EXACT, passed.scale)
        report.compare("tangent", SCALED, products.cy, by_sample(c, passed.y), EXACT)


def by_name(layer, flat):
    """A vector like `theta` as name -> array, in the shapes of the parameters."""
    twin = twin_of(layer)
    twin.grad[...] = backend.to_device(flat, twin.device)
    return named_grads(twin)


def compare_gradients(report, check, gradients, expected, tolerance, scale):
    for name, gradient in gradients.items():
        floor = scale if is_rounding(expected[name], scale) else 0.0
        report.compare(name, check, gradient, expected[name], tolerance, floor=floor)


def check_precisions(report, layer, x, dy, v, c, seed, single, products):
    """float32 near float64; and complex z times as much, so that penalties are analytic."""
    low = copy.deepcopy(layer).to(dtype="float32")
    got = Products(low, *(value.astype(np.float32) for value in (x, dy, v, c)), seed)
    report.add("tangent", "dtype", got.jv.dtype == got.cy.dtype == np.float32,
               f"float32 went in, {got.jv.dtype} and {got.cy.dtype} came out")
    scale = max((float(np.linalg.norm(value)) for value in (*products.first.values(), *products.second.values())),
                default=0.0)
    for name in named_params(layer):
        for mine, its in ((got.first, products.first), (got.second, products.second)):
            report.compare(name, "tangent: float32", mine[name], its[name], single, floor=1e-3 * scale)
    report.compare("tangent", "tangent: float32", got.jv, products.jv, single)
    twin = copy.deepcopy(layer).to(dtype="complex128").twin()
    forward(twin, x.astype(np.complex128), seed)
    twin.backward(dy.astype(np.complex128), "tangent")
    twin.zero_grad()
    report.compare("tangent", "tangent: analytic", twin.tangent((1 + 2j) * v), (1 + 2j) * host(products.jv), EXACT)
    for name, gradient in named_grads(twin).items():
        report.compare(name, "tangent: analytic", gradient, (1 + 2j) * products.second[name], EXACT)
