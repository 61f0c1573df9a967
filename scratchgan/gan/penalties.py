"""Further terms of D's loss: on its weights, and on its gradients with respect to what it sees.

A penalty P(g) on g_n = dD(x_n)/dx_n has a second-order gradient: dP/dtheta = sum_n (d g_n / dtheta) v_n, v = dP/dg. It
comes without autograd by one of two routes (`scratchgan.derivatives`): tangents, where every layer of D is piecewise
linear, else the complex step.
"""

from functools import partial

import numpy as np

from scratchgan import kernels, random, recording, schedules, settings
from scratchgan.backend import array_module, device_of, empty_like
from scratchgan.derivatives import gradient_derivative
from scratchgan.gan import passes
from scratchgan.gan.checks import nonnegative
from scratchgan.gan.part import Part
from scratchgan.layers import Linear, Sequential


class Penalty(Part):
    """The base: a term P that is added to loss_d.

    `gradient(D, real, fake, labels)` is called after D's own passes, with the samples as D saw them. It adds dP/dtheta
    to D's `grad` and returns P, a 0-d array, analytic in theta, so that `gradcheck.check_game` checks it with loss_d.
    D's caches must stay those of its own passes: a penalty that needs passes makes them on `D.twin()`, whose `grad` it
    adds to D's. What it draws is a function of `set_step`.

    A penalty that can share D's own passes says so by `shares_passes(D)` and defines `gradient_with_loss`; the first
    such of a game does (`passes.sharing`).
    """

    kind = "penalties"
    draws = 0, "penalty", 0  # seed, purpose, step

    def check(self, D):
        """`ValueError` for a discriminator that the penalty does not fit."""

    def set_step(self, seed, step, purpose):
        self.draws = seed, purpose, step

    def gradient(self, D, real, fake, labels=None):
        raise NotImplementedError(f"{type(self).__name__} does not define gradient")

    def shares_passes(self, D):
        return False

    def gradient_with_loss(self, D, objective, real, fake, labels=None):
        """Adds d(loss_d + P) / dtheta to D's `grad`; returns the `Scores` of both batches, and P. D's last pass is
        that of both."""
        raise NotImplementedError(f"{type(self).__name__} does not define gradient_with_loss")

    def about(self, D):
        """In words, for a person."""
        return repr(self)


class WeightDecay(Penalty):
    """P = weight / 2 sum theta^2;  dP/dtheta = weight theta.  On all of D's parameters."""

    SETTINGS = (settings.Setting("weight_decay_d", 0.0, "weight w of w/2 |theta|^2 in D's loss, theta its parameters",
                                 settings.number(0)),)

    @classmethod
    def of(cls, chosen, network=None):
        return cls(chosen.weight_decay_d) if chosen.weight_decay_d else None

    def __init__(self, weight):
        self.weight = float(nonnegative(weight, "WeightDecay: weight"))

    def gradient(self, D, real, fake, labels=None):
        theta = D.theta
        grad = D.grad
        grad += theta.real.dtype.type(self.weight) * theta
        return self.weight / 2 * (theta * theta).sum()

    def __repr__(self):
        return f"WeightDecay({self.weight})"


class InputGradientPenalty(Penalty):
    """The base of penalties on g = dD/dx, for a D that judges each sample by itself."""

    def check(self, D):
        if passes.couples_samples(D):
            layer = next(layer for _, layer in D.named_layers() if layer.couples_samples)
            raise ValueError(f"{type(self).__name__}: a penalty on D's gradient at a sample needs a discriminator that "
                             f"judges each by itself, but {layer!r} couples those of a batch: take LayerNorm, "
                             "InstanceNorm2d or no normalisation")

    def about(self, D):
        return f"{self!r} by {'tangents' if D.is_piecewise_linear else 'complex step'}"

    def on_twin(self, D, x, labels, slope):
        """Adds dP/dtheta to D's `grad` by passes of a twin over x; returns P.  slope(g) = (P, dP/dg).

        By tangents: g = D.backward(1, "tangent"), then D.tangent(dP/dg) adds what the theorem at the head of
        `derivatives.gradient_derivative` says, without a pass at another point.
        """
        xp, tangents, grad = array_module(x), D.is_piecewise_linear, D.grad
        twin = self.drawn(D.twin(grad=grad))  # `tangent` adds to it
        s = passes.scores(twin, x, labels)
        ones = xp.full_like(s, len(x) / s.size)  # D(x_n) is the mean of its scores, where there are several
        g = passes.of_samples(twin.backward(ones, "tangent" if tangents else "input"))
        P, v = slope(g)
        if is_real(D) and tangents:
            twin.tangent(passes.given(v, labels), None)
        elif is_real(D):
            grad += gradient_derivative(D, passes.given(x, labels), ones, v, twin=self.drawn(D.twin(complex_of(x))))
        return P

    def drawn(self, twin):
        seed, purpose, step = self.draws
        twin.set_step(seed, step, purpose)  # masks of its dropout
        return twin


class ZeroCentred(InputGradientPenalty):
    """P = r1 / 2 mean_n |dD/dx|^2 at real x_n + r2 / 2 mean_n |dD/dx|^2 at fake ones.  dP/dg_n = r / N g_n.

    The squared norm is over all values of a sample. Either weight may be a schedule. R1: Mescheder et al. 2018,
    "Which training methods for GANs do actually converge?", eq. 9; both: Roth et al. 2017, Huang et al. 2024.

    With a piecewise linear D, whose scores are numbers, P comes with the loss, in the four passes of
    `gradient_with_loss`.
    """

    SETTINGS = (settings.Setting("r1", 0.0, "weight w of w/2 |dD/dx|^2 in D's loss, at real samples; 0: none",
                                 settings.number(0)),
                settings.Setting("r2", 0.0, "the same at fake samples", settings.number(0)),
                settings.Setting("gamma_final", 1.0, "share of r1 and r2 that is left at the end of the schedule",
                                 settings.number(0), needs=("schedule", ("r1", "r2")), idle=1))

    @classmethod
    def of(cls, chosen, network=None):
        r1, r2 = (schedules.over(chosen, r, r * chosen.gamma_final) for r in (chosen.r1, chosen.r2))
        return cls(r1, r2) if chosen.r1 or chosen.r2 else None

    def __init__(self, r1, r2=0.0):
        for name, r in (("r1", r1), ("r2", r2)):
            schedules.check(f"ZeroCentred: {name}", r)
        self.r1, self.r2 = r1, r2

    def weights(self, n=1, dtype="float64"):
        """(r1 / n, r2 / n) at this step."""
        def of_each(step):
            return [schedules.value(r, step) / n for r in (self.r1, self.r2)]
        return recording.values(of_each, self.draws[2], dtype)

    def gradient(self, D, real, fake, labels=None):
        def slope(i, g):
            return squares(g, self.weights(len(g), g.real.dtype)[i])
        return sum(self.on_twin(D, x, labels, partial(slope, i))
                   for i, (x, r) in enumerate([(real, self.r1), (fake, self.r2)]) if r)

    def shares_passes(self, D):
        return D.is_piecewise_linear

    def gradient_with_loss(self, D, objective, real, fake, labels=None):
        """One batch of 2N, four passes. With s = D(x), g = dD/dx and c = d loss_d / ds,

            D.tangent(c x + r / N g, c) adds  sum_n c_n ds_n/dtheta + r / N (dg_n/dtheta) g_n  to D's `grad`,

        the gradients of the loss and of P, as a tangent pass is linear in its first argument.
        """
        n, xp = len(fake), array_module(fake)
        x, pairs = passes.together(real, fake), passes.pairs(labels)
        s = passes.scores(D, x, pairs, batches=2)
        of_both, c = passes.Scores(s[:n], s[n:], joint=True), objective.grad_both(s)
        if s.size > 2 * n:  # a map of scores has a c of its own for each
            D.backward(c, "params")
            return of_both, self.gradient(D, real, fake, labels)
        g = passes.of_samples(D.backward(xp.ones_like(s), "tangent"))
        weight, c = xp.empty(2 * n, s.real.dtype), c.reshape(2 * n)
        weight[:n], weight[n:] = self.weights(n, weight.dtype)
        ops = kernels.of(x, c, g)
        if is_real(D):
            D.tangent(passes.given(ops.direction(x, c, g, weight), pairs), c)
        P = ops.weighted_squares(g, weight)
        return of_both, P

    def __repr__(self):
        return f"ZeroCentred(r1={schedules.in_words(self.r1)}, r2={schedules.in_words(self.r2)})"


@kernels.formula
def direction(x, c, g, weight):
    """c_n x_n + weight_n g_n, for samples x_n and g_n."""
    each = len(x), *(1,) * (x.ndim - 1)
    z = weight.reshape(each) * g
    z += c.reshape(each) * x
    return z


@kernels.formula
def weighted_squares(g, weight):
    """sum_n weight_n / 2 |g_n|^2."""
    return kernels.of(g).gemm((g * g).reshape(len(g), -1).T, weight).sum() / 2  # faster than a sum along rows


def squares(g, weight):
    """P = weight / 2 sum_n |g_n|^2 and dP/dg."""
    return weight / 2 * (g * g).sum(), weight * g


class GradientPenalty(InputGradientPenalty):
    """P = weight mean_n (|g_n| - 1)^2, g_n = dD/dx at e_n x_n + (1 - e_n) G(z_n), e_n ~ U(0, 1), one for each sample.

    dP/dg_n = 2 weight / N (1 - 1 / |g_n|) g_n, taken as 0 where g_n = 0. Gulrajani et al. 2017, "Improved training of
    Wasserstein GANs", algorithm 1.

    With a piecewise linear D that begins with a linear layer, P comes with the loss: see `gradient_with_loss`.
    """

    SETTINGS = (settings.Setting("gp", 0.0, "weight of (|dD/dx| - 1)^2 between real and fake in D's loss; 0: none",
                                 settings.number(0)),)

    @classmethod
    def of(cls, chosen, network=None):
        return cls(chosen.gp) if chosen.gp else None

    def __init__(self, weight=10.0):
        self.weight = float(nonnegative(weight, "GradientPenalty: weight"))

    def share_of_real(self, fake):
        """e_n, in a shape that goes with samples and with what a linear layer makes of them."""
        seed, purpose, step = self.draws
        return random.uniform((len(fake), *(1,) * (fake.ndim - 1)), seed, f"{purpose}/between", step,
                              dtype=fake.real.dtype, device=device_of(fake))

    def gradient(self, D, real, fake, labels=None):
        x = empty_like(fake)
        x[...] = real  # in the memory order of the fake ones: between unlike orders each operation takes longer
        return self.on_twin(D, fake + self.share_of_real(fake) * (x - fake), labels, self.slope)

    def shares_passes(self, D):
        """Whether D is a chain that begins with a linear layer. Buffers, as of spectral norm, would change in the pass
        of the points between, too, which a twin keeps from them."""
        return (is_chain(D) and len(D) > 1 and isinstance(D[0], Linear) and D[0].keeps_rows and D.is_piecewise_linear
                and not any(layer.buffers for _, layer in D.named_layers()))

    def gradient_with_loss(self, D, objective, real, fake, labels=None):
        """Where D begins with a linear layer, what that makes of a point between is between what it makes of both.

        So there is no product for it and no point; and as the layer's tangent is the same at all points, that of the
        fakes serves. The points between come first, so that D's last pass is its own, of both batches.
        """
        n, xp, first, rest = len(fake), array_module(fake), D[0], D[1:]
        y = first.forward(passes.together(real, fake))
        s = passes.scores(rest, y[n:] + self.share_of_real(fake) * (y[:n] - y[n:]))
        with first.only_rows(slice(n, None)):
            g = first.backward(rest.backward(xp.full_like(s, n / s.size), "tangent"), "tangent")
            P, v = self.slope(g)
            if is_real(D):
                rest.tangent(first.tangent(v))
        s = passes.scores(rest, y, batches=2)
        first.backward(rest.backward(objective.grad_both(s)), "params")
        return passes.Scores(s[:n], s[n:], joint=True), P

    def slope(self, g):
        return kernels.of(g).unit_slope(g, g.real.dtype.type(self.weight / len(g)))

    def __repr__(self):
        return f"GradientPenalty({self.weight})"


@kernels.formula
def unit_slope(g, weight):
    """P = weight sum_n (|g_n| - 1)^2 and dP/dg_n = 2 weight (1 - 1 / |g_n|) g_n, 0 where g_n = 0."""
    flat = g.reshape(len(g), -1)
    squared = kernels.of(g).gemm(flat * flat, array_module(g).ones(flat.shape[1], g.dtype))  # faster than a sum
    zero = squared.real <= 0  # below 0 where g = 0 is moved by ih
    norm = array_module(g).sqrt(squared + zero)  # 1 in place of 0
    over = norm - zero - 1
    v = (2 * weight * over / norm)[:, None] * flat
    return weight * (over * over).sum(), v.reshape(g.shape)


def is_chain(D):
    """Whether D's passes are those of its layers one after the other, and nobody watches D itself, as
    `scratchgan profile` does: then they go through D as a whole."""
    return (isinstance(D, Sequential) and D.keeps_rows  # False of a class with a `forward` of its own
            and not {"forward", "backward", "tangent"} & vars(D).keys())


def is_real(D):
    """Of a D with complex parameters a check asks for values only."""
    return D.theta.dtype.kind != "c"


def complex_of(x):
    return np.result_type(x.dtype, np.complex64)
