"""`dcgan64` and `dcgan28`: DCGAN, a generator and a discriminator of convolutions with batch normalisation.

Source: Radford, Metz and Chintala 2016, "Unsupervised representation learning with deep convolutional generative
adversarial networks", in the version of PyTorch's examples: sizes, rates, initial weights and the order of a step.
`dcgan28` follows the same rules at MNIST's 28x28: two steps of size instead of four, from 7x7. `lsgan` has its networks
and another objective.

D sees real and fake in separate batches, so that batch normalisation takes its statistics over one kind; with the
setting joint_batch=True over both together (`Game` explains the difference).
Samples are made with the running statistics, each independent of the others; PyTorch's example makes its grid with
those of the grid's own batch.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise

from scratchgan import initializers
from scratchgan.gan import Latent, assemble
from scratchgan.layers import BatchNorm2d, Conv2d, ConvTranspose2d, LeakyReLU, ReLU, Sequential, Tanh
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import adam, adam_settings
from scratchgan.settings import FLAG, Setting, number, whole

START = initializers.normal(0.02)  # every weight of a convolution


def convolution(n_in, n_out, kernel=4, stride=2, padding=1):
    return Conv2d(n_in, n_out, kernel, stride, padding, bias=False, weight_init=START)


def transposed(n_in, n_out, kernel=4, stride=2, padding=1):
    return ConvTranspose2d(n_in, n_out, kernel, stride, padding, bias=False, weight_init=START)


def normalised(features):
    return BatchNorm2d(features, weight_init=initializers.normal(0.02, 1.0), bias_init=initializers.zeros)


def generator(widths, first, z_dim, channels):
    """From z as (z_dim, 1, 1) to first x first, then twice as large with each further width and the image."""
    layers = [transposed(z_dim, widths[0], first, 1, 0), normalised(widths[0]), ReLU()]
    for n_in, n_out in pairwise(widths):
        layers += [transposed(n_in, n_out), normalised(n_out), ReLU()]
    return Sequential(*layers, transposed(widths[-1], channels), Tanh())


def discriminator(widths, last, channels, negative_slope, normalise=True):
    """Half as large with each width; last x last becomes the score. Ends before the source's Sigmoid."""
    layers = [convolution(channels, widths[0]), LeakyReLU(negative_slope)]
    for n_in, n_out in pairwise(widths):
        layers += [convolution(n_in, n_out), *([normalised(n_out)] if normalise else []), LeakyReLU(negative_slope)]
    return Sequential(*layers, convolution(widths[-1], 1, last, 1, 0))


def make(settings, facts, smallest, multiples, normalised_d=True):
    """The game for square images; `multiples` of ndf and ngf are the widths, fewest first."""
    channels, z_dim = facts.shape[0], settings.z_dim
    G = generator([settings.ngf * m for m in reversed(multiples)], smallest, z_dim, channels)
    seen = assemble.seen_shape(settings, facts.shape)
    D = discriminator([settings.ndf * m for m in multiples], smallest, seen[0], settings.negative_slope,
                      normalised_d)
    joint_batch = settings.joint_batch if normalised_d else None
    return assemble.game(G, D, *adam(G, D, settings), settings, latent=Latent(z_dim, z_shape=(z_dim, 1, 1)),
                         sample_shape=facts.shape, joint_batch=joint_batch)


NETWORKS = (
    Setting("z_dim", 100, "numbers in a noise vector", whole(1)),
    Setting("ngf", 64, "the generator's width at its largest images", whole(1)),
    Setting("ndf", 64, "the discriminator's width at its largest images", whole(1)),
    Setting("negative_slope", 0.2, "slope of the discriminator's LeakyReLU below 0", number()))
JOINT = Setting("joint_batch", False, "batch normalisation over real and fake images together in D's step", FLAG)
SETTINGS = (*NETWORKS, JOINT, *adam_settings(lr=2e-4, beta1=0.5), *assemble.SETTINGS)
SMALL = {"z_dim": 4, "ngf": 2, "ndf": 2}

# The minima make a run on few images minutes long: on two cores a step of dcgan28 takes a tenth of a second, one of
# dcgan64 a second.
RECIPE28 = Recipe(
    name="dcgan28",
    summary="convolutional GAN, 28x28 grey or colour",
    source="DCGAN (Radford et al. 2016; PyTorch's examples) at MNIST's size",
    make=partial(make, smallest=7, multiples=(1, 2)),
    settings=SETTINGS,
    small=SMALL,
    batch_size=64,
    epochs=25,  # as dcgan64
    min_steps=2500,
    channels=(1, 3),
)

RECIPE64 = Recipe(
    name="dcgan64",
    summary="convolutional GAN, 64x64 colour or grey",
    source="DCGAN (Radford et al. 2016) as in PyTorch's examples",
    make=partial(make, smallest=4, multiples=(1, 2, 4, 8)),
    settings=SETTINGS,
    small=SMALL,
    batch_size=64,
    epochs=25,
    min_steps=1000,
    facts={"shape": (3, 64, 64)},
    channels=(1, 3),
)

LSGAN = replace(
    RECIPE28,
    name="lsgan",
    summary="least-squares GAN, of convolutions, 28x28 grey or colour",
    source="Mao et al. 2017, with dcgan28's networks and rates",
    settings=(*NETWORKS, JOINT, *adam_settings(lr=2e-4, beta1=0.5), *assemble.settings(objective="least-squares")),
    epochs=50,
)

RECIPES = (RECIPE28, RECIPE64, LSGAN)
