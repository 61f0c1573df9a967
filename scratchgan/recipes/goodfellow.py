"""`goodfellow`: the first GAN, on MNIST, as released with the paper.

Source: Goodfellow et al. 2014, "Generative adversarial nets": sizes, initial weights, rates and the order of a step of
its released code. Images are in [0, 1]. Both gradients come from one state, through one batch of fakes and one mask of
dropout, and both players step together: v = momentum v - lr g;  theta += v, with

    lr        0.1 / 1.000004^(steps), at least 1e-6
    momentum  0.5 + 0.2 (e - 1) / 249 in epoch e, from 1, of 500 batches of 100; 0.7 from epoch 250 on

The generator's last bias makes its first samples the mean image of the data. Of MNIST it learns the first 50,000
training images; the other 10,000 are for validation (`load_mnist("validation10k")`).

Nothing stops the released training, and no record tells the epoch of the published figure: the 50 epochs here are ours,
the rates are made for hundreds (`--epochs`). Its options: `--scale-gradient 0.1`, noise on all that D sees
(`--instance-noise`), k steps of D for each of G (`--n-critic`): then the players take turns.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import prod

import numpy as np

from scratchgan import initializers, schedules
from scratchgan.errors import UserError
from scratchgan.gan import Latent, assemble
from scratchgan.layers import Dropout, Linear, Maxout, ReLU, Sequential, Sigmoid
from scratchgan.optimizers import Momentum
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import RATE
from scratchgan.settings import Setting, number, whole, wholes


def started(layer, bound, bias_init=initializers.zeros):
    """The layer (a class), its weights to start from U(-bound, bound)."""
    return partial(layer, weight_init=initializers.uniform(-bound, bound), bias_init=bias_init)


def generator(z_dim, widths, outputs, bound, last_bias):
    layers = []
    for n_in, n_out in pairwise((z_dim, *widths)):
        layers += [started(Linear, bound)(n_in, n_out), ReLU()]
    return Sequential(*layers, started(Linear, bound, last_bias)(widths[-1], outputs), Sigmoid())


def discriminator(inputs, widths, pieces, bound, dropout_input, dropout):
    """Dropout on the input of each layer. Ends before the source's Sigmoid."""
    layers, p = [], dropout_input
    for n_in, n_out in pairwise((inputs, *widths)):
        layers += [Dropout(p), started(Maxout, bound)(n_in, n_out, pieces)]
        p = dropout
    return Sequential(*layers, Dropout(p), started(Linear, bound)(widths[-1], 1))


def bias_of(facts):
    """The logit of each pixel's mean, clipped to [1e-7, 1 - 1e-7]; 0 where the means are not known."""
    if facts.pixel_means is None:
        return initializers.zeros
    try:
        means = np.array(facts.pixel_means, np.float64)
    except (TypeError, ValueError):  # no numbers, or rows of several lengths
        means = np.array(np.nan)
    if means.shape != tuple(facts.shape) or not ((means >= 0) & (means <= 1)).all():
        raise UserError(f"Recipe goodfellow: the fact pixel_means must be numbers from 0 to 1 in the shape "
                        f"{tuple(facts.shape)} of an example, as Source.facts has them.")
    return initializers.marginal_logit(means[None], eps=1e-7)


def momentum(network, chosen, rate, every=1):
    """The player's optimizer, which takes a step in `every` steps of the run."""
    return Momentum(network, schedules.exponential_decay(rate, chosen.lr_decay**every, min(chosen.lr_min, rate)),
                    schedules.staircase(chosen.momentum, chosen.momentum_final, chosen.momentum_epochs - 1,
                                        chosen.steps_per_epoch / every))


def make(settings, facts):
    G = generator(settings.z_dim, settings.widths_g, prod(facts.shape), settings.bound_g, bias_of(facts))
    D = discriminator(prod(assemble.seen_shape(settings, facts.shape)), settings.widths_d, settings.pieces,
                      settings.bound_d, settings.dropout_input, settings.dropout)
    if settings.n_critic > 1:
        settings.simultaneous = False  # the released code alternates then
    game = assemble.game(G, D, momentum(G, settings, settings.lr_g, settings.n_critic),
                         momentum(D, settings, settings.lr_d), settings, scale_d=0.5,
                         latent=Latent(settings.z_dim, "uniform"), sample_shape=facts.shape, value_range=(0, 1))
    game.settling = 500  # steps in which all samples may be the mean image that they begin with
    return game


MOMENTUM = number(0, 1, below=True)
BOUND = number(0, above=True)

RECIPES = (Recipe(
    name="goodfellow",
    summary="the first GAN: maxout, dropout, simultaneous steps; 28x28 grey",
    source="Goodfellow et al. 2014, as released with the paper",
    make=make,
    settings=(
        Setting("z_dim", 100, "numbers in a noise vector", whole(1)),
        Setting("widths_g", (1200, 1200), "widths of the generator's hidden layers", wholes()),
        Setting("widths_d", (240, 240), "widths of the discriminator's hidden layers", wholes()),
        Setting("pieces", 5, "linear pieces of each maxout unit", whole(1)),
        Setting("bound_g", 0.05, "the generator's weights start from U(-bound, bound)", BOUND),
        Setting("bound_d", 0.005, "the discriminator's weights start from U(-bound, bound)", BOUND),
        Setting("dropout_input", 0.2, "share of the pixels that the discriminator does not see", number(0, 1)),
        Setting("dropout", 0.5, "share of its hidden values that is dropped", number(0, 1)),
        Setting("lr_g", 0.1, "learning rate of the generator", RATE, shared="lr"),
        Setting("lr_d", 0.1, "learning rate of the discriminator", RATE, shared="lr"),
        Setting("lr_decay", 1.000004, "the rates are divided by this after every step", number(1)),
        Setting("lr_min", 1e-6, "they fall no lower", number(0)),
        Setting("momentum", 0.5, "of both players, in the first epoch", MOMENTUM),
        Setting("momentum_final", 0.7, "of both players, in the end", MOMENTUM),
        Setting("momentum_epochs", 250, "the epoch from which on it is that", whole(2)),
        Setting("steps_per_epoch", 500, "steps that make an epoch of the momentum's, whatever the data", whole(1)),
        replace(schedules.SCHEDULE, help="how a penalty's gamma goes from its first value to its last"),
        schedules.DECAY_STEPS,
        *[replace(each, help=f"{each.help}; only if n_critic is 1") if each.name == "simultaneous" else each
          for each in assemble.settings(simultaneous=True)]),
    batch_size=100,
    epochs=50,
    facts={"shape": (1, 28, 28), "pixel_means": None},
    value_range=(0, 1),
    split="train50k",
    small={"z_dim": 4, "widths_g": (6, 5), "widths_d": (5, 4), "pieces": 2, "bound_g": 0.5, "bound_d": 0.5},
),)
