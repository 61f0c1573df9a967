"""`vae`: the variational autoencoder of MNIST, to be compared with the GANs on the same data.

Source: Kingma and Welling 2014, "Auto-encoding variational Bayes", in the version of PyTorch's examples: sizes, ReLU
(the paper: tanh) and rate. One Linear gives mean and log-variance, which is two side by side; the decoder ends before
their Sigmoid.
"""

from math import prod

from scratchgan.gan import Latent
from scratchgan.layers import Flatten, ReLU, Sequential, Unflatten
from scratchgan.optimizers import Adam
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import BETA, RATE, perceptron
from scratchgan.settings import Setting, number, whole, wholes
from scratchgan.systems import VAE


def make(settings, facts):
    pixels, z_dim, widths = prod(facts.shape), settings.z_dim, settings.widths
    encoder = Sequential(Flatten(), *perceptron((pixels, *widths, 2 * z_dim), ReLU))
    decoder = Sequential(*perceptron((z_dim, *reversed(widths), pixels), ReLU), Unflatten(1, facts.shape))
    adams = [Adam(network, settings.lr, (settings.beta1, settings.beta2), settings.eps)
             for network in (encoder, decoder)]
    return VAE(encoder, decoder, *adams, latent=Latent(z_dim), sample_shape=facts.shape)


RECIPES = (Recipe(
    name="vae",
    summary="variational autoencoder, 28x28 grey or colour",
    source="Kingma and Welling 2014, as in PyTorch's examples",
    make=make,
    settings=(
        Setting("z_dim", 20, "numbers in a noise vector", whole(1)),
        Setting("widths", (400,), "widths of the encoder's hidden layers, in reverse of the decoder's", wholes()),
        Setting("lr", 1e-3, "learning rate", RATE),
        Setting("beta1", 0.9, "Adam's memory of gradients", BETA),
        Setting("beta2", 0.999, "Adam's memory of their squares", BETA),
        Setting("eps", 1e-8, "Adam's term against division by zero", number(0))),
    batch_size=128,
    epochs=20,
    min_steps=5000,  # a minute on one core
    channels=(1, 3),
    value_range=(0, 1),
    small={"z_dim": 3, "widths": (5,)},
),)
