"""The loss of a Wasserstein critic is a distance: three cases where the true one is known in closed form.

The earth mover's distance W(p, q) is the least mean way over which mass must be moved to turn p into q. By its dual
form (Arjovsky et al. 2017, "Wasserstein GAN", eq. 2) it is what the best critic with slopes of at most 1 tells apart:

    W(p, q) = max E_p f(x) - E_q f(y)   over f with |df/dx| <= 1

    shift      N(0, 1) and N(d, 1)                              W = d                      best f = -x
    scale      N(0, 1) and N(0, s^2), s > 1                     W = (s - 1) sqrt(2 / pi)   best f = -|x|
    segments   {0} x [0, 1] and {d} x [0, 1] in the plane       W = d                      best f = -x
               (example 1 of the paper)

Each critic is trained with the gradient penalty (Gulrajani et al. 2017, eq. 3), which lets slopes be a little above 1:
with slope s all along the way a critic gains s W - lambda (s - 1)^2, most at s = 1 + W / (2 lambda). So its estimate
is W + W^2 / (2 lambda); exactly so for the segments, a little more where mass is moved unevenly. At the usual lambda of
10 that is 20% too much for W = 4; here lambda is 100. It begins at W / 10 and rises in the first half of the steps: a
critic held to |slope| = 1 from the first step on can get stuck in a zigzag of +1 and -1, which costs no penalty.

The Jensen-Shannon divergence (JSD), which a GAN's usual loss follows, is log 2 for the segments at every d > 0: it says
that they are apart, not how far, and has no slope along which they would come nearer.

    python examples/earth_mover.py          # half a minute

Fails where an estimate is off by more than 5%, or at lambda = 10 off that formula by more than 1%. Writes
earth_mover.png: estimates against true distances (left), their errors (middle), two critics and the best ones (right).
"""

import argparse
import math
from pathlib import Path

import numpy as np

from scratchgan import random, schedules
from scratchgan.gan import objectives, passes
from scratchgan.gan.penalties import GradientPenalty
from scratchgan.layers import Linear, ReLU, Sequential
from scratchgan.optimizers import Adam

LAMBDA, USUAL, BOUND, BOUND_OF_BIAS = 100, 10, 0.05, 0.01
COLOURS = {"shift": "#0072B2", "scale": "#D55E00", "segments": "#009E73"}


def sample(case, W, n, step, of="xy"):
    """n points of p and n of q, which are W apart; of the same noise if `of` names it alike for both."""
    if case == "segments":
        u, v = (random.uniform((n, 1), 0, name, step) for name in of)
        return np.hstack([0 * u, u]), np.hstack([0 * v + np.float32(W), v])
    u, v = (random.normal((n, 1), 0, name, step) for name in of)
    return u, v + np.float32(W) if case == "shift" else v * np.float32(1 + W * math.sqrt(math.pi / 2))


def critic(case, W, steps, weight, batch=128):
    """A critic of p and q trained for `steps` steps: D's half of `Game.step`, as there is no generator here."""
    D = Sequential(Linear(2 if case == "segments" else 1, 64), ReLU(), Linear(64, 64), ReLU(), Linear(64, 1))
    D.initialize(0, case)
    objective, penalty = objectives.get("wasserstein"), GradientPenalty()
    optimizer = Adam(D, lr=schedules.cosine(2e-3, 2e-5, steps), betas=(0.5, 0.9))
    for step in range(steps):
        p, q = sample(case, W, batch, step)
        rise = min(1, 2 * step / steps)
        penalty.weight = (W / 10) ** (1 - rise) * weight**rise      # from W / 10 to lambda, by equal factors
        penalty.set_step(0, step, "penalty")
        D.zero_grad()
        passes.learn(D, objective, p, q, None, joint_batch=True, penalties=[penalty])
        optimizer.step()
    return D


def estimate(D, case, W):
    """E_p D - E_q D over 100,000 new points; of one noise for both, as then most of the chance goes out."""
    p, q = sample(case, W, 100_000, 0, of=("test", "test"))
    return float(D(p).mean() - D(q).mean())


def picture(distances, estimates, usual, critics, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    top = distances[-1] * 1.05
    left.plot([0, top], [0, top], color="0.7", linewidth=1, label="estimate = W")
    left.plot([0, top], [math.log(2)] * 2, "k--", linewidth=1, label="JSD of the segments: log 2")
    middle.axhspan(-100 * BOUND, 100 * BOUND, color="0.93", label=f"bound: {BOUND:.0%}")
    fine = np.linspace(0, top)
    for weight, style in ((USUAL, "k:"), (LAMBDA, "k-")):
        middle.plot(fine, 100 * fine / (2 * weight), style, linewidth=1, label=f"W / (2 lambda), lambda = {weight}")
    for (case, found), marker, size in zip(estimates.items(), "osD", (10, 7, 4)):
        left.plot(distances, found, marker, color=COLOURS[case], markersize=size, label=case)
        middle.plot(distances, 100 * (found / distances - 1), marker, color=COLOURS[case], markersize=size)
    middle.plot(distances, 100 * (usual / distances - 1), "D", color=COLOURS["segments"], mfc="white", markersize=4,
                label=f"segments, lambda = {USUAL}")
    x = np.linspace(-4, 4, 401, dtype=np.float32)[:, None]
    for case, best in (("shift", -x), ("scale", -abs(x))):
        D = critics[case]
        right.plot(x, best, color="0.8", linewidth=5)
        right.plot(x, D(x) - D(x)[200], color=COLOURS[case], label=f"{case}, W = {distances[-2]:g}")
    left.set(xlabel="true distance W", ylabel="critic's estimate", xlim=(0, top), ylim=(0, None))
    middle.set(xlabel="true distance W", ylabel="error of the estimate in %", xlim=(0, top))
    right.set(xlabel="x", ylabel="D(x) - D(0)", title="the critic, and the best one (grey)")
    for axes in (left, middle, right):
        axes.legend(fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    print(f"Wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/examples"), help="for what it writes")
    parser.add_argument("--short", action="store_true", help="fewer distances and steps; the same bound")
    args = parser.parse_args()
    distances, steps = (np.array([0.5, 1, 2]), 200) if args.short else (np.array([0.25, 0.5, 1, 2, 4]), 500)
    print(f"{'true distance':<26}" + "".join(f"{W:>9.2f}" for W in distances))
    estimates, critics = {}, {}
    for case in COLOURS:
        trained = [critic(case, W, steps, LAMBDA) for W in distances]
        estimates[case] = np.array([estimate(D, case, W) for D, W in zip(trained, distances)])
        print(f"{case:<26}" + "".join(f"{found:>9.4f}" for found in estimates[case]))
        critics[case] = trained[-2]
    usual = np.array([estimate(critic("segments", W, steps, USUAL), "segments", W) for W in distances])
    print(f"{'segments, lambda = 10':<26}" + "".join(f"{found:>9.4f}" for found in usual))
    expected = distances + distances**2 / (2 * USUAL)
    print(f"{'  W + W^2 / (2 lambda)':<26}" + "".join(f"{value:>9.4f}" for value in expected))
    picture(distances, estimates, usual, critics, args.out / "earth_mover.png")
    worst = max(np.max(np.abs(found / distances - 1)) for found in estimates.values())
    print(f"Largest error {worst:.1%}, bound {BOUND:.0%}")
    if not worst <= BOUND:
        raise SystemExit("A critic's estimate is too far from the true earth mover's distance.")
    if not np.max(np.abs(usual / expected - 1)) <= BOUND_OF_BIAS:
        raise SystemExit(f"With lambda = {USUAL} an estimate is not W + W^2 / (2 lambda) within {BOUND_OF_BIAS:.0%}.")


if __name__ == "__main__":
    main()
