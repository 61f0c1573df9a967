"""Settings that many recipes share."""

from scratchgan.optimizers import Adam
from scratchgan.settings import Setting, number

RATE = number(0, above=True)
BETA = number(0, 1)


def adam_settings(lr=None, beta1=0.9, beta2=0.999, eps=1e-8, *, lr_g=None, lr_d=None):
    """Of an `Adam` for each player; `--lr` sets both rates."""
    return (Setting("lr_g", lr_g or lr, "learning rate of the generator", RATE, shared="lr"),
            Setting("lr_d", lr_d or lr, "learning rate of the discriminator", RATE, shared="lr"),
            Setting("beta1", beta1, "Adam's memory of gradients", BETA),
            Setting("beta2", beta2, "Adam's memory of their squares", BETA),
            Setting("eps", eps, "Adam's term against division by zero", number(0)))


def adam(G, D, settings):
    """(of G, of D)"""
    betas = settings.beta1, settings.beta2
    return Adam(G, settings.lr_g, betas, settings.eps), Adam(D, settings.lr_d, betas, settings.eps)
