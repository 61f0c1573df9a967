"""`mlp`: the simple MNIST GAN, two fully connected networks of three layers.

Source: the tutorial "build a simple GAN from scratch"; sizes and rates are its own.
"""

from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import LeakyReLU, Linear, Sequential, Tanh
from scratchgan.optimizers import Adam
from scratchgan.recipes.recipe import Recipe

IMAGE_SHAPE = (1, 28, 28)
PIXELS = 784


def generator(z_dim, negative_slope):
    return Sequential(
        Linear(z_dim, 256), LeakyReLU(negative_slope),
        Linear(256, 512), LeakyReLU(negative_slope),
        Linear(512, PIXELS), Tanh())


def discriminator(negative_slope):
    """Ends before the tutorial's Sigmoid: it returns the logit."""
    return Sequential(
        Linear(PIXELS, 256), LeakyReLU(negative_slope),
        Linear(256, 128), LeakyReLU(negative_slope),
        Linear(128, 1))


def make(seed, device, z_dim, lr_g, lr_d, beta1, beta2, eps, negative_slope):
    G = generator(z_dim, negative_slope).initialize(seed, "generator").to(device)
    D = discriminator(negative_slope).initialize(seed, "discriminator").to(device)
    return Game(G, D, NonSaturating(scale_d=0.5),
                Adam(G, lr_g, (beta1, beta2), eps), Adam(D, lr_d, (beta1, beta2), eps),
                latent=Latent(z_dim), sample_shape=IMAGE_SHAPE, seed=seed)


RECIPE = Recipe(
    name="mlp",
    summary="fully connected GAN, 28x28 grey",
    source='the tutorial "build a simple GAN from scratch"',
    make=make,
    settings={"z_dim": 64, "lr_g": 3e-4, "lr_d": 3e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
              "negative_slope": 0.1},
    batch_size=64,
    epochs=101,
)
