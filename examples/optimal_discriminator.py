"""Does D learn what theory says it learns, and is its loss the distance that theory says it is?

Two results of the first GAN paper (Goodfellow et al. 2014, section 4.1), each held against trained networks:

    proposition 1   for a fixed G the best D is  D*(x) = p_data(x) / (p_data(x) + p_g(x))
    theorem 1       the value there is  V(D*) = -log 4 + 2 JSD(p_data, p_g),  which is -log 4 only where p_g = p_data

with V(D) = E log D(x) + E log(1 - D(G(z))), of which D's loss is the negative. Here p_data = N(0, 1), and each G is
held fixed: G(z) = (1 + d/2) z - d with z ~ N(0, 1), so that both densities and D* are known. p_g moves to p_data as d
goes to 0. A D of two hidden layers learns from samples alone, fresh ones in each step; V and JSD are then integrated
over a fine grid.

    python examples/optimal_discriminator.py               # 7 seconds
    python examples/optimal_discriminator.py --short       # three distances, fewer steps: 2 seconds

Writes optimal_discriminator.png. On the left D lies on D*; it falls again on the right, where the wider p_g is above
p_data. Beyond the samples it has learned from, D says what it likes. On the right V falls to -log 4 as p_g moves to
p_data. D* has the largest V there is, so that no D can be above the curve.

Fails where D is off by 0.02 in the middle 99% of the samples, or V by 0.01, or above what theory allows.
"""

import argparse
from pathlib import Path

import numpy as np

from scratchgan import random
from scratchgan.gan import NonSaturating, passes
from scratchgan.gan.objectives import LOG_FAKE, LOG_REAL
from scratchgan.kernels import sigmoid
from scratchgan.layers import LeakyReLU, Linear, Sequential
from scratchgan.optimizers import Adam
from scratchgan.schedules import cosine

SHOWN = 2.0                                  # the distance on the left of the picture
X = np.linspace(-30, 20, 20_001)[:, None]    # the grid of the integrals: all but 1e-10 of each density is on it
OFF_D, OFF_V = 0.02, 0.01                    # what is allowed


def p_data(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def p_g(x, d):
    sigma = 1 + d / 2
    return p_data((x + d) / sigma) / sigma


def integral(f):
    return np.trapezoid(f[:, 0], X[:, 0])


def best_value(d):
    """V(D*) = -log 4 + 2 JSD:  2 JSD = KL(p_data || m) + KL(p_g || m),  m = (p_data + p_g) / 2."""
    p, q = p_data(X), p_g(X, d)
    m = (p + q) / 2
    return -np.log(4) + integral(p * np.log(p / m)) + integral(q * np.log(q / m))


CDF = np.cumsum(p_data(X)[:, 0]) * (X[1, 0] - X[0, 0])   # of N(0, 1)


def draw(purpose, step, seed, n=1024):
    """n numbers of N(0, 1), as (n, 1): one from each n-th part of its mass, so that D's gradients have little noise."""
    within = random.uniform((n // 8, 8), seed, purpose, step).reshape(n, 1)
    return np.float32(np.interp((np.arange(n)[:, None] + within) / n, CDF, X[:, 0]))


def fit(d, steps, seed=0):
    """D, which gives logits, after `steps` steps against the fixed generator."""
    D = Sequential(Linear(1, 32), LeakyReLU(0.2), Linear(32, 32), LeakyReLU(0.2), Linear(32, 1)).initialize(seed, "D")
    objective, optimizer = NonSaturating(), Adam(D, lr=cosine(1e-2, 0, steps), betas=(0.9, 0.99))
    for step in range(steps):
        real, fake = draw("real", step, seed), (1 + d / 2) * draw("z", step, seed) - d
        optimizer.zero_grad()
        passes.learn(D, objective, real, fake, labels=None, joint_batch=True)
        optimizer.step()
    return D.to(dtype="float64")


def measure(d, D):
    """(D* on X, D on X, where the middle 99% of all samples are, V(D))."""
    p, q, scores = p_data(X), p_g(X, d), D.forward(X)
    below = np.cumsum(p + q) / np.sum(p + q)                  # the share of real and fake samples together below x
    bulk = ((below > 0.005) & (below < 0.995))[:, None]
    value = -integral(p * LOG_REAL.value(scores) + q * LOG_FAKE.value(scores))
    return p / (p + q), sigmoid(scores), bulk, value


def picture(best, learned, values, path):
    """values: {d: V of the trained D}."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.fill_between(X[:, 0], p_data(X)[:, 0], color="tab:blue", alpha=0.25, linewidth=0, label="$p_{data}$")
    left.fill_between(X[:, 0], p_g(X, SHOWN)[:, 0], color="tab:orange", alpha=0.35, linewidth=0, label="$p_g$")
    left.plot(X, best, color="0.65", linewidth=5, label="$D^* = p_{data} / (p_{data} + p_g)$")
    left.plot(X, learned, "k", label="D, trained on samples")
    left.set(xlim=(-9, 6), ylim=(0, 1), xlabel="x", ylabel="D(x); densities",
             title=f"The best discriminator, d = {SHOWN:g}")
    left.legend(loc="upper left")
    d = np.linspace(0, max(values), 41)
    right.plot(d, [best_value(each) for each in d], color="0.65", linewidth=5, label=r"$-\log 4 + 2\,$JSD")
    right.plot(*zip(*values.items(), strict=True), "ko", label="V of the trained D")
    right.axhline(-np.log(4), color="tab:blue", linestyle="--", linewidth=1, label=r"$-\log 4$")
    right.set(xlabel="d: $p_g = N(-d, (1 + d/2)^2)$", ylabel="V (nats)", title="Its value as $p_g$ moves to $p_{data}$")
    right.legend(loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"Wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/examples"), help="for what it writes")
    parser.add_argument("--short", action="store_true", help="three distances and fewer steps")
    args = parser.parse_args()

    values, faults = {}, []
    print(f"{'d':>4} {'max |D - D*|':>13} {'V(D)':>9} {'-log 4 + 2 JSD':>15} {'missing':>9}")
    for d in (SHOWN, 1.0, 0.0) if args.short else (3.0, SHOWN, 1.0, 0.5, 0.0):
        best, learned, bulk, values[d] = measure(d, fit(d, steps=600 if args.short else 1000))
        off, missing = np.abs(learned - best)[bulk].max(), best_value(d) - values[d]
        print(f"{d:>4} {off:>13.4f} {values[d]:>9.5f} {best_value(d):>15.5f} {missing:>9.5f}")
        if off > OFF_D or not -1e-9 < missing < OFF_V:
            faults.append(f"d = {d}: D is off by {off:.4f} (allowed: {OFF_D}), V by {missing:.5f} (0 to {OFF_V})")
        if d == SHOWN:
            shown = best, learned
    print(f"\n-log 4 = {-np.log(4):.5f}: V where p_g = p_data is off by {abs(values[0.0] + np.log(4)):.1e}")
    picture(*shown, values, args.out / "optimal_discriminator.png")
    if faults:
        raise SystemExit(f"Theory and training disagree. {'; '.join(faults)}.")


if __name__ == "__main__":
    main()
