"""What `scratchgan gradcheck` checks: everything in the package, or a target `module:Name` of the user's."""

import importlib
import inspect
import os
import sys
from functools import partial

from scratchgan import layers, losses
from scratchgan.errors import UserError
from scratchgan.gradcheck.cases import layer_cases, loss_cases, objective_cases
from scratchgan.gradcheck.layers import check_layer, known_input_shape
from scratchgan.gradcheck.losses import SHAPE, check_loss
from scratchgan.gradcheck.networks import check_game, check_network, check_system
from scratchgan.gradcheck.objectives import check_objective
from scratchgan.gradcheck.passes import require_tensors
from scratchgan.gradcheck.report import Report

BATCH = 4  # batch normalisation of 2 samples gives 1 and -1, and no gradient to speak of
SMALL = 2000  # parameters: up to so many every entry is tried
OF_RECIPES = {"directions": 4, "entries": 12}  # fewer than of a network of one's own: their layers are checked alone


def _recipes():
    from scratchgan import recipes  # the package's upper floors, needed only where a recipe is checked

    return recipes


def _penalties():
    from scratchgan.gradcheck import penalties  # likewise

    return penalties


def choices():
    """All names that `run` knows."""
    return [*layer_cases(), *loss_cases(), *objective_cases(), *_penalties().penalty_cases(), *_recipes().names()]


def run(names=None, input_shape=None, **of_targets):
    """Check what is in the package by name, or `module:Name` targets; everything without names. [Report, ...]

    A target is a Layer or Loss class that can be made without arguments, an instance, or a function that returns
    one; its module is importable from the current directory. `input_shape`, batch first, and other arguments of
    `check_layer` (zero, batch_of_one) are for targets.
    `UserError`, before anything is checked, for what is unknown or cannot be checked.
    """
    every = [checks(name, input_shape, **of_targets) for name in (names or choices())]
    return [check() for of_one_name in every for check in of_one_name]


def checks(name, input_shape=None, **of_targets):
    """Functions without arguments that each make one check of what this name stands for and return its report."""
    if ":" in name:
        return [_target_check(name, input_shape, of_targets)]
    if input_shape is not None or of_targets:
        option = "--zero" if "zero" in of_targets else "--no-batch-of-one"
        what = option if input_shape is None else "An input shape"
        raise UserError(f"{what} is for targets of your own, as in package.module:Name, not for {name!r}.")
    for cases, check in ((layer_cases(), check_case), (loss_cases(), check_loss_case),
                         (objective_cases(), check_objective_case),
                         (_penalties().penalty_cases(), _penalties().check_penalty)):
        if name in cases:
            return [partial(check, *case) for case in cases[name]]
    if name in _recipes().names():
        return recipe_checks(name)
    raise UserError(f"Unknown name {name!r}: choose from {', '.join(choices())}, or give a target of your own as "
                    "package.module:Name.")


def check_case(layer, input_shape, arguments=None):
    """The report on one of `layer_cases`."""
    return check_layer(layer, input_shape=input_shape, **(arguments or {}))


def check_loss_case(loss, arguments):
    """The report on one of `loss_cases`."""
    return check_loss(loss, **arguments)


def check_objective_case(objective, arguments):
    """The report on one of `objective_cases`."""
    return check_objective(objective, **arguments)


def recipe_checks(name, seed=0):
    """Of a recipe, small if it says how: each network on what a step gives it, and the game, or the system if it has
    one loss; in each of its phases."""
    recipe, report, found = _recipes().get(name), Report(f"{name}: a step", seed), []
    with report.guard("a step"):
        phases = recipe.build(seed=seed, device="cpu", **recipe.small).phases
        for step in phases:
            found += phase_checks(recipe, step, f", step {step:,}" if len(phases) > 1 else "", seed)
    return [lambda: report] if report.failures else found


def phase_checks(recipe, step, words, seed):
    """The checks of the system of a recipe as it is at this step."""
    from scratchgan.gan import Game  # upper floors, as the recipes
    from scratchgan.profiling import labels_for, random_examples
    from scratchgan.system import System

    stepping, system = (recipe.build(seed=seed, device="cpu", **recipe.small) for _ in range(2))
    for each in (stepping, system) if step else ():
        each.load_state_dict({**each.state_dict(), "steps": step})
    examples = random_examples(system, BATCH, seed)
    labels = labels_for(system, examples)
    given, name = inputs(stepping, examples, labels), recipe.name
    found = [partial(check_network, system.networks[part], x[:BATCH], name=f"{name}: {part}{words}",
                     zero=system.unused(part), **OF_RECIPES) for part, x in given.items()]
    if isinstance(system, Game):
        found.append(partial(check_game, system, examples, labels, name=f"{name}: game{words}", **OF_RECIPES))
    elif type(system).gradient is not System.gradient:
        found.append(partial(check_system, system, examples, labels, name=f"{name}: system{words}", **OF_RECIPES))
    return found


def inputs(system, examples, labels=None):
    """{name of a network: its first input} in one step of the system; without those that the step leaves alone."""
    from scratchgan.profiling import things_of, watched
    given = {}

    def around(key, thing, method, call, *arguments, **named):
        if method == "forward" and key[1] == "":
            given.setdefault(key[0], arguments[0])
        return call(*arguments, **named)
    with watched(things_of(system), around):
        system.step(examples, labels)
    return given


def _target_check(name, input_shape, arguments):
    target = _resolve(name)
    if isinstance(target, losses.Loss):
        shape = SHAPE if input_shape is None else tuple(input_shape)
        return partial(check_loss, target, shape=shape, name=f"{name}, input {shape}")
    shape = known_input_shape(target) if input_shape is None else tuple(input_shape)
    if shape is None:
        raise UserError(f"The input shape of {name} is not known: give --input-shape, batch first, or define its "
                        "attribute input_shape.")
    if 0 in shape:
        raise UserError(f"The input shape {shape} holds no number, so that nothing could be checked of {name}: give "
                        "sizes of 1 or more.")
    try:
        require_tensors(target, arguments.get("zero", ()))
    except ValueError as error:
        raise UserError(f"{name}: {error}.") from None
    check = check_layer
    if target.theta.size > SMALL:
        check, arguments = check_network, {key: value for key, value in arguments.items() if key != "batch_of_one"}
    return partial(check, target, input_shape=shape, name=f"{name}, x {tuple(shape)}", **arguments)


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
