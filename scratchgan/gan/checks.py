"""What a game can be made of and be given: mistakes are told where they are made, not where they hurt."""

import math
from numbers import Real

import numpy as np

from scratchgan import backend
from scratchgan.gan.latent import Latent
from scratchgan.layers import Sequential, Sigmoid
from scratchgan.layers.energy import GivesEnergies

SLACK = 1e-3  # of the range of values: rounding in somebody's scaling


def nonnegative(value, what):
    """The value, a finite number >= 0; `ValueError` for anything else."""
    if not isinstance(value, Real) or not 0 <= value < np.inf:
        raise ValueError(f"{what} must be a finite number >= 0, not {value}")
    return value


def check_game(game):
    """`ValueError` or `TypeError` unless the parts of a new game fit each other."""
    for name, player in (("optimizer_g", "generator"), ("optimizer_d", "discriminator")):
        optimizer, network = getattr(game, name), getattr(game, player)
        if getattr(optimizer, "network", None) is not network:
            raise ValueError(f"Game: {name} is not an optimizer of the {player}: make it from that network, such as "
                             f"Adam({player})")
    parts = {"augmentation": game.augmentation, "penalties": game.penalties, "penalties_g": game.penalties_g,
             "unrolled": [part for part in (game.unrolled,) if part is not None],
             "updates": [part for parts in game.updates.values() for part in parts]}
    for kind, part in ((kind, part) for kind, parts in parts.items() for part in parts):
        if getattr(part, "kind", None) != kind:
            raise TypeError(f"Game: {part!r} is no part for {kind}: see scratchgan.gan.assemble for what there is")
    if not isinstance(game.latent, Latent):
        raise TypeError(f"Game: latent must be a Latent, such as Latent(64), not {game.latent!r}")
    if game.value_range is not None and not game.value_range[0] < game.value_range[1]:
        raise ValueError(f"Game: value_range must be (low, high) with low < high, or None, not {game.value_range!r}")
    D, objective = game.discriminator, game.objective
    if objective.score == "logit" and isinstance(D, Sequential) and len(D) and isinstance(D[-1], Sigmoid):
        raise ValueError(f"Game: objective {objective.name} takes scores before the sigmoid, which it applies itself: "
                         "leave out the Sigmoid at the end of the discriminator")
    if D is game.generator:
        raise ValueError("Game: generator and discriminator are one network: make two")
    if objective.paired and not game.joint_batch and any(
            layer.couples_samples and not layer.knows_batches for _, layer in D.named_layers()):
        raise ValueError(f"Game: the objective {objective.name} compares real and fake samples in one pass, but a "
                         "layer of the discriminator couples samples and cannot keep the two apart: take "
                         "joint_batch=True")
    if (objective.score == "energy") != isinstance(D, GivesEnergies):
        needs = "an energy" if objective.score == "energy" else "a score, not an energy"
        raise ValueError(f"Game: objective {objective.name} needs a discriminator that gives {needs}: choose another "
                         "one")
    names = ["generator", "discriminator", *(name for parts in game.updates.values() for part in parts
                                             for name in part.networks)]
    if len(set(names)) < len(names):
        raise ValueError(f"Game: two networks have one name among {', '.join(names)}: a game has one moving average, "
                         "that of the generator")
    for part in game.augmentation:
        if part.theta.size or any(layer.buffers for _, layer in part.named_layers()):
            raise ValueError(f"Game: the augmentation {part!r} has parameters or buffers, which would be neither "
                             "trained nor saved")
        if game.classes and part.joins > 1:
            raise ValueError(f"Game: {part!r} joins samples, but in a conditional game each has a label of its own")
    for penalty in (*game.penalties, *game.penalties_g):
        penalty.check(D)
    for part in game.penalties_g:
        if game.classes and part.compares_samples:
            raise ValueError(f"Game: {part!r} compares samples as if they had one label, which those of a conditional "
                             "game have not: leave it out")
    if game.unrolled:
        game.unrolled.check(game)


def check_batch(system, batch):
    """Unless the batch is N samples in the value range, floats in it or bytes to be scaled to it. The values are looked
    at on the host only, where it costs nothing to speak of."""
    name, shape, values = f"{type(system).__name__}.step", system.sample_shape, system.value_range
    if not backend.is_array(batch) or (batch.dtype != np.uint8 and batch.dtype.kind != "f"):
        got = batch.dtype if backend.is_array(batch) else type(batch).__name__
        raise TypeError(f"{name}: expected an array of floats{in_words(values)} or of uint8, got {got}")
    if tuple(batch.shape[1:]) != shape or not len(batch):
        raise ValueError(f"{name}: expected a batch of shape (N, {', '.join(map(str, shape))}), "
                         f"got {tuple(batch.shape)}")
    if values is None:
        if batch.dtype == np.uint8:
            raise TypeError(f"{name}: there is no value range that uint8 could be scaled to, expected floats")
    elif batch.dtype != np.uint8 and backend.device_of(batch) == "cpu":
        low, high, slack = float(batch.min()), float(batch.max()), SLACK * (values[1] - values[0])
        if not (low >= values[0] - slack and high <= values[1] + slack):  # also where a value is not a number
            raise ValueError(f"{name}: expected values{in_words(values)}, got values from {low:g} to {high:g}: "
                             "scale the batch, or give uint8")


def check_made(system, made, shape):
    """`ValueError` unless a network made as many numbers a sample as there are in a sample of this shape."""
    if made.size != len(made) * math.prod(shape):
        raise ValueError(f"{type(system).__name__}: the {system.sampler_name or 'sampler'} makes "
                         f"{made.size // len(made):,} numbers a sample, {tuple(made.shape[1:])}, and a sample of shape "
                         f"{tuple(shape)} has {math.prod(shape):,}: change the network or sample_shape")


def checked_labels(game, n, labels):
    """The labels, (n,) whole numbers on the game's device, of a conditional game; None of any other. Their values are
    looked at on the host only."""
    if not game.classes:
        return None
    if labels is None:
        raise ValueError(f"Game: a conditional game needs labels, one whole number for each of {n} samples, got none")
    labels = np.asarray(labels) if not backend.is_array(labels) else labels
    if labels.dtype.kind not in "iu" or labels.ndim > 1 or (labels.ndim and len(labels) != n):
        raise ValueError(f"Game: a conditional game needs labels, one whole number for each of {n} samples, got "
                         f"{labels.dtype} of shape {tuple(labels.shape)}")
    if backend.device_of(labels) == "cpu" and labels.size and not 0 <= labels.min() <= labels.max() < game.classes:
        raise ValueError(f"Game: labels must be from 0 to {game.classes - 1}, got {labels.min()} to {labels.max()}")
    labels = backend.to_device(labels, game.device)
    return backend.array_module(labels).broadcast_to(labels, (n,))


def in_words(values):
    return "" if values is None else f" in [{values[0]:g}, {values[1]:g}]"
