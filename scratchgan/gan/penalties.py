"""Further terms of D's loss."""

import numpy as np

from scratchgan import settings


class Penalty:
    """The base: a term P that is added to loss_d.

    `gradient(D, real, fake, labels)` is called after D's own passes, with the samples as D saw them. It adds dP/dtheta
    to D's `grad` and returns P, a 0-d array, analytic in theta, so that `gradcheck.check_game` checks it with loss_d.
    D's caches must stay those of its own passes: a penalty that needs passes makes them on `D.twin()`, whose `grad` it
    adds to D's.
    """

    SETTINGS = ()

    @classmethod
    def of(cls, chosen, network=None):
        """The part for these settings, a namespace with the names in SETTINGS; None where they ask for none."""
        return None

    def check(self, D):
        """`ValueError` for a discriminator that the penalty does not fit."""

    def gradient(self, D, real, fake, labels=None):
        raise NotImplementedError(f"{type(self).__name__} does not define gradient")


class WeightDecay(Penalty):
    """P = weight / 2 sum theta^2;  dP/dtheta = weight theta.  On all of D's parameters."""

    SETTINGS = (settings.Setting("weight_decay_d", 0.0, "weight / 2 of D's squared parameters is added to its loss",
                                 settings.number(0)),)

    @classmethod
    def of(cls, chosen, network=None):
        return cls(chosen.weight_decay_d) if chosen.weight_decay_d else None

    def __init__(self, weight):
        if not (weight >= 0 and np.isfinite(weight)):
            raise ValueError(f"WeightDecay: weight must be a finite number >= 0, not {weight}")
        self.weight = float(weight)

    def gradient(self, D, real, fake, labels=None):
        theta = D.theta
        grad = D.grad
        grad += theta.real.dtype.type(self.weight) * theta
        return self.weight / 2 * (theta * theta).sum()

    def __repr__(self):
        return f"WeightDecay({self.weight})"
