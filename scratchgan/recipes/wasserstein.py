"""`wgan` and `wgan-gp`, fully connected, and `wgan-gp28`, of convolutions: critics instead of discriminators.

Sources: Arjovsky, Chintala and Bottou 2017, "Wasserstein generative adversarial networks" (clipped weights, RMSprop,
five steps of the critic for each one of G); Gulrajani et al. 2017, "Improved training of Wasserstein GANs" (gradient
penalty, Adam). Networks and rates of the first two are those commonly published for MNIST.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import prod

from scratchgan.gan import Latent, assemble
from scratchgan.layers import BatchNorm1d, LeakyReLU, Linear, Sequential, Tanh
from scratchgan.recipes import dcgan
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import adam, adam_settings, perceptron, rmsprop, rmsprop_settings
from scratchgan.settings import Setting, number, whole, wholes


def generator(inputs, widths, outputs, negative_slope):
    """Layers: all hidden ones but the first are normalised."""
    layers = [Linear(inputs, widths[0]), LeakyReLU(negative_slope)]
    for n_in, n_out in pairwise(widths):
        layers += [Linear(n_in, n_out), BatchNorm1d(n_out), LeakyReLU(negative_slope)]
    return [*layers, Linear(widths[-1], outputs), Tanh()]


def make(settings, facts, optimizers):
    slope, seen = settings.negative_slope, assemble.seen_shape(settings, facts.shape)
    G = Sequential(*generator(settings.z_dim, settings.widths_g, prod(facts.shape), slope))
    D = Sequential(*perceptron((prod(seen), *settings.widths_d, 1), partial(LeakyReLU, slope)))
    return assemble.game(G, D, *optimizers(G, D, settings), settings, latent=Latent(settings.z_dim),
                         sample_shape=facts.shape)


NETWORKS = (
    Setting("z_dim", 100, "numbers in a noise vector", whole(1)),
    Setting("widths_g", (128, 256, 512, 1024), "widths of the generator's hidden layers", wholes()),
    Setting("widths_d", (512, 256), "widths of the critic's hidden layers", wholes()),
    Setting("negative_slope", 0.2, "slope of LeakyReLU below 0", number()))
SMALL = {"z_dim": 4, "widths_g": (6, 5), "widths_d": (6, 5)}

WGAN = Recipe(
    name="wgan", summary="Wasserstein GAN with clipped weights, 28x28 grey",
    source="Arjovsky et al. 2017; networks as commonly published for MNIST",
    make=partial(make, optimizers=rmsprop),
    settings=(*NETWORKS, *rmsprop_settings(lr=5e-5),
              *assemble.settings(objective="wasserstein", n_critic=5, clip=0.01)),
    small=SMALL, batch_size=64, epochs=200)

WGAN_GP = Recipe(
    name="wgan-gp", summary="Wasserstein GAN with gradient penalty, 28x28 grey",
    source="Gulrajani et al. 2017; networks as commonly published for MNIST",
    make=partial(make, optimizers=adam),
    settings=(*NETWORKS, *adam_settings(lr=2e-4, beta1=0.5),
              *assemble.settings(objective="wasserstein", n_critic=5, gp=10.0)),
    small=SMALL, batch_size=64, epochs=200)

WGAN_GP28 = replace(
    dcgan.RECIPE28,
    name="wgan-gp28", summary="Wasserstein GAN with gradient penalty, of convolutions, 28x28 grey or colour",
    source="Gulrajani et al. 2017, with dcgan28's networks, D's without batch normalisation",
    make=partial(dcgan.make, smallest=7, multiples=(1, 2), normalised_d=False),
    settings=(*dcgan.NETWORKS, *adam_settings(lr=1e-4, beta1=0.0, beta2=0.9),
              *assemble.settings(objective="wasserstein", n_critic=5, gp=10.0)),
    epochs=50)

RECIPES = (WGAN, WGAN_GP, WGAN_GP28)
