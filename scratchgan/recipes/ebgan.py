"""`ebgan`: the discriminator is an autoencoder, and what it says of an image is how badly it reconstructs it.

Source: Zhao, Mathieu and LeCun 2017, "Energy-based generative adversarial networks", with the pull-away term; networks
as commonly published for MNIST. The codes that the term pulls apart are those before batch normalisation and ReLU: a
code of zeros has no direction.
"""

from scratchgan.gan import Latent, assemble
from scratchgan.layers import (
    AutoencoderEnergy,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Tanh,
    Unflatten,
    Upsample,
)
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import adam, adam_settings
from scratchgan.settings import Setting, number, whole


def twice_as_large(n_in, n_out):
    return Upsample(scale_factor=2), Conv2d(n_in, n_out, 3, padding=1)


def generator(z_dim, width, channels, negative_slope):
    """7x7, 14x14, 28x28."""
    wide = 2 * width
    return Sequential(Linear(z_dim, wide * 7 * 7), Unflatten(1, (wide, 7, 7)), BatchNorm2d(wide),
                      *twice_as_large(wide, wide), BatchNorm2d(wide), LeakyReLU(negative_slope),
                      *twice_as_large(wide, width), BatchNorm2d(width), LeakyReLU(negative_slope),
                      Conv2d(width, channels, 3, padding=1), Tanh())


def discriminator(width, codes, channels):
    small = width * 14 * 14
    return AutoencoderEnergy(
        encoder=Sequential(Conv2d(channels, width, 3, 2, 1), ReLU(), Flatten(), Linear(small, codes)),
        decoder=Sequential(BatchNorm1d(codes), ReLU(), Linear(codes, small), BatchNorm1d(small), ReLU(),
                           Unflatten(1, (width, 14, 14)), *twice_as_large(width, channels)))


def make(settings, facts):
    G = generator(settings.z_dim, settings.ngf, facts.shape[0], settings.negative_slope)
    D = discriminator(settings.ndf, settings.codes, assemble.seen_shape(settings, facts.shape)[0])
    return assemble.game(G, D, *adam(G, D, settings), settings, latent=Latent(settings.z_dim),
                         sample_shape=facts.shape)


RECIPES = (Recipe(
    name="ebgan",
    summary="energy-based GAN, 28x28 grey or colour",
    source="Zhao et al. 2017; networks as commonly published for MNIST",
    make=make,
    settings=(
        Setting("z_dim", 62, "numbers in a noise vector", whole(1)),
        Setting("ngf", 64, "the generator's width at its largest images", whole(1)),
        Setting("ndf", 64, "the discriminator's width", whole(1)),
        Setting("codes", 32, "numbers in a code of the discriminator", whole(1)),
        Setting("negative_slope", 0.2, "slope of the generator's LeakyReLU below 0", number()),
        *adam_settings(lr=2e-4, beta1=0.5),
        *assemble.settings(objective="energy-margin", pull_away=0.1)),
    small={"z_dim": 4, "ngf": 2, "ndf": 2, "codes": 3},
    batch_size=64,
    epochs=50,
    min_steps=1000,  # a step takes about a second on a core
    channels=(1, 3),
),)
