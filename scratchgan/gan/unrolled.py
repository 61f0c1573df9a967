"""`Unrolled`: G's loss as D will see it K of its steps later, which G's own step then takes into account."""

import copy

import numpy as np

from scratchgan import settings
from scratchgan.derivatives import step_of
from scratchgan.gan import passes
from scratchgan.gan.checks import nonnegative
from scratchgan.gan.latent import whole
from scratchgan.gan.part import Part
from scratchgan.optimizers import SGD, Adam


class Unrolled(Part):
    """loss_g(theta_K, G(z)), where D looks K steps ahead on the batch of G's step:  theta_k = theta_{k-1} - u(g_k),

    g_k = d loss_d / d theta at theta_{k-1}, u the rule of D's optimizer, from a copy of its state, or with `lr` plain
    SGD of this rate. G's gradient goes through its fakes in every g_k, not only in the last score. By adjoints, from
    lambda = d loss_g / d theta_K and dfake = d loss_g / d fake on, for k = K, ..., 1:

        a       = d loss_g / d g_k                     by the derivative of u, its sign included: `adjoint` below
        lambda += d2 loss_d / d theta2 a
        dfake  += d2 loss_d / (d fake d theta) a       both are Im / h of one backward pass at theta_{k-1} + i h a

    D itself, its buffers and its optimizer stay as they are; the copy's buffers stand still while it looks ahead. Metz
    et al. 2017, "Unrolled generative adversarial networks", section 2.4.
    """

    kind = "unrolled"
    SETTINGS = (settings.Setting("unroll", 0, "steps that D looks ahead in G's step; 0: none", settings.whole(0)),
                settings.Setting("unroll_lr", 0.0, "rate of plain SGD for these; 0: by D's own optimizer",
                                 settings.number(0), needs=("unroll",)))

    @classmethod
    def of(cls, chosen, network=None):
        return cls(chosen.unroll, chosen.unroll_lr) if chosen.unroll else None

    def __init__(self, steps, lr=0.0):
        self.steps, self.lr = whole(steps, "Unrolled: steps", 1), float(nonnegative(lr, "Unrolled: lr"))

    def check(self, game):
        """`ValueError` where the parts of a game do not go with it."""
        plain = type(game.optimizer_d) is SGD and not game.optimizer_d.schedules["momentum"]
        if not self.lr and not (plain or type(game.optimizer_d) is Adam):
            raise ValueError("Unrolled: D looks ahead by Adam or plain SGD: give unroll_lr, a rate of plain SGD")
        if game.optimizer_d.weight_decay:
            raise ValueError("Unrolled: the weight decay of D's optimizer is not looked ahead at: leave it out")
        if game.updates["discriminator"]:
            raise ValueError(f"Unrolled: what follows D's update ({game.updates['discriminator'][0]!r}) is not looked "
                             "ahead at: leave it out")
        if game.penalties:
            raise ValueError(f"Unrolled: D's penalties ({game.penalties[0]!r}) are not looked ahead at: leave them out")
        if any(part.needs_codes for part in game.penalties_g):
            raise ValueError("Unrolled: the pull-away term needs the codes of D as it is: leave one of them out")

    def gradient(self, game, real, fake, labels=None):
        """(the gradient of loss_g on the fakes, D's scores that it is made of) for batches as D sees them."""
        D, objective, dtype = game.discriminator, game.objective, np.result_type(game.discriminator.theta, fake)
        net, looks, rule = self.copied(D, dtype), [], self.rule(game.optimizer_d, dtype)
        for k in range(self.steps):
            looks.append(net.theta.copy())
            net.zero_grad()
            self.scored(game, net, k, real, fake, labels)
            rule.step(net.theta, game.reduce(net.grad))
        net.set_step(game.seed, game.steps, f"unrolled.{self.steps}")
        of_real = passes.scores(net, real, labels) if objective.paired else None
        scores = passes.Scores(of_real, passes.scores(net, fake, labels))
        if dtype.kind == "c":
            return fake, scores  # a check asks for the value only
        dscores = objective.grad_g(scores.fake, scores.real)
        net.zero_grad()
        dfake = passes.of_samples(net.backward(dscores, "all"))
        if objective.paired:  # the real scores fall as the fake ones rise, through theta_K alone
            net.set_step(game.seed, game.steps, f"unrolled.{self.steps}")
            passes.scores(net, real, labels)
            net.backward(-dscores, "params")
        along = game.reduce(net.grad.copy())
        net, h = self.copied(D, np.result_type(dtype, np.complex64)), step_of(dtype)
        for k in reversed(range(self.steps)):
            a = rule.adjoint(k, along)
            size = abs(a).max() + dtype.type(1e-30)  # the step has one size, whatever that of a
            net.theta[...] = looks[k] + 1j * dtype.type(h) * (a / size)
            net.zero_grad()
            dx = self.scored(game, net, k, real, fake, labels, "all")
            along += game.reduce(net.grad.imag.copy()) * (size / h)
            dfake = dfake + dx.imag * (size / h)
        return dfake, scores

    def scored(self, game, net, k, real, fake, labels, wrt="params"):
        """Adds d loss_d / d theta to the gradient of D's copy in look k; returns d loss_d / d fake with wrt "all"."""
        net.set_step(game.seed, game.steps, f"unrolled.{k}")  # the same masks each time
        return passes.of_loss(net, game.objective, real, fake, labels, game.joint_batch, wrt)[1]

    def copied(self, D, dtype):
        """A twin of a copy of D in this dtype: neither D nor its buffers change."""
        return copy.deepcopy(D).to(dtype=dtype.name).twin()

    def rule(self, optimizer, dtype):
        if self.lr or type(optimizer) is SGD:
            return LookBySGD(optimizer, self.lr)
        return LookByAdam(optimizer, dtype)

    def __repr__(self):
        return f"Unrolled({self.steps}{f', lr={self.lr}' if self.lr else ''})"


class LookBySGD:
    """theta_k = theta_{k-1} - lr_k g_k;  dg_k = -lr_k dtheta_k.  lr 0: that of the optimizer."""

    def __init__(self, optimizer, lr):
        self.optimizer, self.lr, self.rates = optimizer, lr, []

    def step(self, theta, grad):
        lr = self.lr or self.optimizer.scheduled(self.optimizer.steps + len(self.rates))[0]
        self.rates.append(theta.real.dtype.type(lr))
        theta -= self.rates[-1] * grad

    def adjoint(self, k, dtheta):
        return -self.rates[k] * dtheta


class LookByAdam:
    """M_k = b1 M_{k-1} + g_k,  V_k = b2 V_{k-1} + g_k^2,  theta_k = theta_{k-1} - rate_k M_k / (sqrt(V_k) + eps_k),

    as `Adam` has it. Backwards from dtheta_k, with dM and dV the adjoints of M_k and V_k, which begin at 0:

        dM -= rate dtheta / (sqrt(V) + eps)
        dV += rate dtheta M / (2 sqrt(V) (sqrt(V) + eps)^2)      (0 where V = 0)
        dg  = dM + 2 g dV,   and then for k - 1   dM *= b1,  dV *= b2
    """

    def __init__(self, optimizer, dtype):
        self.optimizer, self.done = optimizer, []
        self.m, self.v = (optimizer.vector(name).astype(dtype) for name in ("m", "v"))
        self.dm = self.dv = dtype.type(0)

    def step(self, theta, grad):
        kind, xp = theta.real.dtype.type, self.optimizer.network.xp
        b1, b2, rate, eps = map(kind, self.optimizer.constants(self.optimizer.steps + len(self.done)))
        self.m = b1 * self.m + grad
        self.v = b2 * self.v + grad * grad
        root = xp.sqrt(self.v)
        theta -= rate * self.m / (root + eps)
        self.done.append((grad.copy(), self.m, root, (b1, b2, rate, eps)))

    def adjoint(self, k, dtheta):
        xp, (g, m, root, (b1, b2, rate, eps)) = self.optimizer.network.xp, self.done[k]
        self.dm = self.dm - rate * dtheta / (root + eps)
        safe = xp.where(root > 0, root, xp.ones_like(root))
        self.dv = self.dv + xp.where(root > 0, rate * dtheta * m / (2 * safe * (root + eps) ** 2), 0 * root)
        dg = self.dm + 2 * g * self.dv
        self.dm, self.dv = b1 * self.dm, b2 * self.dv
        return dg
