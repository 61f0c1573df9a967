"""`scratchgan gradcheck penalties`: second-order gradients, of every kind of critic, by every route.

A row of its table is a loss (with R1, R2, both, WGAN-GP; seen after some steps of D, by Adam or SGD), a critic and the
route by which the gradient comes: tangents or complex step. The oracles, each further from the code that it judges:

    complex step         of the loss that is told: the penalty's value and its gradient belong together
    central differences  of the loss written out here (`Penalised.written_out`, `Unrolling.written_out`): a penalty by
                         its formula on gradients that come from forward passes of D, a look ahead by D's own optimizer
    adjoint              of the critic's `tangent`, where its layers have one: see `gradcheck.tangents`
    PyTorch              double backward of the same formula, where it is installed
    float32              of the gradient in float64

`Residual` and `ByComplexStep` show how a layer of one's own takes part in either route.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from scratchgan import random
from scratchgan.gan import Game, Latent, passes
from scratchgan.gan.penalties import GradientPenalty, ZeroCentred
from scratchgan.gan.unrolled import Unrolled
from scratchgan.gradcheck import pytorch
from scratchgan.gradcheck.layers import AGREEMENT, AGREES, DIFFERENCES
from scratchgan.gradcheck.networks import (
    SINGLE,
    check_directions,
    complex_copy,
    in_precision,
    quietly,
    with_networks,
)
from scratchgan.gradcheck.oracles import DIFFERENCE, H, is_rounding
from scratchgan.gradcheck.passes import forward, named_grads, named_params, one_pass, twin_of
from scratchgan.gradcheck.report import CENTRAL, FLOAT32, PYTORCH, Report
from scratchgan.gradcheck.tangents import check_tangent
from scratchgan.kernels import plain
from scratchgan.layers import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    Sequential,
    Softplus,
    Tanh,
    Unflatten,
)
from scratchgan.optimizers import SGD, Adam

TANGENTS, COMPLEX = "tangents", "complex step"
N, STEPS = 5, 2   # samples in a batch; steps of training before
LOOKS = 2         # steps that D looks ahead


# -- critics -------------------------------------------------------------------------------------------------------


class Residual(Layer):
    """y = x + f(x), f the layers in a row;  dx = dy + f's dx;  J z + c b = z + f's.

    All that second-order gradients need of a layer with children: `tangent` goes through them as `forward` does.
    """

    piecewise_linear = True  # if f's layers are

    def __init__(self, *layers):
        super().__init__()
        self.f = Sequential(*layers)

    def forward(self, x):
        return x + self.f.forward(x)

    def backward(self, dy, wrt="all"):
        dx = self.f.backward(dy, wrt)
        return None if wrt == "params" else dy + dx

    def tangent(self, z, c=None):
        return z + self.f.tangent(z, c)


class ByComplexStep(Sequential):
    """A `Sequential` that goes the other route, whatever its layers are."""

    piecewise_linear = False


def mlp(*middle):
    return Linear(4, 6), *middle, Linear(6, 1)


def conv(*middle):
    return Conv2d(2, 3, 3, padding=1), *middle, AvgPool2d(2), Flatten(), Linear(12, 1)


SLOPE = 0.2
SHAPES = {"MLP": (4,), "conv": (2, 4, 4)}
CRITICS = {
    "MLP, leaky ReLU": lambda: mlp(LeakyReLU(SLOPE)),
    "MLP, residual": lambda: mlp(LeakyReLU(SLOPE), Residual(Linear(6, 5), LeakyReLU(SLOPE), Linear(5, 6))),
    "MLP, tanh": lambda: mlp(Tanh()),
    "MLP, softplus": lambda: mlp(Softplus()),
    "MLP, layer norm": lambda: mlp(LayerNorm(6), LeakyReLU(SLOPE)),
    "conv, leaky ReLU": lambda: conv(LeakyReLU(SLOPE)),
    "conv, residual": lambda: conv(Residual(LeakyReLU(SLOPE), Conv2d(3, 3, 3, padding=1), LeakyReLU(SLOPE))),
    "conv, tanh": lambda: conv(Tanh()),
    "conv, softplus": lambda: conv(Softplus()),
    "conv, layer norm": lambda: conv(LayerNorm((3, 4, 4)), LeakyReLU(SLOPE)),
}
SMOOTH = ("tanh", "softplus", "layer norm")  # not piecewise linear, whatever their layers say


# -- losses --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Penalised:
    """D's loss with a penalty: its gradients on D's parameters.

    formula   P of dD/dx at real samples, at fake ones and between them, each (N, values of a sample); written for
              NumPy and for PyTorch
    """

    objective: str
    penalty: Callable
    formula: Callable

    def game(self, G, D, **others):
        return Game(G, D, self.objective, Adam(G, 1e-2), Adam(D, 1e-2), penalties=(self.penalty(),), **others)

    def routes(self, critic):
        return (COMPLEX,) if critic.endswith(SMOOTH) else (TANGENTS, COMPLEX)

    def gradients(self, game, real, fake):
        game.draw_from(game.steps)
        game.discriminator_gradient(real, fake)
        return named_grads(game.discriminator)

    def told(self, game, real, fake):
        """(a function that gives the loss that the game tells, {tensor: array that it depends on}), complex."""
        game = with_networks(game, lambda network: complex_copy(network) if network is game.discriminator else network)

        def loss():
            game.draw_from(game.steps)
            return game.discriminator_gradient(real, fake)[1]["loss_d"]()
        return loss, named_params(game.discriminator)

    def written_out(self, game, real, fake):
        """As `told`, real: by forward passes of D alone."""
        D, objective, points = copy.deepcopy(game.discriminator), game.objective, points_of(game, real, fake)
        twin = D.twin("complex128")

        def loss():
            return (objective.loss_d(D.forward(real), D.forward(fake))
                    + self.formula(*[by_forward_passes(twin, x) for x in points]))
        return loss, named_params(D)

    def by_pytorch(self, module, game, real, fake):
        return pytorch.double_backward(module, self.objective, self.formula, points_of(game, real, fake))


def points_of(game, real, fake):
    """Where D's gradient is penalised: at the samples, and between them as WGAN-GP draws e, one for each pair."""
    e = random.uniform((len(real), *(1,) * (real.ndim - 1)), game.seed, "penalty.0/between", game.steps,
                       dtype=real.dtype)
    return real, fake, e * real + (1 - e) * fake


def by_forward_passes(twin, x):
    """dD/dx as (N, values of a sample): each value moved by i h in turn, in one batch of a complex twin of D."""
    n, size = len(x), math.prod(x.shape[1:])
    moved = x.reshape(n, 1, size) + 1j * H * np.eye(size)
    return twin.forward(moved.reshape(n * size, *x.shape[1:])).imag.reshape(n, size) / H


@dataclass(frozen=True)
class Unrolling:
    """G's loss as D will see it after `LOOKS` of its steps: its gradient on the fakes, which move D, too."""

    objective: str
    optimizer: Callable

    def game(self, G, D, **others):
        return Game(G, D, self.objective, Adam(G, 1e-2), self.optimizer(D), unrolled=Unrolled(LOOKS), **others)

    def routes(self, critic):
        return (COMPLEX,)

    def gradients(self, game, real, fake):
        return {"fake": game.unrolled.gradient(game, real, fake)[0]}

    def told(self, game, real, fake):
        fake = fake.astype(np.complex128)

        def loss():
            _, scores = game.unrolled.gradient(game, real, fake)
            return game.objective.loss_g(scores.fake, scores.real)
        return loss, {"fake": fake}

    def written_out(self, game, real, fake):
        fake = fake.copy()

        def loss():
            ahead = copy.deepcopy(game)
            D, objective = ahead.discriminator, ahead.objective
            for _ in range(LOOKS):
                D.zero_grad()
                passes.of_loss(D, objective, real, fake, None, True)
                ahead.optimizer_d.step()
            return objective.loss_g(D.forward(fake), D.forward(real))
        return loss, {"fake": fake}

    def by_pytorch(self, module, game, real, fake):
        return pytorch.look_ahead(module, self.objective, game.optimizer_d, LOOKS, real, fake)


def squares(g):
    return (g * g).sum(1)


R1, R2, GP = 0.7, 0.4, 3.0
LOSSES = {
    "R1": Penalised("non-saturating", partial(ZeroCentred, R1),
                    lambda real, fake, between: R1 / 2 * squares(real).mean()),
    "R2": Penalised("non-saturating", partial(ZeroCentred, 0, R2),
                    lambda real, fake, between: R2 / 2 * squares(fake).mean()),
    "R1 + R2": Penalised("relativistic", partial(ZeroCentred, R1, R2),
                         lambda real, fake, between: R1 / 2 * squares(real).mean() + R2 / 2 * squares(fake).mean()),
    "WGAN-GP": Penalised("wasserstein", partial(GradientPenalty, GP),
                         lambda real, fake, between: GP * ((squares(between) ** 0.5 - 1) ** 2).mean()),
    "unrolled, Adam": Unrolling("non-saturating", partial(Adam, lr=1e-2)),
    "unrolled, SGD": Unrolling("relativistic", partial(SGD, lr=0.1)),
}


# -- the check -----------------------------------------------------------------------------------------------------


def penalty_cases():
    """{the name of all: [(loss, critic, route), ...]}."""
    return {"penalties": [(loss, critic, route) for loss, kind in LOSSES.items() for critic in CRITICS
                          for route in kind.routes(critic)]}


def check_penalty(loss, critic, route, seed=0):
    """The report on one of `penalty_cases`, after some steps of training."""
    kind, game = LOSSES[loss], game_of(loss, critic, route, seed)
    rng = np.random.default_rng(seed)
    real = rng.uniform(-1, 1, (N, *game.sample_shape))
    report = Report(f"{loss}: {critic}, by {route}", seed, {"real": real})
    with quietly(), report.guard("a step of training"):
        for _ in range(STEPS):
            game.step(real)
        game.draw_from(game.steps)
        fake = report.inputs["fake"] = game.fakes(N).copy()
        gradients = kind.gradients(game, real, fake)
        scale = max(float(np.linalg.norm(gradient)) for gradient in gradients.values())
        report.add("all tensors", "some gradient is not zero", scale > 0, "every gradient is zero")
        for penalty in game.penalties:
            told = penalty.about(game.discriminator)
            report.add("D", "route", f" by {route}" in told, f"told: {told}")
        against_told(report, gradients, *kind.told(game, real, fake), rng, scale)
        against_written_out(report, gradients, *kind.written_out(game, real, fake), rng, scale)
        with plain():
            compare(report, AGREES, kind.gradients(game, real, fake), gradients, AGREEMENT, scale)
        low = in_precision(game, "float32")
        low_samples = [x.astype(np.float32) for x in (real, fake)]
        single = kind.gradients(low, *low_samples)
        compare(report, FLOAT32, single, gradients, SINGLE, scale)
        against_tangent(report, game.discriminator, real, seed)
        against_pytorch(report, kind, game, (real, fake), gradients, low, low_samples, single, scale)
    return report


def game_of(loss, critic, route, seed):
    shape = next(shape for kind, shape in SHAPES.items() if critic.startswith(kind))
    G = Sequential(Linear(3, math.prod(shape)), Tanh(), Unflatten(1, shape)).initialize(seed, "g")
    D = (Sequential if route == TANGENTS or critic.endswith(SMOOTH) else ByComplexStep)(*CRITICS[critic]())
    return in_precision(LOSSES[loss].game(G, D.initialize(seed, "d"), latent=Latent(3), sample_shape=shape, seed=seed))


def against_told(report, gradients, loss, arrays, rng, scale):
    for tensor, gradient in gradients.items():
        check_directions(report, tensor, gradient, loss, arrays[tensor], np.float64(1), rng, directions=2, entries=2,
                         scale=scale, may_be_zero=True)


def against_written_out(report, gradients, loss, arrays, rng, scale):
    """Along one random direction of each tensor: an error over the norms of gradient and direction."""
    for tensor, gradient in gradients.items():
        v, array, own = rng.standard_normal(gradient.shape), arrays[tensor], arrays[tensor].copy()
        v /= np.linalg.norm(v)
        array[...] = own + DIFFERENCE * v
        above = loss()
        array[...] = own - DIFFERENCE * v
        central = (above - loss()) / (2 * DIFFERENCE)
        array[...] = own
        error = abs(central - (gradient * v).sum()) / floored(np.linalg.norm(gradient), scale)
        report.add(tensor, CENTRAL, error <= DIFFERENCES, error=float(error), tolerance=DIFFERENCES)


def against_tangent(report, D, x, seed):
    """D may be a chain that is not piecewise linear; then J v is still the adjoint of backward."""
    dy = np.random.default_rng(seed).standard_normal(forward(twin_of(D), x, seed).shape)
    check_tangent(report, D, x, dy, one_pass(twin_of(D), x, dy, seed), seed, SINGLE)


def against_pytorch(report, kind, game, samples, gradients, low, low_samples, single, scale):
    module = pytorch.module_like(game.discriminator, Residual=pytorch.residual, ByComplexStep=pytorch.chain)
    if module is None:
        return
    with report.guard(PYTORCH), pytorch.one_thread():
        theirs = kind.by_pytorch(module, game, *samples)
        compare(report, PYTORCH, gradients, theirs, pytorch.TOLERANCE, scale)
        theirs = kind.by_pytorch(module.float(), low, *low_samples)
        compare(report, f"{PYTORCH} in float32", single, theirs, SINGLE, scale)


def compare(report, check, gradients, expected, tolerance, scale):
    for tensor, gradient in gradients.items():
        floor = floored(np.abs(expected[tensor]).max(), scale, expected[tensor].dtype)
        report.compare(tensor, check, gradient, expected[tensor], tolerance, floor=floor)


def floored(size, scale, dtype="float64"):
    """What errors are divided by: the size of the gradient, or of those around it where it is zero up to rounding."""
    return scale if is_rounding(size, scale, dtype) else size
