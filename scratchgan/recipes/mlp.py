"""`mlp`: the simple MNIST GAN, two fully connected networks of three layers.

Source: the tutorial "build a simple GAN from scratch"; sizes and rates are its own.
"""

from scratchgan.gan import Game, NonSaturating
from scratchgan.layers import LeakyReLU, Linear, Sequential, Tanh
from scratchgan.optimizers import Adam
from scratchgan.recipes.recipe import Recipe

IMAGE_SHAPE = (1, 28, 28)
PIXELS = 784


def generator(z_dim):
    return Sequential(
        Linear(z_dim, 256), LeakyReLU(0.1),
        Linear(256, 512), LeakyReLU(0.1),
        Linear(512, PIXELS), Tanh())


def discriminator():
    """Ends before the tutorial's Sigmoid: it returns the logit."""
    return Sequential(
        Linear(PIXELS, 256), LeakyReLU(0.1),
        Linear(256, 128), LeakyReLU(0.1),
        Linear(128, 1))


def make(seed, device, z_dim, lr_g, lr_d, beta1, beta2):
    G = generator(z_dim).initialize(seed, "generator").to(device)
    D = discriminator().initialize(seed, "discriminator").to(device)
    return Game(G, D, NonSaturating(scale_d=0.5),
                Adam(G, lr_g, (beta1, beta2)), Adam(D, lr_d, (beta1, beta2)),
                z_dim=z_dim, image_shape=IMAGE_SHAPE, seed=seed)


RECIPE = Recipe(
    name="mlp",
    summary="fully connected GAN, 28x28 grey",
    source='the tutorial "build a simple GAN from scratch"',
    make=make,
    settings={"z_dim": 64, "lr_g": 3e-4, "lr_d": 3e-4, "beta1": 0.9, "beta2": 0.999},
    batch_size=64,
    epochs=101,
)
