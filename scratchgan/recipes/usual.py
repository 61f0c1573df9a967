"""What many recipes share: settings, the optimizers that they ask for, fully connected layers."""

from dataclasses import replace
from itertools import pairwise

from scratchgan.layers import Linear
from scratchgan.optimizers import Adam, RMSprop
from scratchgan.schedules import DECAY_STEPS, SCHEDULE, over
from scratchgan.settings import Setting, number

RATE = number(0, above=True)
BETA = number(0, 1, below=True)


def rate_settings(lr, schedule="constant", lr_final=1.0):
    """Of the rates: `--lr` sets both. lr: the rate of both players, or (of G, of D)."""
    lr_g, lr_d = lr if isinstance(lr, tuple) else (lr, lr)
    return (Setting("lr_g", lr_g, "learning rate of the generator", RATE, shared="lr"),
            Setting("lr_d", lr_d, "learning rate of the discriminator", RATE, shared="lr"),
            Setting("lr_final", lr_final, "share of the rates that is left where the schedule ends", number(0),
                    needs=("schedule",), idle=1),
            replace(SCHEDULE, default=schedule), replace(DECAY_STEPS, needs=("schedule",)))


def adam_settings(lr, beta1, beta2=0.999, eps=1e-8, schedule="constant", lr_final=1.0, beta2_final=0.0):
    """Of an `Adam` for each player."""
    return (*rate_settings(lr, schedule, lr_final),
            Setting("beta1", beta1, "Adam's memory of gradients", BETA),
            Setting("beta2", beta2, "Adam's memory of their squares", BETA),
            Setting("beta2_final", beta2_final, "beta2 where the schedule ends; 0: as it was", BETA,
                    needs=("schedule",), idle=0),
            Setting("eps", eps, "Adam's term against division by zero", number(0)))


def adam(G, D, chosen):
    """(of G, of D)"""
    def of(network, rate, every=1):
        beta2 = over(chosen, chosen.beta2, chosen.beta2_final or chosen.beta2, every)
        return Adam(network, decayed(chosen, rate, every), (chosen.beta1, beta2), chosen.eps)
    return of(G, chosen.lr_g, chosen.n_critic), of(D, chosen.lr_d)


def rmsprop_settings(lr, alpha=0.99, eps=1e-8, schedule="constant", lr_final=1.0):
    """Of an `RMSprop` for each player."""
    return (*rate_settings(lr, schedule, lr_final),
            Setting("alpha", alpha, "RMSprop's memory of squared gradients", BETA),
            Setting("eps", eps, "RMSprop's term against division by zero", number(0)))


def rmsprop(G, D, chosen):
    """(of G, of D)"""
    def of(network, rate, every=1):
        return RMSprop(network, decayed(chosen, rate, every), chosen.alpha, chosen.eps)
    return of(G, chosen.lr_g, chosen.n_critic), of(D, chosen.lr_d)


def decayed(chosen, rate, every):
    """The schedule of a rate; a player's optimizer takes a step in `every` steps of the run."""
    return over(chosen, rate, rate * chosen.lr_final, every)


def perceptron(sizes, activation):
    """Linear layers from one size to the next, an activation between them: a list."""
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [Linear(n_in, n_out), activation()]
    return layers[:-1]
