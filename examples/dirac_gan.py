"""The Dirac GAN, the smallest there is: does training spiral out, circle, or arrive?

The data are one point, 0; G makes one point, theta; the logit of D is psi x (Mescheder et al. 2018, "Which training
methods for GANs do actually converge?", section 2). With R1, gamma / 2 psi^2 (section 3), small steps near the solution
(0, 0) follow dtheta/dt = s psi, dpsi/dt = -s theta - gamma psi, with s = f'(0) = 1/2, the slope of the logistic loss:

    J = [0  s; -s  -gamma],  eigenvalues -gamma / 2 +- sqrt(gamma^2 / 4 - s^2):  without R1 +- i s, a circle for ever

A step of size h multiplies (theta, psi) by a matrix M. Its eigenvalues mu give the rates log(mu) / h: the real part is
the growth, the imaginary one the angle, in a unit of time (1 / h steps).

                                                                                       growth without R1
    simultaneous    M = 1 + h J                                                          h s^2 / 2: outwards
    alternating     M = M_G M_D,  M_D = [1 0; -h s  1 - h gamma],  M_G = [1  h s; 0 1]   0, as det M = 1
    unrolled, K     the same with M_G = [1 - 2 K h^2 s^2  h s; 0 1]                     -K h s^2: inwards

The last, as D K steps later is psi - K h s theta: G's loss -s theta (psi - K h s theta) has a slope with the new term
twice, once through the score and once through D's answer (Metz et al. 2017).

    python examples/dirac_gan.py          # seconds

Fails where a measured rate is off its eigenvalue by more than 1%. Writes dirac_gan.png: without R1 only unrolling goes
inwards (left), with it all do (middle). Right: R1 damps more with more gamma up to 2 s; then one rate goes back to 0.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from scratchgan.gan import Game, Latent
from scratchgan.gan.penalties import ZeroCentred
from scratchgan.gan.unrolled import Unrolled
from scratchgan.layers import Linear
from scratchgan.optimizers import SGD

SLOPE, STEP, GAMMA, LOOKS, NEAR, BOUND = 0.5, 0.1, 0.5, 5, (1e-4, 0), 0.01      # s, h, gamma, K
SCHEMES = {"simultaneous": "#D55E00", "alternating": "0.45", f"unrolled {LOOKS}": "#0072B2"}


class One(Latent):
    """z = 1, so that G(z) = theta z is the point theta."""

    def draw(self, n, *arguments, **more):
        return np.ones((n, 1))


def orbit(scheme, gamma, h, steps, start=NEAR):
    """(theta, psi) before each step and after the last: (steps + 1, 2), in float64."""
    G, D = (Linear(1, 1, bias=False).to(dtype="float64") for _ in range(2))
    both, more = (G, D, "minimax", SGD(G, h), SGD(D, h)), {"latent": One(1), "sample_shape": (1,), "value_range": None}
    game = Game(*both, simultaneous=scheme == "simultaneous", penalties=[ZeroCentred(r1=gamma)], **more)
    # A game does not look ahead at penalties of D: G's turn is that of another one, of the same networks, without R1.
    ahead = Game(*both, unrolled=Unrolled(LOOKS), **more)
    G.theta[:], D.theta[:] = start
    real, path = np.zeros((1, 1)), [start]
    for _ in range(steps):
        if scheme.startswith("unrolled"):
            fake = ahead.fakes(1)
            game.discriminator_gradient(real, fake)
            game.update("discriminator")
            ahead.generator_gradient(real, fake)
            ahead.update("generator")
        else:
            game.step(real)
        path.append((G.theta[0], D.theta[0]))
    return np.array(path)


def operator(scheme, gamma, h, s=SLOPE):
    """M, by which a step multiplies (theta, psi) near (0, 0)."""
    if scheme == "simultaneous":
        return np.eye(2) + h * np.array([[0, s], [-s, -gamma]])
    looks = LOOKS if scheme.startswith("unrolled") else 0
    M_G, M_D = [[1 - 2 * looks * h**2 * s**2, h * s], [0, 1]], [[1, 0], [-h * s, 1 - h * gamma]]
    return np.array(M_G) @ np.array(M_D)


def flow(gamma):
    """The two eigenvalues of J."""
    return -gamma / 2 + np.multiply.outer([-1, 1], np.sqrt(np.square(gamma) / 4 - SLOPE**2 + 0j))


def rates(mu, time):
    """log(mu) / time of two eigenvalues, in the order of `flow`; `time` is that of a step."""
    return np.array(sorted(np.log(np.asarray(mu, complex)) / time, key=lambda z: (round(z.imag, 6), z.real)))


def measured(theta, time):
    """The two rates in a series of theta alone. Whatever M is, theta_{t+2} = a theta_{t+1} - b theta_t with a its trace
    and b its determinant: least squares finds a and b, and mu^2 - a mu + b = 0 the eigenvalues (Prony's method)."""
    a, b = np.linalg.lstsq(np.stack([theta[1:-1], -theta[:-2]], axis=1), theta[2:], rcond=None)[0]
    return rates(np.roots([1, -a, b]), time)


def error(found, exact):
    """The largest relative error of growth and angle; what is 0 in theory is compared with the size of the rate."""
    sizes = (np.where(abs(part) > 1e-6 * abs(exact), abs(part), abs(exact)) for part in (exact.real, exact.imag))
    return np.max([abs(part) / size for part, size in zip(((found - exact).real, (found - exact).imag), sizes)])


def picture(gammas, slow, steps, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, (*planes, right) = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    for plane, gamma in zip(planes, (0, GAMMA)):
        for scheme, colour in SCHEMES.items():
            plane.plot(*orbit(scheme, gamma, STEP, steps, (1, 0)).T, color=colour, linewidth=1.3, label=scheme)
        plane.plot(1, 0, "ko", 0, 0, "k+")
        plane.set(xlabel="generator: theta", ylabel="discriminator: psi", title=f"gamma = {gamma}")
        plane.set_aspect("equal", "datalim")
    planes[1].legend(loc="upper right", title=f"from (1, 0) in steps of {STEP}")
    fine = np.linspace(0, gammas[-1], 500)
    for part, name, colour in ((np.real, "growth", "#0072B2"), (np.imag, "angle", "#D55E00")):
        right.plot(fine, part(flow(fine)).T, color=colour, linewidth=1, label=[f"{name}: formula", None])
        right.plot(gammas, part(slow), "o", color=colour, markersize=4, label=["measured", None])
    right.set(xlabel="gamma, the weight of R1", ylabel="rate in a unit of time", title="simultaneous, steps of 0.002")
    right.legend(loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    print(f"Wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/examples"), help="for what it writes")
    parser.add_argument("--short", action="store_true", help="fewer steps and values of gamma; the same bound")
    args = parser.parse_args()
    print(f"Rates in a unit of time, h = {STEP}: growth + angle i\n"
          f"{'steps':<14}{'gamma':>6}{'infinitely small':>20}{'eigenvalue of M':>20}{'measured':>20}{'error':>10}")
    errors = []
    for scheme, gamma in product(SCHEMES, (0, GAMMA, 4 * SLOPE)):
        exact = rates(np.linalg.eigvals(operator(scheme, gamma, STEP)), STEP)
        found = measured(orbit(scheme, gamma, STEP, 50 if args.short else 200)[:, 0], STEP)
        errors.append(error(found, exact))
        print(f"{scheme:<14}{gamma:>6}" + "".join(f"{z[1].round(5) + 0:>20.5f}" for z in (flow(gamma), exact, found))
              + f"{errors[-1]:>10.1e}")
    gammas, h = np.linspace(0, 2.4, 6 if args.short else 21), 0.002
    slow = np.array([measured(orbit("simultaneous", gamma, h, 500)[::50, 0], 50 * h) for gamma in gammas])
    off = max(error(found, flow(gamma)) for gamma, found in zip(gammas, slow))
    print(f"{len(gammas)} values of gamma, h = {h}, measured against infinitely small: error at most {off:.1e}")
    picture(gammas, slow, 60 if args.short else 500, args.out / "dirac_gan.png")
    if not np.max([*errors, off]) <= BOUND:
        raise SystemExit(f"A measured rate is off its eigenvalue by {np.max([*errors, off]):.1%}, bound {BOUND:.0%}.")


if __name__ == "__main__":
    main()
