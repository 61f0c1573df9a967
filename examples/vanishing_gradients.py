"""Where real and fake samples have nothing in common, a perfect D leaves G without a gradient, a critic does not.

"Learning parallel lines" (Arjovsky, Chintala and Bottou 2017, example 1): real samples (0, u) and fake ones (theta, u)
in the plane, with u ~ U(0, 1). However near the lines are, a D can tell them apart without fault:

    JSD = log 2 for any theta but 0     W = |theta|, the earth mover's distance

so that the first says nothing of the way to go, and theorem 2.4 of Arjovsky and Bottou 2017 ("Towards principled
methods for training generative adversarial networks") bounds the gradient of E log(1 - D(G(z))) by how far D is from
perfect. This is its figure 2, for two lines: G stays as it is, D learns, and before each step the norm of the gradient
at G's samples is taken. A critic C with a gradient penalty (Gulrajani et al. 2017) gets the same samples and network.
For C = -k x its loss, -k theta + 10 (k - 1)^2, is least at k = 1 + theta / 20: about 1 at any distance.

    python examples/vanishing_gradients.py               # 6 seconds
    python examples/vanishing_gradients.py --short       # two distances, fewer steps: 3 seconds

Writes vanishing_gradients.png. On the left the minimax gradient falls by orders of magnitude; the non-saturating one
grows as D's step gets steeper, so that G's steps have no natural size; the critic's goes to k and stays there. On the
right D is flat at the fake line, where G looks for a slope, and C goes straight from one line to the other.

Fails unless the minimax gradient falls to a thousandth of what it was at most, JSD is log 2 to 0.01, and the critic's
gradient is k to 5%.
"""

import argparse
from pathlib import Path

import numpy as np

from scratchgan import random
from scratchgan.gan import objectives, passes
from scratchgan.gan.penalties import GradientPenalty
from scratchgan.kernels import sigmoid
from scratchgan.layers import LeakyReLU, Linear, Sequential
from scratchgan.optimizers import Adam

BATCH = 256
PENALTY = 10.0
FALL, OFF_JSD, OFF_K = 1000, 0.01, 0.05                       # what is asked for


def line(x, purpose, step, seed):
    """Samples (x, u), u ~ U(0, 1)."""
    u = random.uniform((BATCH, 1), seed, purpose, step)
    return np.concatenate([np.full_like(u, x), u], axis=1)


def gradient_norm(D, fake, name):
    """Mean over the fakes of |d(loss of G) / d(sample)|, for this objective of G."""
    scores = passes.scores(D, fake)
    dx = BATCH * passes.fake_gradient(D, objectives.get(name).grad_g(scores), joint=False)
    return np.sqrt((np.float64(dx) ** 2).sum(axis=1)).mean()


def train(name, theta, steps, followed, penalties=(), seed=0):
    """(D or critic after `steps` steps by the objective `name`, {objective of G in `followed`: norms at each step})."""
    D = Sequential(Linear(2, 64), LeakyReLU(0.2), Linear(64, 64), LeakyReLU(0.2), Linear(64, 1)).initialize(seed, "D")
    objective, optimizer = objectives.get(name), Adam(D, lr=1e-3, betas=(0.5, 0.9))
    norms = {each: [] for each in followed}
    for step in range(steps):
        real, fake = line(0, "real", step, seed), line(theta, "fake", step, seed)
        for each in followed:
            norms[each].append(gradient_norm(D, fake, each))
        for penalty in penalties:
            penalty.set_step(seed, step, "penalty")           # where it draws its points between real and fake
        optimizer.zero_grad()
        passes.learn(D, objective, real, fake, None, True, penalties)
        optimizer.step()
    return D, norms


def experiment(theta, steps):
    """(D, C, {loss of G: norms at each step}, the JSD that D's loss comes to)."""
    D, norms = train("minimax", theta, steps, ("minimax", "non-saturating"))
    C, of_critic = train("wasserstein", theta, steps, ("wasserstein",), (GradientPenalty(PENALTY),))
    loss = objectives.get("minimax").loss_d(*(D.forward(line(x, "test", 0, 0)) for x in (0, theta)))
    return D, C, norms | of_critic, (np.log(4) - loss) / 2    # -loss is the value -log 4 + 2 JSD at the best D


def picture(curves, D, C, path):
    """curves: {theta: {loss of G: norms at each step}}; D and C are those of theta = 1."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    colors = {"non-saturating": "tab:blue", "wasserstein": "k", "minimax": "tab:orange"}
    for theta, style in zip((max(curves), min(curves)), ("-", ":"), strict=True):
        for name, color in colors.items():
            left.semilogy(curves[theta][name], style, color=color, label=f"{name}, theta = {theta:g}")
    left.set(xlabel="steps of D or critic, while G stays as it is", ylabel="norm of G's gradient at a sample (mean)",
             title="The gradient that G would get")
    left.legend(loc="lower left", fontsize="small")
    x = np.linspace(-0.5, 1.5, 401, dtype=np.float32)[:, None]
    points = np.concatenate([x, np.full_like(x, 0.5)], axis=1)
    right.plot(x, sigmoid(D.forward(points)), color="tab:orange", label="D(x, 1/2), a probability")
    C_at_fake = C.forward(np.array([[1, 0.5]], np.float32))
    right.plot(x, C.forward(points) - C_at_fake, color="k", label="C(x, 1/2), less what it is at x = theta")
    for at, name in ((0, "real"), (1, "fake")):
        right.axvline(at, color="0.75", linewidth=5, zorder=0)
        right.text(at, -0.38, name, ha="center", backgroundcolor="w")
    right.set(xlabel="x", ylim=(-0.5, 1.55), title="What each says between the lines, theta = 1")
    right.legend(loc="upper right", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"Wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/examples"), help="for what it writes")
    parser.add_argument("--short", action="store_true", help="two distances and fewer steps")
    args = parser.parse_args()

    curves, faults = {}, []
    print("theta     JSD  minimax: most     last  non-saturating: last  critic: last      k")
    for theta in (1.0, 0.25) if args.short else (1.0, 0.5, 0.25):
        D, C, norms, jsd = experiment(theta, 350 if args.short else 500)
        k, critic = 1 + theta / (2 * PENALTY), np.mean(norms["wasserstein"][-50:])
        most, last = max(norms["minimax"]), norms["minimax"][-1]
        print(f"{theta:>5} {jsd:>7.4f} {most:>14.3f} {last:>8.1e} {norms['non-saturating'][-1]:>21.1f} "
              f"{critic:>13.3f} {k:>6.3f}")
        if not (last < most / FALL and abs(jsd - np.log(2)) < OFF_JSD and abs(critic / k - 1) < OFF_K):
            faults.append(f"theta = {theta}: the minimax gradient has fallen {most / last:.0f} times (expected: {FALL} "
                          f"or more), JSD is {jsd:.4f} (log 2), the critic's gradient {critic:.3f} ({k:.3f})")
        curves[theta] = norms
        if theta == 1:
            shown = D, C
    print(f"\nlog 2 = {np.log(2):.4f}: to D every theta is as far. The critic's gradient is about 1 for each.")
    picture(curves, *shown, args.out / "vanishing_gradients.png")
    if faults:
        raise SystemExit(f"Theory and training disagree. {'; '.join(faults)}.")


if __name__ == "__main__":
    main()
