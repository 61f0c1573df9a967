"""`check_network` and `check_game`: too many entries to try them all, so random directions and random entries."""

import copy
import warnings

import numpy as np
from threadpoolctl import threadpool_limits  # to one thread: a few rows are too little work to share

from scratchgan import backend
from scratchgan.gradcheck import oracles
from scratchgan.gradcheck.layers import EXACT, prepared
from scratchgan.gradcheck.oracles import host
from scratchgan.gradcheck.passes import forward, named_grads, named_params, one_pass, pristine, twin_of
from scratchgan.gradcheck.properties import check_properties
from scratchgan.gradcheck.report import COMPLEX_STEP, Report

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
    report = Report(name or f"{network!r}, x {tuple(x.shape)}", seed, {"x": host(x)})
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"), report.guard("forward and backward"):
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        y_shape = forward(twin_of(base), x, seed).shape
        report.inputs["dy"] = np.array(rng.standard_normal(y_shape), np.float32).astype(np.float64)
        dy = backend.to_device(report.inputs["dy"], base.device)
        real = pristine(base)
        passed = one_pass(real, x, dy, seed)
        base = pristine(base, like=real)
        twin, complex_x = complex_copy(base), x.astype(np.complex128)
        at = {"x": complex_x, **named_params(twin)}
        for tensor, gradient in passed.gradients().items():
            check_directions(report, tensor, gradient, lambda: forward(twin, complex_x, seed), at[tensor],
                             report.inputs["dy"], rng, directions, entries, tensor in zero)
        check_properties(report, base, x, dy, passed, seed, SINGLE)
    return report


def complex_copy(network):
    """A twin on complex parameters of its own: the caches of the original and its buffers stay."""
    return copy.deepcopy(network).to(dtype="complex128").twin()


def check_directions(report, tensor, gradient, run, array, dy, rng, directions, entries, zero=False):
    """The rows of one tensor; `array` holds its complex values, which `run()` reads."""
    norm, worst, where, seen = float(np.linalg.norm(gradient)), -1.0, None, False

    def look(difference, length, at):
        nonlocal worst, where
        error = abs(difference) / (norm * length) if norm > 0 else np.inf if difference else 0.0
        if not error <= worst:
            worst, where = float(error), at

    for k in range(directions):
        v = rng.standard_normal(gradient.shape)
        exact = oracles.along(run, array, dy, v)
        seen = seen or exact != 0
        look(float((gradient * v).sum()) - exact, float(np.linalg.norm(v)), f"direction {k}")
    flat = np.arange(gradient.size) if gradient.size <= entries else rng.choice(gradient.size, entries, replace=False)
    chosen = [tuple(int(i) for i in np.unravel_index(k, gradient.shape)) for k in flat]
    for entry, exact in zip(chosen, oracles.complex_step(run, array, dy, chosen), strict=True):
        look(float(gradient[entry]) - exact, 1.0, entry)
    report.add(tensor, COMPLEX_STEP, worst <= EXACT, error=worst, tolerance=EXACT, where=where)
    report.add(tensor, "gradient is zero" if zero else "gradient is not all zero", seen != zero,
               "the true gradient is not zero" if zero else "the true gradient is zero: nothing was checked")


def check_game(game, real, *, steps=3, seed=0, directions=DIRECTIONS, entries=ENTRIES, name=None):
    """Check both players' gradients in a game, as one of its training steps computes them. Returns a `Report`.

    A float64 copy of the game trains for `steps` steps on `real` (N, *image_shape), then makes one more, whose
    gradients are compared with complex-step derivatives of the objective, as in `check_network`:

        loss_d(D(real), D(G(z)))  with respect to D's parameters, G's fixed
        loss_g(D'(G(z)))          with respect to G's parameters, through D after its update, D' fixed

    Tensors are named "discriminator.0.weight", "generator.0.weight". The game itself stays as it is.
    """
    game = _in_float64(game)
    report = Report(name or "game", seed, {"real": host(real)})
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"), report.guard("steps of training"):
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        for _ in range(steps):
            game.step(real)
        before = copy.deepcopy(game)
        game.step(real)
        grads = {"discriminator": named_grads(game.discriminator), "generator": named_grads(game.generator)}
        losses = _Losses(before, game, real)
        rng, one = np.random.default_rng(seed), np.float64(1)
        for player, run in (("discriminator", losses.loss_d), ("generator", losses.loss_g)):
            arrays = named_params(losses.complex[player])
            for tensor, gradient in grads[player].items():
                check_directions(report, f"{player}.{tensor}", gradient, run, arrays[tensor], one, rng,
                                 directions, entries)
    return report


class _Losses:
    """The two losses of one step of a game as functions of complex parameters."""

    def __init__(self, before, after, real):
        G, D, self.objective, self.made = before.generator, before.discriminator, before.objective, before.made
        self.seed, self.step = before.seed, before.steps
        self.z = before.noise(len(real), self.seed, "noise", self.step)
        self.complex = {"discriminator": complex_copy(D), "generator": complex_copy(G)}
        fake = self.made(self.draw(G.twin(), "generator"), self.z)
        real = before.checked(real).reshape(fake.shape)
        self.batches = [G.xp.concatenate([real, fake])] if before.one_pass(real) else [real, fake]  # as D sees them
        self.kinds = 2 if before.one_pass(real) and not before.joint_batch else 1  # in each of these, kept apart
        # D after its update, just after it saw the batch: its next pass draws the masks of the pass that G learns from.
        self.judge = self.draw(after.discriminator.twin("complex128"), "discriminator")
        for images in self.batches:
            self.judge.forward(images)

    def draw(self, network, name):
        network.set_step(self.seed, self.step, name)
        return network

    def loss_d(self):
        D = self.draw(self.complex["discriminator"], "discriminator")
        with D.in_batches(self.kinds):
            scores = D.xp.concatenate([D.forward(images).reshape(-1, 1) for images in self.batches])
        return self.objective.loss_d(scores[:len(self.z)], scores[len(self.z):])

    def loss_g(self):
        fake = self.made(self.draw(self.complex["generator"], "generator"), self.z.astype(np.complex128))
        return self.objective.loss_g(self.judge.twin("complex128").forward(fake))


def _in_float64(game):
    game = copy.deepcopy(game)
    for network in game.networks.values():
        network.to(dtype="float64")
    for optimizer in game.optimizers.values():
        optimizer.load_state_dict(optimizer.state_dict())  # in the network's new precision
    return game
