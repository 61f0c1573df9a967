"""What penalties on D's gradient cost: D's step with them against the same step without, and against PyTorch's.

    pip install -e ".[torch]"
    python benchmarks/penalties.py            # both critics: about four minutes
    python benchmarks/penalties.py mlp        # one
    python benchmarks/penalties.py --quick    # does it run? its figures mean nothing

A step is D's: its passes over a real and a fake batch, which are given, the relativistic loss, the penalty, Adam. The
critics are `mlp`'s, and `dcgan28`'s without batch normalisation, which no penalty on single samples allows. PyTorch has
real and fake in one batch, too, one `autograd.grad(create_graph=True)` for its penalty, fused Adam, and with
convolutions either memory layout: that of the shorter median counts. Ours takes tangents: four passes with R1 and R2,
for WGAN-GP three over points of its own.

First both must make the same gradients in float64, to 1e-8. Then all steps are timed in turn, in one process: rounds of
a block of steps of each, a pause before each block so that the other library's threads are asleep. A block counts by
its median; a time is the median of all blocks, a ratio that of the ratios of each round, whose blocks come within
seconds of one another: the machine's other work comes and goes. "/ plain" is a step's time over that of the plain step
of the same engine; the last column is ours / PyTorch with the penalty over ours / PyTorch without: below 1, the
penalty costs ours less. In brackets what is hoped for at most.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")  # as scratchgan does, where it is imported before NumPy

import numpy as np
import torch
from same_bits import processor
from torch import nn
from torch.nn import functional as F

from scratchgan import random, recipes
from scratchgan.gan import objectives, passes
from scratchgan.gan.penalties import GradientPenalty, ZeroCentred
from scratchgan.optimizers import Adam
from scratchgan.recipes import dcgan

BATCH, PAUSE, EXACT = 64, 0.25, 1e-8
COUNTS = {"mlp": (30, 20), "dcgan28": (15, 5)}  # rounds, and steps in a block
RATE = {"lr": 2e-4, "betas": (0.5, 0.999)}
R, GP = 1.0, 10.0
STEPS = {"plain": (), "R1": (ZeroCentred(R),), "R1+R2": (ZeroCentred(R, R),), "WGAN-GP": (GradientPenalty(GP),)}
HOPED = {("dcgan28", "R1+R2"): 1.5, ("mlp", "R1+R2"): 2.05, ("dcgan28", "WGAN-GP"): 1.85, ("mlp", "WGAN-GP"): 1.85}
HOPED_TO_PYTORCH = 0.75
SHAPES = {"mlp": (784,), "dcgan28": (1, 28, 28)}


def our_critic(system):
    if system == "mlp":
        return recipes.get("mlp").build(seed=0).discriminator
    return dcgan.discriminator((64, 128), 7, 1, 0.2, normalise=False).initialize(0)


def their_critic(system):
    if system == "mlp":
        return nn.Sequential(nn.Linear(784, 256), nn.LeakyReLU(0.1), nn.Linear(256, 128), nn.LeakyReLU(0.1),
                             nn.Linear(128, 1))
    return nn.Sequential(nn.Conv2d(1, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
                         nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
                         nn.Conv2d(128, 1, 7, bias=False))


def batches(system, n, dtype="float32"):
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (n, *SHAPES[system])).astype("float32").astype(dtype) for _ in range(2)]


class Ours:
    def __init__(self, system, penalties, n, dtype="float32"):
        self.D, self.penalties, self.steps = our_critic(system).to(dtype=dtype), penalties, 0
        self.optimizer, self.objective = Adam(self.D, **RATE), objectives.get("relativistic")
        self.samples = batches(system, n, dtype)
        if system == "mlp":
            self.samples[1] = np.asfortranarray(self.samples[1])  # as fakes come from G: features first in memory

    def learn(self):
        self.D.zero_grad()
        for penalty in self.penalties:
            penalty.set_step(0, self.steps, "penalty.0")
        passes.learn(self.D, self.objective, *self.samples, None, True, self.penalties)

    def __call__(self):
        self.learn()
        self.optimizer.step()
        self.steps += 1

    def between(self):
        """The e that WGAN-GP draws in the first step."""
        return random.uniform((len(self.samples[0]), 1, 1, 1), 0, "penalty.0/between", 0, dtype=self.D.dtype)


class Theirs:
    def __init__(self, system, step, n, dtype=torch.float32, layout=torch.contiguous_format):
        self.D, self.name = their_critic(system).to(dtype=dtype, memory_format=layout), step
        self.optimizer = torch.optim.Adam(self.D.parameters(), **RATE, fused=True)
        real, fake = (torch.from_numpy(x).to(dtype) for x in batches(system, n))
        self.real, self.fake = (x.contiguous(memory_format=layout) if x.ndim == 4 else x for x in (real, fake))

    def load(self, D):
        self.D.load_state_dict({key: torch.from_numpy(value) for key, value in D.state_dict().items()}, strict=True)
        return self

    def learn(self, e=None):
        self.optimizer.zero_grad(set_to_none=True)
        n, x = len(self.real), torch.cat([self.real, self.fake]).requires_grad_(self.name in ("R1", "R1+R2"))
        scores = self.D(x)
        loss = F.softplus(scores[n:] - scores[:n]).mean()
        if self.name == "WGAN-GP":
            e = torch.rand(n, *[1] * (x.ndim - 1), dtype=x.dtype) if e is None else e
            between = (e * self.real + (1 - e) * self.fake).requires_grad_()
            slopes = slopes_of(self.D(between), between)
            loss = loss + GP * ((slopes.flatten(1).norm(dim=1) - 1) ** 2).mean()
        elif x.requires_grad:
            slopes = slopes_of(scores, x)
            slopes = slopes[:n] if self.name == "R1" else slopes
            loss = loss + R / 2 * (slopes ** 2).sum() / n
        loss.backward()

    def __call__(self):
        self.learn()
        self.optimizer.step()


def slopes_of(scores, x):
    return torch.autograd.grad(scores.sum(), x, create_graph=True)[0]


def check_equal(system, n=8):
    """Raises unless both make the same gradients."""
    for step, penalties in STEPS.items():
        ours = Ours(system, penalties, n, "float64")
        theirs = Theirs(system, step, n, torch.float64).load(ours.D)
        ours.learn()
        theirs.learn(torch.from_numpy(ours.between().reshape(n, *[1] * len(SHAPES[system]))))
        grads = {f"{prefix}{key}": grad for prefix, layer in ours.D.named_layers() for key, grad in layer.grads.items()}
        scale = max(float(p.grad.abs().max()) for p in theirs.D.parameters())
        for key, p in theirs.D.named_parameters():
            size = float(p.grad.abs().max())  # that of the last bias is zero by nature: rounding
            error = np.abs(grads[key] - p.grad.numpy()).max() / (size if size > 1e-12 * scale else scale)
            if not error <= EXACT:
                raise SystemExit(f"{system}, {step}: the gradient of {key} differs by {error:.1e}")


def engines(system, n):
    """{(step, engine): a function that makes a step}."""
    layouts = {"PyTorch": torch.contiguous_format}
    if len(SHAPES[system]) == 3:
        layouts["PyTorch, channels_last"] = torch.channels_last
    made = {}
    for step, penalties in STEPS.items():
        made[step, "ours"] = ours = Ours(system, penalties, n)
        for name, layout in layouts.items():
            made[step, name] = Theirs(system, step, n, layout=layout).load(ours.D)
    return made


def measure(system, n, quick):
    """{(step, engine): median seconds of its block in each round}."""
    made, (rounds, count) = engines(system, n), (1, 1) if quick else COUNTS[system]
    found = {key: [] for key in made}
    for _ in range(rounds):
        for key, step in made.items():
            time.sleep(0 if quick else PAUSE)
            times = []
            for _ in range(count + 1):  # the first is not counted
                start = time.perf_counter()
                step()
                times.append(time.perf_counter() - start)
            found[key].append(statistics.median(times[1:]))
    return {key: np.array(values) for key, values in found.items()}


def report(system, quick):
    n = 4 if quick else BATCH
    check_equal(system)
    found = measure(system, n, quick)
    ours = {step: found[step, "ours"] for step in STEPS}
    theirs = {step: min((times for (of, name), times in found.items() if of == step and name != "ours"), key=np.median)
              for step in STEPS}
    for step in STEPS:
        against = ours[step] / theirs[step]
        told = map(np.median, (ours[step] / ours["plain"], theirs[step] / theirs["plain"], against,
                               against * theirs["plain"] / ours["plain"]))
        hoped = (HOPED.get((system, step)), None, None, HOPED_TO_PYTORCH if step != "plain" else None)
        ratios = " ".join(f"{ratio:>8.2f} {f'({bar:.2f})' if bar else '':<6}" for ratio, bar in zip(told, hoped))
        mine, its = (np.median(times[step]) * 1e3 for times in (ours, theirs))
        print(f"{system:<8} {n:>5} {step:<8} {mine:>8.2f} {its:>11.2f} {ratios}".rstrip(), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("critics", nargs="*", metavar="CRITIC", help="mlp, dcgan28 (default: both)")
    parser.add_argument("--quick", action="store_true", help="batches of 4, one step of each")
    args = parser.parse_args()
    for critic in args.critics:
        if critic not in SHAPES:
            parser.error(f"there is no critic {critic!r}: choose from {', '.join(SHAPES)}")
    print(f"{processor()}, NumPy {np.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    head = " ".join(f"{word:<15}" for word in ("ours / plain", "PyTorch / plain", "ours / PyTorch", "that / plain's"))
    print(f"{'critic':<8} {'batch':>5} {'step':<8} {'ours, ms':>8} {'PyTorch, ms':>11}  {head}".rstrip())
    for critic in args.critics or SHAPES:
        report(critic, args.quick)


if __name__ == "__main__":
    main()
