"""`ring8`, `grid25` and `spiral`: points in the plane, on which mode collapse shows within seconds.

The sets are those of Metz et al. 2017 ("Unrolled GAN": the ring) and Lin et al. 2018 ("PacGAN": ring and grid); the
networks and rates are this package's own, small ones. With the plain loss it is a matter of the seed whether the modes
are found. The spiral is for looking.
"""

from functools import partial
from math import prod

from scratchgan.gan import Latent, PointGame, assemble
from scratchgan.layers import LeakyReLU, ReLU, Sequential
from scratchgan.metrics.modes import MIXTURES
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import adam, adam_settings, perceptron
from scratchgan.settings import Setting, number, whole, wholes


def make(settings, facts):
    seen = prod(assemble.seen_shape(settings, facts.shape))
    G = Sequential(*perceptron((settings.z_dim, *settings.widths_g, *facts.shape), ReLU))
    D = Sequential(*perceptron((seen, *settings.widths_d, 1), partial(LeakyReLU, settings.negative_slope)))
    return assemble.game(G, D, *adam(G, D, settings), settings, kind=PointGame, latent=Latent(settings.z_dim),
                         modes=facts.modes, scale=settings.scale)


def recipe(name, summary, source, widths, scale, batch_size, steps):
    return Recipe(
        name=name, summary=summary, source=source, make=make,
        settings=(
            Setting("z_dim", 2, "numbers in a noise vector", whole(1)),
            Setting("widths_g", widths, "widths of the generator's hidden layers", wholes()),
            Setting("widths_d", widths, "widths of the discriminator's hidden layers", wholes()),
            Setting("negative_slope", 0.2, "slope of the discriminator's LeakyReLU below 0", number()),
            Setting("scale", scale, "the networks see coordinates divided by this", number(0, above=True)),
            *adam_settings(lr=(3e-3, 1e-3), beta1=0.5, schedule="cosine", lr_final=0.02),
            *assemble.SETTINGS),
        facts={"shape": (2,), "modes": MIXTURES.get(name)}, channels=(), value_range=None, data=name,
        small={"widths_g": (8, 8), "widths_d": (8, 8)}, batch_size=batch_size, steps=steps)


RECIPES = (
    recipe("ring8", "8 Gaussians on a ring, points", "Metz et al. 2017; Lin et al. 2018", (64, 64), 1.0, 64, 10_000),
    recipe("grid25", "25 Gaussians on a grid, points", "Lin et al. 2018", (64, 64, 64), 4.0, 128, 20_000),
    recipe("spiral", "a spiral, points", "a usual toy set", (64, 64, 64), 4.0, 128, 20_000),
)
