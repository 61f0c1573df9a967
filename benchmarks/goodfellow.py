"""Does the recipe goodfellow learn as the same protocol in PyTorch does? Parzen log-likelihoods, side by side.

    pip install -e ".[torch]"
    for s in 0 1 2; do scratchgan train goodfellow --data mnist --epochs 10 --seed $s --checkpoint-every 5000 \\
        --keep 20 --out gf/ours-$s; done
    python benchmarks/goodfellow.py --check                                  # do both make the same step?
    python benchmarks/goodfellow.py --seeds 0 1 2 --epochs 10 --out gf/peer --ours gf/ours-*

The replica is `GoodfellowBest` of peers.py with PyTorch's own random numbers: first weights, order of the images, z,
masks. It learns the first 50,000 training images in batches of 100. Every `--every` epochs 10,000 of its samples are
measured: the log-likelihood of the 10,000 test images, with sigma chosen on 1,000 validation images
(`scratchgan.metrics.parzen`). A run of ours is measured in the same way at all its checkpoints of such epochs. A seed
is a training of its own in either engine: there are no pairs.

Every measurement is a line of JSON in the folder `--out`: engine, seed, epoch, nats, its standard error, sigma. What
was trained and measured before is not done again: to go on, give more `--epochs`. The table is of all lines there, runs
of ours on CUDA among them, which have a curve of their own in the picture. Its last column is the mean of ours less the
mean of the replica's, in standard deviations over the replica's seeds (n - 1), where there are two and more.
`--picture` draws nats by epoch, beside published figures and real images.
"""

import argparse
import json
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

BATCH, EPOCH, SAMPLES = 100, 500, 10_000  # images in a batch, batches in an epoch, samples that are measured
# Goodfellow et al. 2014, table 1: nats and their standard error
PUBLISHED = {"adversarial nets": (225, 2), "deep GSN": (214, 1.1), "DBN": (138, 2), "stacked CAE": (121, 1.6)}
REAL = 243  # by this protocol, of 10,000 training images: `scratchgan evaluate`


class Figures:
    """The lines of one engine and seed in a folder."""

    def __init__(self, out, engine, seed):
        self.path, self.engine, self.seed = out / f"{engine}-{seed}.jsonl", engine, seed
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.epochs = {json.loads(line)["epoch"] for line in lines}

    def measure(self, epoch, samples, measured):
        """Adds the line of an epoch, unless it is there; samples() gives what is measured."""
        if epoch in self.epochs:
            return
        figures = measured(samples())
        line = json.dumps({"engine": self.engine, "seed": self.seed, "epoch": epoch, "nats": figures["parzen"],
                           "se": figures["parzen_se"], "sigma": figures["sigma"]})
        with self.path.open("a") as file:
            file.write(line + "\n")
        self.epochs.add(epoch)
        print(line, flush=True)


def measurement():
    """A function of samples: `parzen` on MNIST."""
    from scratchgan.data import load_mnist
    from scratchgan.metrics.measures import validation_images
    from scratchgan.metrics.parzen import parzen
    validation, test = validation_images(load_mnist("train")), load_mnist("test").images / np.float32(255)
    return lambda samples: parzen(samples, test, validation)


# -- the replica ---------------------------------------------------------------------------------------------------


def begun(seed, images):
    """The replica with its first weights, and PyTorch's random numbers at their start."""
    import torch
    from peers import GoodfellowBest
    torch.manual_seed(seed)
    game = GoodfellowBest("goodfellow")
    with torch.no_grad():
        game.G[-2].bias.copy_(torch.logit(images.double().mean(0), eps=1e-7))
    return game


def players(game):
    return game.G, game.D, game.optimizer_g, game.optimizer_d


def save(game, path):
    import torch
    state = {"players": [player.state_dict() for player in players(game)], "random": torch.get_rng_state(),
             "steps": game.steps, "lr_before": game.lr_before}
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def restore(game, path):
    import torch
    state = torch.load(path, weights_only=True)
    for player, its in zip(players(game), state["players"]):
        player.load_state_dict(its)
    torch.set_rng_state(state["random"])
    game.steps, game.lr_before = state["steps"], state["lr_before"]


def train(seed, epochs, every, out, images, measured):
    import torch
    path, figures = out / f"replica-{seed}.pt", Figures(out, "replica", seed)
    game = begun(seed, images)
    if path.exists():
        restore(game, path)
    for epoch in range(game.steps // EPOCH + 1, epochs + 1):
        start = time.perf_counter()
        for rows in torch.randperm(len(images)).split(BATCH):
            game.random_step(images[rows])
        print(f"replica {seed}: epoch {epoch}, {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
        if epoch % every == 0 or epoch == epochs:
            figures.measure(epoch, partial(samples_of, game, seed), measured)
        save(game, path)


def samples_of(game, seed):
    import torch
    z = torch.empty(SAMPLES, 100).uniform_(-3**0.5, 3**0.5, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return game.G(z).reshape(-1, 1, 28, 28).numpy()


# -- ours ----------------------------------------------------------------------------------------------------------


def samples_of_ours(checkpoint, seed):
    import scratchgan
    return scratchgan.load(checkpoint).sample(SAMPLES, seed=seed)


def measure_ours(run, every, out, measured):
    config = json.loads((run / "config.json").read_text())
    seed = config["seed"]
    figures = Figures(out, "ours" if config["device"] == "cpu" else "ours-cuda", seed)
    for checkpoint in sorted(run.glob("checkpoints/step-*")):
        epoch, rest = divmod(int(checkpoint.name.removeprefix("step-")), EPOCH)
        if epoch and not rest and not epoch % every:
            figures.measure(epoch, partial(samples_of_ours, checkpoint, seed), measured)


# -- both ----------------------------------------------------------------------------------------------------------


def check():
    """`SystemExit` unless both engines make the same steps, by the same rates at every age."""
    import step
    from peers import GoodfellowBest
    step.check_equal("goodfellow", BATCH, compiled=False, quick=False)
    game, peer = step.our_game("goodfellow"), GoodfellowBest("goodfellow")
    for steps in (0, 1, 499, 500, 5_000, 124_499, 124_500, 10**6, 10**7):
        peer.steps = steps
        for optimizer in game.optimizers.values():
            if not np.allclose(optimizer.scheduled(steps), peer.rates(), rtol=1e-12, atol=0):
                raise SystemExit(f"After {steps} steps the rates are {optimizer.scheduled(steps)} and {peer.rates()}")
    print("Both make the same steps from the same numbers: 1e-8 in float64; rates and momenta agree")


def lines_of(out):
    return [json.loads(line) for path in sorted(out.glob("*.jsonl")) for line in path.read_text().splitlines()]


def draw(lines, path):
    """Nats by epoch, a curve for each engine and seed."""
    from matplotlib.figure import Figure
    axes = Figure(figsize=(7, 4), layout="constrained").subplots()
    for engine, label, color in (("ours-cuda", "scratchgan, on CUDA", "tab:green"), ("ours", "scratchgan", "tab:blue"),
                                 ("replica", "the same in PyTorch", "tab:orange")):
        its = [line for line in lines if line["engine"] == engine]
        for seed in sorted({line["seed"] for line in its}):
            curve = sorted((line["epoch"], line["nats"]) for line in its if line["seed"] == seed)
            axes.plot(*zip(*curve), ".-", color=color, label=label)
            label = None  # in the legend once
    marks = {f"{name}, as published": nats for name, (nats, _) in PUBLISHED.items()} | {"real images": REAL}
    for name, nats in marks.items():
        axes.axhline(nats, color="grey", linewidth=0.8, linestyle=":")
        axes.text(0.2, nats, name, transform=axes.get_yaxis_transform(), fontsize=8,
                  va="top" if name.startswith("deep GSN") else "bottom")  # too near the next one
    axes.set(xlabel="epoch", ylabel="log-likelihood of the test images, nats", ylim=(None, 260))
    axes.legend(loc="lower right")
    axes.figure.savefig(path, dpi=100)


def table(lines):
    rows = [f"{'epoch':>5}  {'ours, by seed':<24} {'replica, by seed':<24} {'mean':>6} {'sd':>5} {'ours - mean':>11} "
            f"{'in sd':>6}"]
    for epoch in sorted({line["epoch"] for line in lines}):
        ours, theirs = ([line["nats"] for line in sorted(lines, key=lambda line: line["seed"])
                         if line["engine"].startswith(engine) and line["epoch"] == epoch]
                        for engine in ("ours", "replica"))
        row = f"{epoch:>5}  " + " ".join(f"{' '.join(f'{nats:.1f}' for nats in each):<24}" for each in (ours, theirs))
        if ours and theirs:
            mean, difference = statistics.mean(theirs), statistics.mean(ours) - statistics.mean(theirs)
            sd = statistics.stdev(theirs) if len(theirs) > 1 else float("nan")
            row += f" {mean:>6.1f} {sd:>5.1f} {difference:>11.1f} {difference / sd:>6.1f}"
        rows.append(row)
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="whether both engines make the same steps")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="train the replica with these")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--every", type=int, default=10, metavar="N", help="epochs between measurements")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ours", type=Path, nargs="*", default=[], metavar="RUN", help="run folders of ours")
    parser.add_argument("--out", type=Path, default=Path("goodfellow-replica"), help="checkpoints and figures")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw the figures here")
    args = parser.parse_args()
    if args.check:
        return check()
    import torch
    from threadpoolctl import threadpool_limits

    from scratchgan.data import load_mnist
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(args.threads):
        measured = measurement() if args.seeds or args.ours else None
        if args.seeds:
            images = torch.from_numpy(load_mnist("train50k").images.reshape(-1, 784)) / 255
        for seed in args.seeds:
            train(seed, args.epochs, args.every, args.out, images, measured)
        for run in args.ours:
            measure_ours(run, args.every, args.out, measured)
    lines = lines_of(args.out)
    print(table(lines))
    if args.picture:
        draw(lines, args.picture)


if __name__ == "__main__":
    main()
