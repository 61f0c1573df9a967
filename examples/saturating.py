"""Why G does not minimise log(1 - D(G(z))), although its game with D is defined so.

Early in training D tells samples from images without an effort, and G needs gradients most. Of a score s, with
D = sigmoid(s), the two losses that the first GAN paper gives G (Goodfellow et al. 2014, section 3) have the slopes

    minimax, saturating    d/ds  log(1 - sigmoid(s)) = -D          goes to 0 where D is sure of a fake
    non-saturating         d/ds -log sigmoid(s)      = -(1 - D)    goes to -1 there

and G's samples get slope x ds/dx: for each sample the two gradients have one direction, and D / (1 - D) is the ratio of
their norms. Here an untrained generator of the recipe `mlp` is held fixed while its D learns to tell its samples from
the bundled digits; after each step both gradients are taken at the same 256 samples.

    python examples/saturating.py               # 10 seconds
    python examples/saturating.py --short       # fewer steps, seconds

Writes saturating.png. On the left the norm of the minimax gradient falls with D(G(z)), while the other one grows. On
the right the reason: each dot is a sample at some step, on the two slopes. Fails unless the minimax gradient falls to a
hundredth while the other one does not fall, and each sample's ratio is D / (1 - D) to rounding.
"""

import argparse
from pathlib import Path

import numpy as np

import scratchgan
from scratchgan import data
from scratchgan.gan import Minimax, NonSaturating, passes
from scratchgan.kernels import sigmoid

BATCH = 256


def norms(dx):
    """|dx_n| of each sample: (N,)."""
    return np.sqrt((np.float64(dx).reshape(len(dx), -1) ** 2).sum(axis=1))


def measure(D, fake):
    """D(G(z)), and the norms of the two losses' gradients, of each sample: three arrays (N,)."""
    scores = passes.scores(D, fake)
    def gradient(objective):  # G's loss is a mean over the batch: N times it is the sum of the samples' own losses
        return len(fake) * passes.fake_gradient(D, objective.grad_g(scores), joint=False)
    return sigmoid(np.float64(scores))[:, 0], norms(gradient(Minimax())), norms(gradient(NonSaturating()))


def train(steps, seed=0):
    """What `measure` gives before each of D's steps and after the last: (steps + 1, 3, N)."""
    game, batches = scratchgan.recipes.get("mlp").build(seed), data.load("digits").batches(BATCH, seed)
    watched, measured = game.made(BATCH, purpose="watched"), []
    for step in range(steps):
        measured.append(measure(game.discriminator, watched))
        real, _ = game.prepared(batches.batch(step)[0])
        game.discriminator_gradient(real, game.made(len(real)))
        game.update("discriminator")
        game.steps += 1
    return np.array([*measured, measure(game.discriminator, watched)])
