"""What goes with an update of a player: scaling its gradient, clipping its weights, a moving average of them."""

import copy
from types import MappingProxyType

import numpy as np

from scratchgan import kernels, ranks, recording, settings
from scratchgan.backend import array_module
from scratchgan.gan.part import Part


class Update(Part):
    """The base: `after(network, steps, since)` is called after each step of the player's optimizer, `before(network)`
    before it, `sees(dx)` before G's backward pass, `begin(network)` when its weights have been drawn anew.

    network  the player's network; its `grad` is what the optimizer will take, its `theta` what it has just changed
    dx       dL_G/dG(z), (N, ...)
    steps    D's steps done, the one that is being made included. Steps on CUDA are recorded once: what depends on this
             number comes from `recording.values`, as in `Ema`, or the game's `cycle` is None
    since    D's steps since this player's last update: 1, or n_critic for G

    `networks`: name -> network of the part's own, which belongs to the game's state and is saved with it.
    """

    kind = "updates"
    networks = MappingProxyType({})

    def begin(self, network):
        """The network's weights have been drawn, and moved to a device."""

    def sees(self, dx):
        """The gradient of G's loss on the samples that it has just made."""

    def before(self, network):
        """The network's gradient is there, its weights have not changed yet."""

    def after(self, network, steps, since):
        raise NotImplementedError(f"{type(self).__name__} does not define after")


class GradientScaling(Update):
    """grad <- grad max(1, target / |dL_G/dG(z)|), the L2 norm over the whole batch: small gradients are made larger.

    For the step alone: G's loss stays as it is, and so does the gradient of it that `gradcheck.check_game` checks.
    Goodfellow et al. 2014, in the released code ("scale_grads", with target 0.1).
    """

    SETTINGS = (settings.Setting("scale_gradient", 0.0, "G's gradient is multiplied by max(1, this / the norm of that "
                                 "on its samples); 0: by 1", settings.number(0)),)
    TINY = 1e-30  # in place of a norm of 0

    @classmethod
    def of(cls, chosen, network):
        return cls(chosen.scale_gradient) if chosen.scale_gradient else None

    def __init__(self, target):
        if not (target > 0 and np.isfinite(target)):
            raise ValueError(f"GradientScaling: target must be a finite number > 0, not {target}")
        self.target, self.factor = float(target), 1.0

    def sees(self, dx):
        xp, share = array_module(dx), ranks.share()
        norm = xp.sqrt(share.mean(share.weight * (dx * dx).sum()))  # of the batch's gradient a share is w dx
        self.factor = xp.maximum(1.0, self.target / xp.maximum(norm.real, self.TINY))

    def before(self, network):
        gradient = network.grad
        gradient *= self.factor

    def after(self, network, steps, since):
        """All is done before."""

    def __repr__(self):
        return f"GradientScaling({self.target})"


class Clip(Update):
    """theta <- max(-limit, min(limit, theta)): keeps a critic's slope bounded (Arjovsky et al. 2017, algorithm 1)."""

    SETTINGS = (settings.Setting("clip", 0.0, "D's parameters are kept in [-clip, clip]; 0: free", settings.number(0)),)

    @classmethod
    def of(cls, chosen, network):
        return cls(chosen.clip) if chosen.clip else None

    def __init__(self, limit):
        if not (limit > 0 and np.isfinite(limit)):
            raise ValueError(f"Clip: limit must be a finite number > 0, not {limit}")
        self.limit = float(limit)

    def after(self, network, steps, since):
        theta = network.theta
        array_module(theta).clip(theta, -self.limit, self.limit, out=theta)

    def __repr__(self):
        return f"Clip({self.limit})"


class Ema(Update):
    """average <- d average + (1 - d) theta,  d = 2^(-since / h),  h = min(half_life, `ramp` of the steps done).

    A moving average of G, with half-life h in D's steps; samples are made with it, as it jumps about less than G
    (Yazici et al. 2019; the ramp: Karras et al. 2020). It takes G's buffers, such as running means, as they are.
    """

    SETTINGS = (settings.Setting("ema", 0.0, "samples come from a moving average of G; its half-life is so many steps, "
                                 "but at most a twentieth of the steps done; 0: from G",
                                 settings.number(0)),)

    @classmethod
    def of(cls, chosen, network):
        return cls(network, chosen.ema) if chosen.ema else None

    def __init__(self, generator, half_life, ramp=0.05):
        if not (half_life > 0 and np.isfinite(half_life)):
            raise ValueError(f"Ema: half_life must be a finite number > 0, not {half_life}")
        self.average = copy.deepcopy(generator)
        self.networks = {"average": self.average}
        self.half_life, self.ramp = float(half_life), ramp

    def begin(self, network):
        self.average.theta[...] = network.theta
        self.take_buffers(network)

    def after(self, network, steps, since):
        def share(steps):
            return 1 - 2 ** (-since / min(self.half_life, self.ramp * steps)),
        average = self.average.theta
        kernels.of(average).moving_average(average, network.theta, *recording.values(share, steps, network.dtype))
        self.take_buffers(network)

    def take_buffers(self, network):
        for (_, mine), (_, its) in zip(self.average.named_layers(), network.named_layers(), strict=True):
            for name, value in its.buffers.items():
                mine.set_buffer(name, value)

    def __repr__(self):
        return f"Ema(half_life={self.half_life})"


@kernels.formula
def moving_average(average, theta, share):
    """average <- average + share (theta - average), in place, both 1-D."""
    average += share * (theta - average)
