"""`cgan`: a conditional GAN. Both networks are told the digit, so that `scratchgan sample --label 7` draws sevens.

Source: Mirza and Osindero 2014, "Conditional generative adversarial nets"; networks as commonly published for MNIST,
each with a vector of its own for every label, learned.
"""

from itertools import pairwise
from math import prod

from scratchgan.errors import UserError
from scratchgan.gan import Latent, assemble
from scratchgan.layers import Concat, Dropout, Embedding, LeakyReLU, Linear, Sequential
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import adam, adam_settings
from scratchgan.recipes.wasserstein import generator
from scratchgan.settings import Setting, number, whole, wholes


def discriminator(classes, label_dim, inputs, widths, dropout, negative_slope):
    """Dropout in all hidden layers but the first."""
    layers = [Concat(None, Embedding(classes, label_dim)), Linear(inputs + label_dim, widths[0]),
              LeakyReLU(negative_slope)]
    for n_in, n_out in pairwise(widths):
        layers += [Linear(n_in, n_out), Dropout(dropout), LeakyReLU(negative_slope)]
    return Sequential(*layers, Linear(widths[-1], 1))


def make(settings, facts):
    if facts.classes < 2:
        raise UserError("Recipe cgan needs examples with labels of two classes or more: give it MNIST, or images in a "
                        "sub-folder for each class.")
    slope, labels = settings.negative_slope, settings.label_dim
    G = Sequential(Concat(None, Embedding(facts.classes, labels)),
                   *generator(settings.z_dim + labels, settings.widths_g, prod(facts.shape), slope))
    D = discriminator(facts.classes, labels, prod(assemble.seen_shape(settings, facts.shape)), settings.widths_d,
                      settings.dropout, slope)
    return assemble.game(G, D, *adam(G, D, settings), settings, latent=Latent(settings.z_dim),
                         sample_shape=facts.shape, classes=facts.classes)


RECIPES = (Recipe(
    name="cgan",
    summary="conditional GAN, 28x28 grey: a digit of one's choice",
    source="Mirza and Osindero 2014; networks as commonly published for MNIST",
    make=make,
    settings=(
        Setting("z_dim", 100, "numbers in a noise vector", whole(1)),
        Setting("label_dim", 10, "numbers in the vector of a label", whole(1)),
        Setting("widths_g", (128, 256, 512, 1024), "widths of the generator's hidden layers", wholes()),
        Setting("widths_d", (512, 512, 512), "widths of the discriminator's hidden layers", wholes()),
        Setting("dropout", 0.4, "share of the discriminator's values that is dropped", number(0, 1)),
        Setting("negative_slope", 0.2, "slope of LeakyReLU below 0", number()),
        *adam_settings(lr=2e-4, beta1=0.5),
        *assemble.SETTINGS),
    facts={"shape": (1, 28, 28), "classes": 10},
    small={"z_dim": 4, "label_dim": 2, "widths_g": (6, 5), "widths_d": (6, 5)},
    batch_size=64,
    epochs=50,
),)
