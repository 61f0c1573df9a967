"""`progressive`: a GAN that learns images of 7x7 first, then 14x14, then 28x28, with networks that grow.

Source: Karras, Aila, Laine and Lehtinen 2018, "Progressive growing of GANs for improved quality, stability, and
variation", scaled down to MNIST: its stages, how they fade in, the optimizers' reset, the loss with a gradient penalty
and a drift term, the rates. Weights start as He et al. 2015 have them, biases from 0. Left out are the paper's rates
equalised at run time, pixelwise normalisation and minibatch standard deviation; its average of G is the setting `ema`.
"""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

from scratchgan import initializers
from scratchgan.errors import UserError
from scratchgan.gan import Latent, assemble
from scratchgan.gan.growing import GrowingDiscriminator, GrowingGame, GrowingGenerator, Growth
from scratchgan.layers import AvgPool2d, Conv2d, Flatten, LeakyReLU, Linear, Reshape, Sequential, Upsample
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import adam, adam_settings
from scratchgan.settings import Setting, whole, wholes

SLOPE = 0.2
HIDDEN = {"weight_init": initializers.kaiming_normal(SLOPE), "bias_init": initializers.zeros}
LAST = {"weight_init": initializers.kaiming_normal(1.0), "bias_init": initializers.zeros}  # no LeakyReLU follows


def convolution(n_in, n_out, kernel=3):
    return Conv2d(n_in, n_out, kernel, padding=kernel // 2, **HIDDEN), LeakyReLU(SLOPE)


def generator(widths, first, z_dim, channels, growth):
    """From z to first x first, then twice as large with each further width."""
    n = widths[0]
    blocks = [Sequential(Linear(z_dim, n * first * first, **HIDDEN), Reshape(n, first, first), LeakyReLU(SLOPE),
                         *convolution(n, n))]
    blocks += [Sequential(Upsample(scale_factor=2), *convolution(n_in, n_out), *convolution(n_out, n_out))
               for n_in, n_out in pairwise(widths)]
    return GrowingGenerator(blocks, [Conv2d(width, channels, 1, **LAST) for width in widths], growth)


def discriminator(widths, first, channels, growth):
    """The generator's mirror image: half as large after each width but the first, the last to be passed."""
    n = widths[0]
    blocks = [Sequential(*convolution(n, n), Flatten(), Linear(n * first * first, 1, **LAST))]
    blocks += [Sequential(*convolution(n_in, n_in), *convolution(n_in, n_out), AvgPool2d(2))
               for n_out, n_in in pairwise(widths)]
    return GrowingDiscriminator(blocks, [Sequential(*convolution(channels, width, 1)) for width in widths], growth)


def make(settings, facts):
    widths, (channels, size, _) = settings.widths, facts.shape
    first = size >> len(widths) - 1
    if first << len(widths) - 1 != size or not first:
        raise UserError(f"Recipe progressive: images of {size}x{size} cannot be halved {len(widths) - 1} times for "
                        f"the {len(widths)} widths: give fewer.")
    growth = Growth(len(widths), settings.decay_steps)
    G = generator(widths, first, settings.z_dim, channels, growth)
    D = discriminator(widths, first, assemble.seen_shape(settings, facts.shape)[0], growth)
    of_a_stage = SimpleNamespace(**{**vars(settings), "decay_steps": settings.decay_steps / len(widths)})
    return assemble.game(G, D, *adam(G, D, of_a_stage), settings, kind=GrowingGame, latent=Latent(settings.z_dim),
                         sample_shape=facts.shape)


# Where the source differs from what is usual.
CHANGES = {
    "schedule": {"help": "how rates and betas go in each stage, gamma over all, from their first value to their last"},
    "decay_steps": {"help": "steps of all stages together; 0: the steps that the run is first asked for",
                    "needs": ()},
    "objective": {"default": "wasserstein"},
    "gp": {"default": 10.0},
    "drift": {"default": 0.001},
}

RECIPES = (Recipe(
    name="progressive",
    summary="GAN that grows from 7x7 to 28x28, grey or colour",
    source="Karras et al. 2018, scaled down to MNIST",
    make=make,
    settings=(
        Setting("z_dim", 128, "numbers in a noise vector", whole(1)),
        Setting("widths", (64, 64, 32), "widths of the networks at each stage, the smallest images first", wholes()),
        *[replace(setting, **CHANGES.get(setting.name, {}))
          for setting in (*adam_settings(lr=1e-3, beta1=0.0, beta2=0.99), *assemble.SETTINGS)]),
    small={"z_dim": 4, "widths": (3, 2, 1), "drift": 1.0},  # without more drift D's last bias has a gradient near 0
    batch_size=64,
    epochs=50,
    min_steps=1000,  # a step at 28x28 takes about two seconds on a core
    grows=True,
    channels=(1, 3),
),)
