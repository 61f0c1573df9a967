"""What `scratchgan gradcheck` checks: everything in the package, or a target `module:Name` of the user's."""

import importlib
import inspect
import os
import sys

import numpy as np

from scratchgan import layers, losses
from scratchgan.errors import UserError
from scratchgan.gradcheck.layers import check_layer, known_input_shape
from scratchgan.gradcheck.losses import SHAPE, check_loss
from scratchgan.gradcheck.networks import check_game, check_network

GAME_BATCH = 2
SMALL = 2000  # parameters: up to so many every entry is tried


def layer_cases():
    """Layer name -> [(layer, input shape) or (layer, input shape, other arguments of check_layer), ...]."""
    whole = {"batch_of_one": False}  # one of them would be no batch, or one value a channel, which has no variance
    return {
        "Linear": [(layers.Linear(4, 3), (5, 4)), (layers.Linear(4, 3, bias=False), (5, 4)),
                   (layers.Linear(4, 3), (4,)), (layers.Linear(4, 3), (2, 3, 4)), (layers.Linear(4, 3), (0, 4))],
        "Conv2d": [(layers.Conv2d(2, 3, 3), (2, 2, 5, 4)), (layers.Conv2d(2, 4, (2, 3), (2, 1), 1), (2, 2, 5, 4)),
                   (layers.Conv2d(4, 2, 3, padding="same", dilation=2, groups=2, bias=False), (2, 4, 5, 5)),
                   (layers.Conv2d(3, 4, 4, 2, 1, bias=False), (2, 3, 8, 8)),
                   (layers.Conv2d(8, 6, 4, 2, 1), (2, 8, 8, 6)), (layers.Conv2d(2, 3, 3), (0, 2, 5, 4))],
        "ConvTranspose2d": [(layers.ConvTranspose2d(2, 3, 3), (2, 2, 4, 3)),
                            (layers.ConvTranspose2d(2, 4, (2, 3), (2, 3), 1, (1, 2)), (2, 2, 4, 3)),
                            (layers.ConvTranspose2d(4, 2, 3, 1, 0, 0, 2, False, 2), (2, 4, 3, 3)),
                            (layers.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), (2, 4, 4, 4)),
                            (layers.ConvTranspose2d(6, 8, 4, 2, 1), (2, 6, 4, 3)),
                            (layers.ConvTranspose2d(4, 3, 4, bias=False), (2, 4, 1, 1))],
        "LeakyReLU": [(layers.LeakyReLU(0.2), (4, 5)), (layers.LeakyReLU(-0.5), (4, 5)), (layers.LeakyReLU(), ())],
        "ReLU": [(layers.ReLU(), (4, 5)), (layers.ReLU(), (2, 3, 4))],
        "Tanh": [(layers.Tanh(), (4, 5)), (layers.Tanh(), ())],
        "Sigmoid": [(layers.Sigmoid(), (4, 5)), (layers.Sigmoid(), ())],
        "Softplus": [(layers.Softplus(), (4, 5)), (layers.Softplus(2.0, 1.0), (4, 5))],
        "Flatten": [(layers.Flatten(), (3, 2, 2, 2)), (layers.Flatten(0, 1), (3, 2, 2))],
        "Unflatten": [(layers.Unflatten(1, (2, 3)), (4, 6))],
        "Reshape": [(layers.Reshape(2, -1), (4, 6))],
        "Dropout": [(layers.Dropout(0.4), (4, 5)), (layers.Dropout(0.0), (4, 5))],
        "Maxout": [(layers.Maxout(4, 3, 2), (5, 4)), (layers.Maxout(3, 2, 4), (2, 3, 3))],
        "AvgPool2d": [(layers.AvgPool2d(2), (2, 2, 4, 5)), (layers.AvgPool2d((3, 2), 2, 1), (2, 2, 5, 4)),
                      (layers.AvgPool2d(3, 2, 1, True, False), (2, 1, 4, 5)),
                      (layers.AvgPool2d(2, 1, divisor_override=3), (2, 4, 3)), (layers.AvgPool2d(2), (0, 2, 4, 4))],
        "MaxPool2d": [(layers.MaxPool2d(2), (2, 2, 4, 5)), (layers.MaxPool2d((3, 2), 1, 1), (2, 1, 4, 4)),
                      (layers.MaxPool2d(2, 2, 0, 2, True), (2, 4, 5)), (layers.MaxPool2d(2), (0, 2, 4, 4))],
        "Upsample": [(layers.Upsample(scale_factor=2), (2, 2, 2, 3)), (layers.Upsample((5, 2)), (2, 1, 3, 4)),
                     (layers.Upsample(scale_factor=1.7), (2, 2, 3)), (layers.Upsample(scale_factor=2), (0, 2, 2, 2))],
        "BatchNorm1d": [(layers.BatchNorm1d(3), (5, 3), whole), (layers.BatchNorm1d(3, 1e-2, None), (2, 3, 4)),
                        (layers.BatchNorm1d(3, affine=False), (5, 3), whole), (layers.BatchNorm1d(3), (0, 3))],
        "BatchNorm2d": [(layers.BatchNorm2d(3), (2, 3, 2, 3)), (layers.BatchNorm2d(3, affine=False), (2, 3, 2, 3)),
                        (layers.BatchNorm2d(3, 0.1, track_running_stats=False), (4, 3, 1, 1), whole)],
        "InstanceNorm2d": [(layers.InstanceNorm2d(3), (2, 3, 2, 3)),
                           (layers.InstanceNorm2d(2, affine=True), (2, 3, 3), whole),
                           (layers.InstanceNorm2d(2, 0.1, 0.3, True, True), (2, 2, 2, 3))],
        "LayerNorm": [(layers.LayerNorm(4), (3, 4)), (layers.LayerNorm((3, 2), bias=False), (2, 2, 3, 2)),
                      (layers.LayerNorm(4, 0.1, False), (4,)), (layers.LayerNorm(4), (0, 4))],
        "spectral_norm": [(layers.spectral_norm(layers.Linear(4, 3)), (5, 4)),
                          (layers.spectral_norm(layers.Conv2d(2, 3, 3)), (2, 2, 4, 4)),
                          (layers.spectral_norm(layers.ConvTranspose2d(3, 2, 2, 2)), (2, 3, 2, 2))],
        "Sequential": [(layers.Sequential(layers.Linear(4, 5), layers.Tanh(),
                                          layers.Sequential(layers.Linear(5, 3), layers.LeakyReLU(0.2))), (3, 4))],
    }


def loss_cases():
    """Loss name -> [(loss, arguments of check_loss), ...]."""
    weight = np.array([0.5, 1.0, 2.0])
    scores = {"input": np.random.default_rng(0).standard_normal((4, 3, 2)),
              "target": np.array([[0, 1], [2, 1], [0, 0], [1, 2]])}
    return {
        "MSELoss": [(losses.MSELoss(reduction), {}) for reduction in losses.REDUCTIONS],
        "BCELoss": [(losses.BCELoss(weight, reduction), {}) for reduction in losses.REDUCTIONS],
        "BCEWithLogitsLoss": [(losses.BCEWithLogitsLoss(), {}),
                              (losses.BCEWithLogitsLoss(weight, "sum", 3 * weight), {}),
                              (losses.BCEWithLogitsLoss(None, "none", 3.0), {})],
        "CrossEntropyLoss": [(losses.CrossEntropyLoss(), {}), (losses.CrossEntropyLoss(), scores),
                             (losses.CrossEntropyLoss(weight, 1, "mean", 0.1), scores),
                             (losses.CrossEntropyLoss(weight, 1, "none", 0.1), scores),
                             (losses.CrossEntropyLoss(weight, reduction="sum", label_smoothing=0.3), {})],
    }


def _recipes():
    from scratchgan import recipes  # the package's upper floors, needed only where a recipe is checked

    return recipes


def choices():
    """All names that `run` knows."""
    return [*layer_cases(), *loss_cases(), *_recipes().names()]


def run(names=None, input_shape=None, *, zero=(), batch_of_one=True):
    """Check layers, losses and recipes by name, or `module:Name` targets; everything without names. [Report, ...]

    A target is a Layer or Loss class that can be made without arguments, an instance, or a function that returns
    one; its module is importable from the current directory. `input_shape`, batch first, `zero` and `batch_of_one`
    are for targets: see `check_layer`.
    `UserError`, before anything is checked, for what is unknown or cannot be checked.
    """
    jobs = [_job(name, input_shape, zero, batch_of_one) for name in (names or choices())]
    return [report for job in jobs for report in job()]


def _job(name, input_shape, zero, batch_of_one):
    """A function without arguments that returns the reports for this name."""
    if ":" in name:
        return _target_job(name, input_shape, zero, batch_of_one)
    if input_shape is not None or zero or not batch_of_one:
        what = "An input shape" if input_shape is not None else "--zero" if zero else "--no-batch-of-one"
        raise UserError(f"{what} is for targets of your own, as in package.module:Name, not for {name!r}.")
    cases = layer_cases()
    if name in cases:
        return lambda: [check_case(*case) for case in cases[name]]
    cases_of_losses = loss_cases()
    if name in cases_of_losses:
        return lambda: [check_loss(loss, **arguments) for loss, arguments in cases_of_losses[name]]
    if name in _recipes().names():
        return lambda: check_recipe(name)
    raise UserError(f"Unknown name {name!r}: choose from {', '.join(choices())}, or give a target of your own as "
                    "package.module:Name.")


def check_case(layer, input_shape, arguments=None):
    """The report on one of `layer_cases`."""
    return check_layer(layer, input_shape=input_shape, **(arguments or {}))


def check_recipe(name, seed=0):
    """Generator, discriminator and game of a recipe, its networks small if it says how, on a small batch."""
    recipe = _recipes().get(name)
    game = recipe.build(seed=seed, device="cpu", **recipe.small)
    images = np.random.default_rng(seed).uniform(-1, 1, (GAME_BATCH, *game.sample_shape)).astype(np.float32)
    z = game.latent.shaped(game.latent.draw(GAME_BATCH, seed, "gradcheck"))
    made = game.generator.twin().forward(z)
    return [check_network(game.generator, z, name=f"{name}: generator"),
            check_network(game.discriminator, images.reshape(made.shape), name=f"{name}: discriminator"),
            check_game(game, images, name=f"{name}: game")]


def _target_job(name, input_shape, zero, batch_of_one):
    target = _resolve(name)
    if isinstance(target, losses.Loss):
        shape = SHAPE if input_shape is None else tuple(input_shape)
        return lambda: [check_loss(target, shape=shape, name=f"{name}, input {shape}")]
    shape = known_input_shape(target) if input_shape is None else tuple(input_shape)
    if shape is None:
        raise UserError(f"The input shape of {name} is not known: give --input-shape, batch first, or define its "
                        "attribute input_shape.")
    told = {"input_shape": shape, "name": f"{name}, x {tuple(shape)}", "zero": tuple(zero)}
    if target.theta.size > SMALL:
        return lambda: [check_network(target, **told)]
    return lambda: [check_layer(target, batch_of_one=batch_of_one, **told)]


def _resolve(name):
    """The layer or loss that `module:Name` stands for; `UserError` if there is none."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UserError(f"The target {name!r} must have the form package.module:Name.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise UserError(f"The module {module_name!r} cannot be imported: {type(error).__name__}: {error}.") from error
    if not hasattr(module, attribute):
        kinds = [key for key, value in vars(module).items() if inspect.isclass(value)
                 and issubclass(value, layers.Layer | losses.Loss) and value.__module__ == module.__name__]
        raise UserError(f"The module {module_name!r} has no {attribute!r}; the layers and losses it defines are: "
                        f"{', '.join(kinds) or 'none'}.")
    target = getattr(module, attribute)
    if callable(target) and not isinstance(target, layers.Layer | losses.Loss):
        try:
            target = target()
        except Exception as error:
            raise UserError(f"{name} cannot be called without arguments ({type(error).__name__}: {error}); give a "
                            "function that returns the layer.") from error
    if not isinstance(target, layers.Layer | losses.Loss):
        raise UserError(f"{name} must be a Layer or a Loss, or a class or function that gives one, not "
                        f"{type(target).__name__}.")
    return target
