"""How many samples of a run does a classifier take for a digit?

Trains a classifier of three fully connected layers on the real images, with this package's own layers, then shows
it 1,000 samples of a run, 1,000 images of uniform noise and 1,000 samples of the same generator before training. A
sample counts when the classifier gives one digit more than 0.9.

    python examples/classifier.py --run runs/mlp                 # or runs/dcgan28, trained on MNIST: two minutes
    python examples/classifier.py --short                        # bundled digits, a small GAN: seconds

Writes classifier.png: samples in rows by the digit they are taken for, the surest first.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import scratchgan
from scratchgan import data, random
from scratchgan.errors import UserError
from scratchgan.layers import Dropout, Flatten, Linear, ReLU, Sequential
from scratchgan.losses import CrossEntropyLoss
from scratchgan.optimizers import Adam
from scratchgan.system import scaled

CONFIDENT = 0.9
SAMPLES = 1000


def train_classifier(dataset, epochs, batch_size=100, seed=0):
    network = Sequential(Flatten(),
                         Linear(784, 512), ReLU(), Dropout(0.3),
                         Linear(512, 256), ReLU(), Dropout(0.3),
                         Linear(256, 10)).initialize(seed, "classifier")
    loss, batches = CrossEntropyLoss(), dataset.batches(batch_size, seed)
    steps = epochs * batches.steps_per_epoch
    optimizer = Adam(network, lr=lambda step: 1e-3 * (1 - step / steps))
    for step in range(steps):
        images, labels = batches.batch(step)
        network.set_step(seed, step)
        loss.forward(network.forward(scaled(images)), labels)
        optimizer.zero_grad()
        network.backward(loss.backward(), wrt="params")
        optimizer.step()
    return network.eval()


def probabilities(network, images, chunk=1000):
    """softmax of the scores: (N, 10)."""
    scores = np.concatenate([network(images[i:i + chunk]) for i in range(0, len(images), chunk)])
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def report(name, p):
    """One line of the table: the share of confident samples, and how they spread over the digits."""
    sure = p.max(axis=1) > CONFIDENT
    counts = np.bincount(p.argmax(axis=1)[sure], minlength=10)
    smallest = counts.min() / max(1, sure.sum())
    print(f"{name:<22} {sure.mean():>9.1%}   {smallest:>14.1%}   {' '.join(f'{c:>4}' for c in counts)}")


def picture(samples, p, path, columns=16):
    from PIL import Image
    rows = []
    for digit in range(10):
        mine = np.flatnonzero(p.argmax(axis=1) == digit)
        best = mine[np.argsort(-p[mine, digit], kind="stable")][:columns]
        row = np.full((columns, 28, 28), -1, np.float32)
        row[:len(best)] = samples[best, 0]
        rows.append(np.concatenate(list(row), axis=1))
    grid = np.concatenate(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8((grid + 1) * 127.5)).resize((columns * 56, 560), Image.Resampling.NEAREST).save(path)
    print(f"Wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a run folder of `scratchgan train`")
    parser.add_argument("--epochs", type=int, default=12, help="of the classifier (default 12)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/examples"), help="for what it writes")
    parser.add_argument("--short", action="store_true", help="bundled digits and a GAN of 1,500 steps")
    args = parser.parse_args()
    if not args.run and not args.short:
        parser.error("give a run to look at with --run RUN, or --short for a small one made here")

    if args.short:
        everything = data.load("digits")
        train, test = everything, everything
        game = scratchgan.recipes.get("mlp").build(seed=0)
        scratchgan.fit(game, train, steps=1500)
    else:
        game = scratchgan.load(args.run)
        if game.sample_shape != (1, 28, 28):
            parser.error(f"{args.run} makes images {'x'.join(map(str, game.sample_shape))}, the classifier knows "
                         "1x28x28: give a run of mlp, or of dcgan28 on MNIST")
        train, test = data.load_mnist("train"), data.load_mnist("test")

    network = train_classifier(train, args.epochs)
    right = probabilities(network, scaled(test.images)).argmax(axis=1) == test.labels
    print(f"Classifier: {right.mean():.2%} of {len(test):,} {'training' if args.short else 'test'} images right\n")

    record = game.record
    untrained = scratchgan.recipes.get(record["name"]).build(1, "cpu", record["facts"], **record["settings"])
    samples = game.sample(SAMPLES, seed=1)
    print(f"{'1,000 of':<22} {'above 0.9':>9}   {'rarest digit':>14}   {' '.join(f'{d:>4}' for d in range(10))}")
    p = probabilities(network, samples)
    report("the trained generator", p)
    noise = random.uniform((SAMPLES, 1, 28, 28), 0, "example/noise", low=-1.0, high=1.0)
    report("uniform noise", probabilities(network, noise))
    report("an untrained generator", probabilities(network, untrained.sample(SAMPLES, seed=1)))
    picture(samples, p, args.out / "classifier.png")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"classifier.py: error: {error}")
