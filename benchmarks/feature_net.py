"""The feature net of `scratchgan.metrics` out of a run of the recipe `classifier`: its weights, and how they were made.

    scratchgan train classifier --data mnist --seed 0 --device cpu --threads 1 --out runs/classifier
    python benchmarks/feature_net.py runs/classifier

Writes scratchgan/metrics/mnist.safetensors, the newest checkpoint's weights as they are, and mnist.json beside it:
the command, seed, settings, versions, the accuracy on the 10,000 test images, the SHA-256 of weights and of data.
Figures measured before are not to be compared with those that are measured by another net.
"""

import argparse
import hashlib
import json
from pathlib import Path

import scratchgan
from scratchgan import data
from scratchgan.metrics.features import RECORD, WEIGHTS
from scratchgan.training import RunFolder, checkpoint

COMMAND = "scratchgan train classifier --data mnist --seed {seed} --device {device} --threads {threads}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    folder = RunFolder.open(run, lock=False)
    newest, _ = checkpoint.newest(folder.checkpoints, print)
    weights = next(folder.checkpoints.rglob(f"step-{newest.step:08d}/classifier.safetensors")).read_bytes()
    system, test, config = scratchgan.load(run), data.load_mnist("test"), folder.config
    record = {"command": COMMAND.format(**config), "recipe": config["recipe"], "seed": config["weights_seed"],
              "steps": system.steps, "batch_size": config["batch_size"], "settings": config["settings"],
              "facts": config["facts"], "accuracy": system.accuracy(test.images, test.labels),
              "test_sha256": test.sha256, "data_sha256": config["data"]["sha256"], "versions": config["versions"],
              "sha256": hashlib.sha256(weights).hexdigest()}
    WEIGHTS.write_bytes(weights)
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{record['accuracy']:.2%} of {len(test):,} test images right, {system.network.theta.size:,} parameters, "
          f"{len(weights):,} bytes, SHA-256 {record['sha256']}")


if __name__ == "__main__":
    main()
