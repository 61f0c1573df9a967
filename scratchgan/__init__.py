"""scratchgan: generative adversarial networks from scratch, on NumPy and CuPy.

    import scratchgan
    game = scratchgan.recipes.get("mlp").build(seed=0)
    scratchgan.fit(game, images, steps=1000, out="runs/first")
    game = scratchgan.load("runs/first")
"""

import importlib
import os

# Before NumPy is loaded. A thread of OpenBLAS that has nothing to do looks for work, busily, for 2^28 clock ticks, and
# takes a core away from what else a step does meanwhile. 2^18, a tenth of a millisecond, are enough to await the next
# product of a layer.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")

from scratchgan import recipes
from scratchgan.gan import Game
from scratchgan.layers import (
    AutoencoderEnergy,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    Flatten,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    Maxout,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Softplus,
    Tanh,
    Unflatten,
    Upsample,
    spectral_norm,
)
from scratchgan.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from scratchgan.optimizers import SGD, Adam, Momentum, RMSprop
from scratchgan.system import System

# What is imported when it is first used, so that `import scratchgan` stays fast: name -> module that has it.
_LATER = {"fit": "scratchgan.training", "load": "scratchgan.training", "data": "scratchgan.data",
          "export": "scratchgan.export", "gradcheck": "scratchgan.gradcheck", "metrics": "scratchgan.metrics",
          "plots": "scratchgan.plots", "report": "scratchgan.report", "training": "scratchgan.training"}

__all__ = [
    "SGD",
    "Adam",
    "AutoencoderEnergy",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Concat",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "Game",
    "InstanceNorm2d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Maxout",
    "Momentum",
    "RMSprop",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "Softplus",
    "System",
    "Tanh",
    "Unflatten",
    "Upsample",
    "__version__",
    "fit",
    "load",
    "recipes",
    "spectral_norm",
]


def __getattr__(name):
    if name == "__version__":
        from importlib import metadata
        try:
            value = metadata.version("scratchgan")
        except metadata.PackageNotFoundError:  # run from a checkout
            value = "not installed"
    elif name in _LATER:
        module = importlib.import_module(_LATER[name])
        value = getattr(module, name, module)
    else:
        raise AttributeError(f"module 'scratchgan' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__, *_LATER})
