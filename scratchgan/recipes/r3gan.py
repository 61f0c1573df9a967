"""`r3gan28` and `stacked`: pairs of real and fake, and a zero-centred gradient penalty on both, without normalisation.

Source: Huang et al. 2024, "The GAN is dead; long live the GAN! A modern GAN baseline" (arXiv 2501.05441), as released:
the relativistic loss with R1 and R2, rates, beta2 and gamma along a cosine, a moving average of G, no tanh at its end.
Networks at MNIST's size are small ones of this package's own. Every layer of D is piecewise linear, so that both
penalties come with the loss: see `scratchgan.gan.penalties.ZeroCentred`.
"""

from scratchgan import initializers
from scratchgan.gan import Latent, assemble
from scratchgan.layers import Conv2d, ConvTranspose2d, Flatten, LeakyReLU, Linear, Sequential, Unflatten
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import adam, adam_settings
from scratchgan.settings import Setting, whole

SLOPE = 0.2
START = {"weight_init": initializers.kaiming_normal(SLOPE), "bias_init": initializers.zeros}


def generator(z_dim, width, channels):
    """7x7, 14x14, 28x28."""
    return Sequential(Linear(z_dim, 2 * width * 7 * 7, **START), Unflatten(1, (2 * width, 7, 7)), LeakyReLU(SLOPE),
                      ConvTranspose2d(2 * width, width, 4, 2, 1, **START), LeakyReLU(SLOPE),
                      ConvTranspose2d(width, channels, 4, 2, 1, **START))


def discriminator(width, channels):
    return Sequential(Conv2d(channels, width, 4, 2, 1, **START), LeakyReLU(SLOPE),
                      Conv2d(width, 2 * width, 4, 2, 1, **START), LeakyReLU(SLOPE),
                      Flatten(), Linear(2 * width * 7 * 7, 1, **START))


def make(settings, facts):
    G = generator(settings.z_dim, settings.width, facts.shape[0])
    D = discriminator(settings.width, assemble.seen_shape(settings, facts.shape)[0])
    return assemble.game(G, D, *adam(G, D, settings), settings, latent=Latent(settings.z_dim),
                         sample_shape=facts.shape)


SETTINGS = (
    Setting("z_dim", 64, "numbers in a noise vector", whole(1)),
    Setting("width", 32, "of both networks at 14x14; twice as wide at 7x7", whole(1)),
    *adam_settings(lr=1e-3, beta1=0.0, beta2=0.9, schedule="cosine", lr_final=0.05, beta2_final=0.99),
    *assemble.settings(objective="relativistic", r1=1.0, r2=1.0, gamma_final=0.1, ema=500.0))
SMALL = {"z_dim": 4, "width": 2}
SOURCE = "Huang et al. 2024"

RECIPES = (
    Recipe(name="r3gan28", summary="relativistic GAN with R1 and R2, 28x28 grey or colour", source=SOURCE, make=make,
           settings=SETTINGS, small=SMALL, batch_size=64, steps=20_000, channels=(1, 3)),
    Recipe(name="stacked", summary="the same on stacked MNIST: 1,000 modes, a digit a channel", source=SOURCE,
           make=make, settings=SETTINGS, small=SMALL, batch_size=64, steps=20_000, channels=(3,), data="stacked",
           facts={"shape": (3, 28, 28)}),
)
