"""`classifier`: the digits told apart; in its features and probabilities samples of digits are measured.

Source: this package's own, a small convolutional network after LeCun et al. 1998, "Gradient-based learning applied to
document recognition", with ReLU, dropout (Srivastava et al. 2014) and images moved by up to two pixels. Convolutions of
stride 2 make it small and fast: 10,000 images in two seconds on one core. Its features are the means of the last maps,
as those of the Inception net are: among what the hidden layer makes of digits, noise is not out of place.
"""

from dataclasses import replace
from functools import cache, partial

from scratchgan.errors import UserError
from scratchgan.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from scratchgan.optimizers import Adam
from scratchgan.recipes.recipe import Recipe
from scratchgan.recipes.usual import BETA, RATE
from scratchgan.schedules import DECAY_STEPS, SCHEDULE, over
from scratchgan.settings import Setting, number, whole
from scratchgan.systems import Classifier

BODY = 7  # layers before Flatten


def network(channels, width, hidden, classes, dropout):
    """28x28 -> 14x14 -> 7x7 -> 3x3 -> hidden -> scores."""
    return Sequential(Conv2d(channels, width, 4, 2, 1), ReLU(),
                      Conv2d(width, 2 * width, 4, 2, 1), ReLU(),
                      Conv2d(2 * width, 2 * width, 3, padding=1), ReLU(), MaxPool2d(2),
                      Flatten(), Dropout(dropout), Linear(2 * width * 3 * 3, hidden), ReLU(),
                      Linear(hidden, classes))


@cache
def held_out(name):
    """(images, labels) of the test set that goes with data of this name, if it is on this machine; else None."""
    from scratchgan.data import mnist  # which imports what a network does not need
    if name != "mnist" or mnist.missing(files=mnist.SPLITS["test"]):
        return None
    test = mnist.load_mnist("test", download=False)
    return test.images, test.labels


def make(settings, facts):
    if facts.classes < 2:
        raise UserError("Recipe classifier needs examples with labels: give it MNIST, or images in a sub-folder for "
                        "each class.")
    net = network(facts.shape[0], settings.width, settings.hidden, facts.classes, settings.dropout)
    adam = Adam(net, over(settings, settings.lr, settings.lr * settings.lr_final), (settings.beta1, settings.beta2),
                settings.eps)
    return Classifier(net, adam, sample_shape=facts.shape, classes=facts.classes, body=BODY, shift=settings.shift,
                      held_out=partial(held_out, facts.name))


RECIPES = (Recipe(
    name="classifier",
    summary="convolutional classifier, 28x28 grey or colour: no GAN, the measure of them",
    source="this package; the networks of LeCun et al. 1998, made new",
    make=make,
    settings=(
        Setting("width", 32, "channels of the first convolution; the others have twice as many", whole(1)),
        Setting("hidden", 128, "width of the hidden layer after the convolutions", whole(1)),
        Setting("dropout", 0.4, "share of the values before the hidden layer that is dropped", number(0, 1)),
        Setting("shift", 2, "pixels by which images are moved, at most", whole(0, 14)),
        Setting("lr", 1e-3, "learning rate", RATE),
        Setting("lr_final", 0.01, "share of the rate that is left where the schedule ends", number(0),
                needs=("schedule",), idle=1),
        replace(SCHEDULE, default="cosine"), replace(DECAY_STEPS, needs=("schedule",)),
        Setting("beta1", 0.9, "Adam's memory of gradients", BETA),
        Setting("beta2", 0.999, "Adam's memory of their squares", BETA),
        Setting("eps", 1e-8, "Adam's term against division by zero", number(0))),
    facts={"shape": (1, 28, 28), "classes": 10, "name": "mnist"},
    small={"width": 2, "hidden": 5},
    batch_size=100,
    epochs=15,
    min_steps=3000,
    channels=(1, 3),
    value_range=(0, 1),
),)
