"""`mlp`: the simple MNIST GAN, two fully connected networks of three layers.

Source: the tutorial "build a simple GAN from scratch"; sizes and rates are its own.
"""

from functools import partial
from math import prod

from scratchgan.gan import Latent, assemble
from scratchgan.layers import LeakyReLU, Sequential, Tanh
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import adam, adam_settings, perceptron
from scratchgan.settings import Setting, number, whole, wholes


def make(settings, facts):
    activation, seen = partial(LeakyReLU, settings.negative_slope), assemble.seen_shape(settings, facts.shape)
    G = Sequential(*perceptron((settings.z_dim, *settings.widths_g, prod(facts.shape)), activation), Tanh())
    D = Sequential(*perceptron((prod(seen), *settings.widths_d, 1), activation))  # ends before the tutorial's Sigmoid
    return assemble.game(G, D, *adam(G, D, settings), settings, scale_d=0.5,
                         latent=Latent(settings.z_dim), sample_shape=facts.shape)


RECIPES = (Recipe(
    name="mlp",
    summary="fully connected GAN, 28x28 grey",
    source='the tutorial "build a simple GAN from scratch"',
    make=make,
    settings=(
        Setting("z_dim", 64, "numbers in a noise vector", whole(1)),
        Setting("widths_g", (256, 512), "widths of the generator's hidden layers", wholes()),
        Setting("widths_d", (256, 128), "widths of the discriminator's hidden layers", wholes()),
        Setting("negative_slope", 0.1, "slope of LeakyReLU below 0", number()),
        *adam_settings(lr=3e-4, beta1=0.9),
        *assemble.SETTINGS),
    batch_size=64,
    epochs=101,
),)
