"""Why G does not minimise log(1 - D(G(z))), although its game with D is defined so.

Early in training D tells samples from images without effort, just when G has most to learn. Of a score s, with
D = sigmoid(s), the two losses that the first GAN paper gives G (Goodfellow et al. 2014, section 3) have the slopes

    minimax, saturating    d/ds  log(1 - sigmoid(s)) = -D          goes to 0 where D is sure of a fake
    non-saturating         d/ds -log sigmoid(s)      = -(1 - D)    goes to -1 there

and a sample x of G gets slope times ds/dx: the two gradients have one direction, and D / (1 - D) is the ratio of their
norms. Here an untrained generator of the recipe `mlp` is held fixed while its D learns to tell its samples from the
bundled digits; before each step both gradients are taken at the same 128 samples.

    python examples/saturating.py               # 3 seconds
    python examples/saturating.py --short       # fewer steps: 1 second

Writes saturating.png. On the left the norm of the minimax gradient falls with D(G(z)), while the other one grows. On
the right the reason: each dot is a sample at some step, its gradients divided by ds/dx, on the slopes of the formulas.

Fails unless the minimax gradient falls to a hundredth of what it was while the other one grows, and the ratio of each
sample's norms is D / (1 - D) to rounding.
"""

import argparse
from pathlib import Path

import numpy as np

import scratchgan
from scratchgan import data
from scratchgan.gan import Minimax, NonSaturating, passes
from scratchgan.kernels import sigmoid

BATCH = 128
FALL = 100     # times by which the minimax gradient has to fall


def norms(dx):
    """|dx_n| of each sample: (N,)."""
    return np.sqrt((np.float64(dx).reshape(len(dx), -1) ** 2).sum(axis=1))


def measure(D, fake):
    """Of each sample: the score s, |ds/dx|, and |d(its loss)/dx| for the two losses. (4, N)."""
    scores = passes.scores(D, fake)

    def gradient(dscores):
        return norms(passes.fake_gradient(D, dscores, joint=False))

    n = len(fake)  # G's loss is a mean over the batch: times n it is the sum of the samples' own losses
    return np.array([scores[:, 0], gradient(np.ones_like(scores)),
                     gradient(n * Minimax().grad_g(scores)), gradient(n * NonSaturating().grad_g(scores))])


def train(steps, seed=0):
    """What `measure` gives before each of D's steps and after the last: (4, steps + 1, N)."""
    game, batches = scratchgan.recipes.get("mlp").build(seed, lr_d=1e-3), data.load("digits").batches(BATCH, seed)
    watched, measured = game.fakes(BATCH, purpose="watched"), []
    for step in range(steps):
        measured.append(measure(game.discriminator, watched))
        real, _ = game.prepared(batches.batch(step)[0])
        game.discriminator_gradient(real, game.fakes(len(real)))
        game.update("discriminator")                          # D learns, and it is never G's turn
        game.steps += 1
    return np.stack([*measured, measure(game.discriminator, watched)], axis=1)


def picture(s, ds, minimax, other, path):
    """All (steps + 1, N), as `measure` gives them."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    line = np.linspace(s.min(), 3, 200)
    for name, values, slope, color in (("non-saturating: 1 - D", other, 1 - sigmoid(line), "tab:blue"),
                                       ("minimax: D", minimax, sigmoid(line), "tab:orange")):
        left.semilogy(values.mean(axis=1), color=color, linewidth=2, label=f"gradient, {name.split(':')[0]}")
        right.plot(line, slope, color=color, alpha=0.35, linewidth=6, label=name)
        right.plot(s[::2, :4].ravel(), (values / ds)[::2, :4].ravel(), ".", color=color, markersize=4)
    left.semilogy(sigmoid(s).mean(axis=1), "k--", linewidth=1, label="D(G(z))")
    left.set(xlabel="steps of D, while G stays as it is", ylabel="norm at a sample of G, mean",
             title="As D wins, one of the two gradients is lost")
    left.legend(loc="center right")
    right.set(xlabel="s: D's score of a sample, D = sigmoid(s)", ylabel="size of the loss's slope in s",
              title="The reason: where D is sure, s is far below 0")
    right.legend(loc="center left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"Wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/examples"), help="for what it writes")
    parser.add_argument("--short", action="store_true", help="60 steps of D, not 120")
    args = parser.parse_args()

    s, ds, minimax, other = train(60 if args.short else 120)
    print(f"{'D steps':>7} {'D(G(z))':>9} {'minimax':>9} {'non-saturating':>15}")
    for step in (0, 5, 10, 20, 40, len(s) - 1):
        print(f"{step:>7} {sigmoid(s[step]).mean():>9.5f} {minimax[step].mean():>9.5f} {other[step].mean():>15.5f}")
    picture(s, ds, minimax, other, args.out / "saturating.png")

    odds = sigmoid(s) / sigmoid(-s)
    off = np.abs(minimax / other / odds - 1).max()
    fall, rise = minimax[0].mean() / minimax[-1].mean(), other[-1].mean() / other[0].mean()
    print(f"\nThe ratio of the two norms is D / (1 - D) to {off:.0e}, at {s.size:,} samples.\n"
          f"The minimax gradient has fallen {fall:.0f} times, the other one has grown {rise:.0f} times.")
    if not (off < 1e-5 and fall > FALL and rise > 1):
        raise SystemExit("Theory and training disagree: expected are a ratio that is right to 1e-5, a minimax gradient "
                         f"that falls {FALL} times or more, and another one that grows.")


if __name__ == "__main__":
    main()
