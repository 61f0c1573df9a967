"""`check_network`, `check_game`, `check_system`: too many entries to try them all, so random directions and entries."""

import copy
import warnings
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

from scratchgan import backend
from scratchgan.gradcheck import oracles
from scratchgan.gradcheck.layers import EXACT, check_plain, inputs_of, prepared
from scratchgan.gradcheck.oracles import host, is_rounding
from scratchgan.gradcheck.passes import (
    forward,
    named_grads,
    named_params,
    one_pass,
    pristine,
    require_tensors,
    same_bits,
    twin_of,
)
from scratchgan.gradcheck.properties import check_properties
from scratchgan.gradcheck.report import COMPLEX_STEP, ZERO, Report

SINGLE = 1e-4     # float32 against float64, through several layers
DIRECTIONS = 8    # a tensor
ENTRIES = 50


def check_network(network, x=None, *, input_shape=None, seed=0, directions=DIRECTIONS, entries=ENTRIES, name=None,
                  zero=()):
    """Check a whole network: x and each parameter along random directions and at random entries.

    With L = sum(dy y), dy random, and g the gradient of one tensor, the error along a direction v is
    |g v - Im L(.. + i h v) / h| / (|g| |v|), at most 1e-12; an entry is the direction of a unit vector. Arguments
    as for `check_layer`, whose further checks are made too (float32 to 1e-4), in the mode that the network is in.
    """
    base, x, rng = prepared(network, x, input_shape, seed)
    require_tensors(base, zero)
    report = Report(name or f"{network!r}, x {tuple(x.shape)}", seed, inputs_of(base, x))
    with quietly(), report.guard("forward and backward"):
        y_shape = forward(twin_of(base), x, seed).shape
        report.inputs["dy"] = np.array(rng.standard_normal(y_shape), np.float32).astype(np.float64)
        dy = backend.to_device(report.inputs["dy"], base.device)
        real = pristine(base)
        passed = one_pass(real, x, dy, seed)
        base = pristine(base, like=real)
        twin, complex_x = complex_copy(base), x.astype(np.complex128)
        at = {"x": complex_x, **named_params(twin)}
        gradients = passed.gradients()
        for tensor, gradient in gradients.items():
            check_directions(report, tensor, gradient, lambda: forward(twin, complex_x, seed), at[tensor],
                             report.inputs["dy"], rng, directions, entries, scale=passed.scale, zero=tensor in zero)
        check_properties(report, base, x, dy, passed, seed, SINGLE)
        check_plain(report, base, x, passed, seed, SINGLE, properties=False)
    return report


def complex_copy(network):
    """A twin on complex parameters of its own: the caches of the original and its buffers stay."""
    return copy.deepcopy(network).to(dtype="complex128").twin()


def check_directions(report, tensor, gradient, run, array, dy, rng, directions, entries, *, scale, zero=False,
                     may_be_zero=False):
    """The rows of one tensor; `array` holds its complex values, which `run()` reads.

    scale        the largest norm of a gradient beside this one: what "zero up to rounding" is measured by
    zero         whether the gradient is said to be zero by nature; `may_be_zero`: whether it may be
    """
    flat = np.arange(gradient.size) if gradient.size <= entries else rng.choice(gradient.size, entries, replace=False)
    chosen = [tuple(int(i) for i in np.unravel_index(k, gradient.shape)) for k in flat]
    looks = []  # (what the gradient says, the derivative, length of the direction, which)
    for k in range(directions):
        v = rng.standard_normal(gradient.shape)
        looks.append((float((gradient * v).sum()), oracles.along(run, array, dy, v), float(np.linalg.norm(v)),
                      f"direction {k}"))
    for entry, exact in zip(chosen, oracles.complex_step(run, array, dy, chosen), strict=True):
        looks.append((float(gradient[entry]), exact, 1.0, entry))

    seen = any(exact != 0 for _, exact, _, _ in looks)
    norm = float(np.linalg.norm(gradient))
    tiny = is_rounding([norm, *(exact / length for _, exact, length, _ in looks)], scale)
    if tiny and (zero or seen or norm > 0 or may_be_zero):  # exactly zero, both: then nothing may have been computed
        report.add(tensor, "gradient is zero" if zero else ZERO, True)
        return
    worst, where = 0.0, None
    for said, exact, length, at in looks:
        difference = abs(said - exact)
        error = difference / (norm * length) if norm > 0 else np.inf if difference else 0.0
        if where is None or not error <= worst:
            worst, where = float(error), at
    report.add(tensor, COMPLEX_STEP, worst <= EXACT, error=worst, tolerance=EXACT, where=where)
    report.add(tensor, "gradient is zero" if zero else "gradient is not all zero", seen != zero,
               "the true gradient is not zero" if zero else "the true gradient is zero: nothing was checked")


def check_game(game, real, labels=None, *, steps=3, seed=0, directions=DIRECTIONS, entries=ENTRIES, name=None, zero=()):
    """Check both players' gradients in a game, as `Game` computes them for its steps. Returns a `Report`.

    A float64 copy of the game trains for `steps` steps on `real` (N, *sample_shape). Then the gradients that
    `discriminator_gradient` and `generator_gradient` leave are compared with complex-step derivatives of the losses
    that they tell, as in `check_network`:

        loss_d(D(real), D(G(z))), penalties included, with respect to D's parameters, G's fixed
        loss_g(D(G(z)))                               with respect to G's parameters, D's fixed

    Neither may touch the other player's gradient. Tensors are named "discriminator.0.weight", "generator.0.weight".
    The game itself stays as it is.
    """
    game = in_precision(game)
    report = Report(name or "game", seed, {"real": host(real)})
    with quietly(), report.guard("steps of training"):
        for _ in range(steps):
            game.step(real, labels)
        rng = np.random.default_rng(seed)
        ours = with_networks(game, lambda network: network.twin())
        real, labels = ours.prepared(real, labels)
        ours.draw_from(ours.steps)
        fake = ours.fakes(len(real), labels)

        def loss_d(game):
            game.draw_from(game.steps)
            return game.discriminator_gradient(real, fake, labels)[1]["loss_d"]()

        def loss_g(game):
            game.draw_from(game.steps)
            fake = game.fakes(len(real), labels)
            scores = game.discriminator_gradient(real, fake, labels)[0] if game.simultaneous else None
            return game.generator_gradient(real, fake, labels, scores)["loss_g"]()

        for player, other, loss in (("discriminator", "generator", loss_d), ("generator", "discriminator", loss_g)):
            kept = ours.networks[other].grad.copy()
            loss(ours)
            report.add(player, "leaves the other player's gradient alone", same_bits(ours.networks[other].grad, kept),
                       f"it changes the {other}'s gradient")
            # Without penalties only the loss is asked for of the player, and no gradient of it.
            _check_player(report, game, player, loss, named_grads(ours.networks[player]), rng, directions, entries,
                          zero, forward_only=not game.penalties)
    return report


def check_system(system, batch, labels=None, *, steps=3, seed=0, directions=DIRECTIONS, entries=ENTRIES, name=None,
                 zero=()):
    """Check the gradients of all networks of a `System` with one loss, as its `gradient` leaves them. A `Report`.

    As `check_game`: a float64 copy trains for `steps` steps on `batch` (N, *sample_shape); then what `gradient` leaves
    in each network that has an optimizer is compared with complex-step derivatives of the "loss" that it returns.
    """
    system = in_precision(system)
    report = Report(name or type(system).__name__, seed, {"batch": host(batch)})
    with quietly(), report.guard("steps of training"):
        for _ in range(steps):
            system.step(batch, labels)

        def loss(system):
            system.draw_from(system.steps)
            return system.gradient(batch, labels)["loss"]

        rng, ours = np.random.default_rng(seed), with_networks(system, lambda network: network.twin())
        loss(ours)
        trained = [optimizer.network for optimizer in system.optimizers.values()]
        for key, network in system.networks.items():
            if any(network is each for each in trained):
                _check_player(report, system, key, loss, named_grads(ours.networks[key]), rng, directions, entries,
                              zero)
    return report


@contextmanager
def quietly():
    """Inside, complex values that are made real are found by rows alone, and small products stay on one thread."""
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        yield


def _check_player(report, system, player, loss, grads, rng, directions, entries, zero, forward_only=False):
    """The rows of one network's parameters, whose gradients are `grads` and whose loss is loss(system).

    forward_only   whether the loss can be had without this network's backward pass, which is then left out
    """
    scale = max((float(np.linalg.norm(gradient)) for gradient in grads.values()), default=0.0)
    report.add(player, "some gradient is not zero", scale > 0, "every gradient of this network is zero")
    # The player's parameters are moved, complex; the other networks only pass complex values on.
    own = system.networks[player]
    moved = with_networks(system, lambda network: complex_copy(network) if network is own
                           else network.twin("complex128"))
    if forward_only:
        moved.networks[player].backward = lambda dy, wrt="all": None
    arrays = named_params(moved.networks[player])
    for tensor, gradient in grads.items():
        key = f"{player}.{tensor}"
        check_directions(report, key, gradient, lambda: loss(moved), arrays[tensor], np.float64(1), rng, directions,
                         entries, scale=scale, zero=key in zero, may_be_zero=True)


def with_networks(system, change):
    """The system with other networks in place of its own, as attributes and in the dicts of attributes."""
    system, changed = copy.copy(system), {id(network): change(network) for network in system.networks.values()}
    for name, value in vars(system).items():
        if isinstance(value, dict):
            vars(system)[name] = {key: changed.get(id(each), each) for key, each in value.items()}
        else:
            vars(system)[name] = changed.get(id(value), value)
    return system


def in_precision(system, dtype="float64"):
    """A copy of the system, its networks and optimizers in this dtype."""
    system = copy.deepcopy(system)
    for network in system.networks.values():
        network.to(dtype=dtype)
    for optimizer in system.optimizers.values():
        optimizer.load_state_dict(optimizer.state_dict())  # in the network's new precision
    return system
