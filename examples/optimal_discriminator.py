"""Does D learn what theory says it learns, and is its loss the distance that theory says it is?

Two theorems of the first GAN paper (Goodfellow et al. 2014, section 4.1), each held against trained networks:

    proposition 1   for a fixed G the best D is  D*(x) = p_data(x) / (p_data(x) + p_g(x))
    theorem 1       the value there is  V(D*) = -log 4 + 2 JSD(p_data, p_g),  which is -log 4 only where p_g = p_data

with V(D) = E log D(x) + E log(1 - D(G(z))), of which D's loss is the negative. Here p_data = N(0, 1), and the G of each
row is held fixed at N(-d, (1 + d/2)^2), so that both densities and D* are known; p_g moves to p_data as d goes to 0.
A D of two hidden layers sees samples only, fresh ones in each step; V and JSD are integrals over a fine grid.

    python examples/optimal_discriminator.py               # 25 seconds
    python examples/optimal_discriminator.py --short       # fewer steps, seconds

Writes optimal_discriminator.png. On the left D lies on D*, as far as there are samples to learn from; it goes up and
down again, as p_g is the wider. On the right V falls to -log 4 as p_g moves to p_data. No D can be above the curve:
what is missing is what D has not learned. Fails if D is off by 0.02 where 99% of the samples are, or V by 0.01.
"""

import argparse
from pathlib import Path

import numpy as np

from scratchgan import random
from scratchgan.gan import NonSaturating, passes
from scratchgan.gan.objectives import LOG_FAKE, LOG_REAL
from scratchgan.kernels import sigmoid
from scratchgan.layers import Linear, Sequential, Tanh
from scratchgan.optimizers import Adam
from scratchgan.schedules import cosine

SHOWN = 2.0                                  # the distance on the left of the picture
X = np.linspace(-25, 15, 20_001)[:, None]    # the grid of the integrals: beyond it there is less than 1e-10 of p_g
BATCH = 2048
OFF_D, OFF_V = 0.02, 0.01                    # what is allowed


def p_data(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def p_g(x, d):
    sigma = 1 + d / 2
    return p_data((x + d) / sigma) / sigma


def integral(f):
    return np.trapezoid(f[:, 0], X[:, 0])


def draw(purpose, step, seed):
    """BATCH numbers of N(0, 1): (BATCH, 1). Rows of 8, as they are made by eights."""
    return random.normal((BATCH // 8, 8), seed, purpose, step).reshape(BATCH, 1)


def fit(d, steps, seed):
    """D after `steps` steps against the fixed generator G(z) = (1 + d/2) z - d."""
    D = Sequential(Linear(1, 32), Tanh(), Linear(32, 32), Tanh(), Linear(32, 1)).initialize(seed, "D")
    objective, optimizer = NonSaturating(), Adam(D, lr=cosine(2e-2, 0, steps))
    for step in range(steps):
        real, fake = draw("real", step, seed), (1 + d / 2) * draw("z", step, seed) - d
        optimizer.zero_grad()
        passes.learn(D, objective, real, fake, labels=None, joint_batch=True)
        optimizer.step()
    return D.to(dtype="float64")


def bulk(d):
    """Where the middle 99% of real and fake samples together are: a mask of X."""
    below = np.cumsum(p_data(X) + p_g(X, d)) / np.sum(p_data(X) + p_g(X, d))
    return ((below > 0.005) & (below < 0.995))[:, None]


def measure(d, D):
    """(D*, D on X, the largest |D - D*| in the bulk, V(D*) by theorem 1, V(D))."""
    real, fake, scores = p_data(X), p_g(X, d), D.forward(X)
    middle = (real + fake) / 2
    best, learned = real / (real + fake), sigmoid(scores)
    jsd = integral(real * np.log(real / middle) + fake * np.log(fake / middle)) / 2
    value = -integral(real * LOG_REAL.value(scores) + fake * LOG_FAKE.value(scores))
    return best, learned, np.abs(learned - best)[bulk(d)].max(), 2 * jsd - np.log(4), value


def curve(distances):
    """V(D*) for more distances than have a D of their own."""
    halves = [(p_data(X), p_g(X, d)) for d in distances]
    return [integral(r * np.log(r / (r + f)) + f * np.log(f / (r + f))) for r, f in halves]
