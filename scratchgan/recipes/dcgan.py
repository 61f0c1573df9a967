"""`dcgan64` and `dcgan28`: DCGAN, a generator and a discriminator of convolutions with batch normalisation.

Source: Radford, Metz and Chintala 2016, "Unsupervised representation learning with deep convolutional generative
adversarial networks", in the version of PyTorch's examples: sizes, rates, initial weights and the order of a step.
`dcgan28` follows the same rules at MNIST's 28x28: two steps of size instead of four, from 7x7.

D sees real and fake in separate batches, so that batch normalisation takes its statistics over one kind; with the
setting joint_batch=True over both together (`Game` explains the difference).
Samples are made with the running statistics, each independent of the others; PyTorch's example makes its grid with
those of the grid's own batch.
"""

from itertools import pairwise

from scratchgan import initializers
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import BatchNorm2d, Conv2d, ConvTranspose2d, LeakyReLU, ReLU, Sequential, Tanh
from scratchgan.optimizers import Adam
from scratchgan.recipes.recipe import Recipe

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


def discriminator(widths, last, channels, negative_slope):
    """Half as large with each width; last x last becomes the score. Ends before the source's Sigmoid."""
    layers = [convolution(channels, widths[0]), LeakyReLU(negative_slope)]
    for n_in, n_out in pairwise(widths):
        layers += [convolution(n_in, n_out), normalised(n_out), LeakyReLU(negative_slope)]
    return Sequential(*layers, convolution(widths[-1], 1, last, 1, 0))


def make(side, smallest, multiples, seed, device, channels, z_dim, ngf, ndf, lr_g, lr_d, beta1, beta2, eps,
         negative_slope, joint_batch):
    """The game for images side x side; `multiples` of ndf and ngf are the widths, fewest first."""
    G = generator([ngf * m for m in reversed(multiples)], smallest, z_dim, channels)
    D = discriminator([ndf * m for m in multiples], smallest, channels, negative_slope)
    G.initialize(seed, "generator").to(device)
    D.initialize(seed, "discriminator").to(device)
    return Game(G, D, NonSaturating(scale_d=1.0),
                Adam(G, lr_g, (beta1, beta2), eps), Adam(D, lr_d, (beta1, beta2), eps),
                latent=Latent(z_dim, z_shape=(z_dim, 1, 1)), sample_shape=(channels, side, side),
                joint_batch=joint_batch, seed=seed)


def make28(seed, device, **settings):
    return make(28, 7, (1, 2), seed, device, **settings)


def make64(seed, device, **settings):
    return make(64, 4, (1, 2, 4, 8), seed, device, **settings)


SETTINGS = {"channels": 1, "z_dim": 100, "ngf": 64, "ndf": 64, "lr_g": 2e-4, "lr_d": 2e-4, "beta1": 0.5, "beta2": 0.999,
            "eps": 1e-8, "negative_slope": 0.2, "joint_batch": False}
SMALL = {"z_dim": 4, "ngf": 2, "ndf": 2}

# The minima make a run on few images minutes long: on two cores a step of dcgan28 takes a tenth of a second, one of
# dcgan64 a second.
RECIPE28 = Recipe(
    name="dcgan28",
    summary="convolutional GAN, 28x28 grey or colour",
    source="DCGAN (Radford et al. 2016; PyTorch's examples) at MNIST's size",
    make=make28,
    settings=SETTINGS,
    small=SMALL,
    batch_size=64,
    epochs=25,  # as dcgan64
    min_steps=2500,
    image_size=28,
)

RECIPE64 = Recipe(
    name="dcgan64",
    summary="convolutional GAN, 64x64 colour or grey",
    source="DCGAN (Radford et al. 2016) as in PyTorch's examples",
    make=make64,
    settings={**SETTINGS, "channels": 3},
    small=SMALL,
    batch_size=64,
    epochs=25,
    min_steps=1000,
    image_size=64,
)
