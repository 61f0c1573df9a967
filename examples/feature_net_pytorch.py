"""The feature net in PyTorch: samples of any framework, measured as `scratchgan evaluate` measures them.

Builds the network in torch.nn, loads the weights that come with this package, and checks on real digits that its
features and its probabilities of classes are those of this package, and its accuracy.

    python examples/feature_net_pytorch.py               # MNIST's 10,000 test images
    python examples/feature_net_pytorch.py --short       # 500 bundled digits, of other hands and made larger

Needs PyTorch: pip install "scratchgan[torch]". Writes feature_net.pt, a state dict for torch.load.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np

from scratchgan import data
from scratchgan.errors import UserError
from scratchgan.metrics import feature_net, feature_record
from scratchgan.metrics.features import WEIGHTS

TOLERANCE = 1e-5
BODY = 7  # layers; the features (N, 64) are the means of the maps (N, 64, 3, 3) that they make


def network():
    """Images (N, 1, 28, 28) in [0, 1] -> scores (N, 10). Its weights are strictly those of the file."""
    from safetensors.torch import load_file
    from torch import nn
    net = nn.Sequential(nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(),
                        nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(),
                        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Flatten(), nn.Dropout(0.4), nn.Linear(576, 128), nn.ReLU(),
                        nn.Linear(128, 10))
    net.load_state_dict(load_file(WEIGHTS), strict=True)
    return net.eval()


def features_and_probabilities(net, images):
    """(N, 64) and (N, 10) of images, uint8 or in [0, 1]."""
    import torch
    x = torch.from_numpy(images / np.float32(255) if images.dtype == np.uint8 else images)
    with torch.no_grad():
        maps = torch.cat([net[:BODY](part) for part in x.split(1000)])
        return maps.mean(dim=(2, 3)).numpy(), net[BODY:](maps).softmax(dim=1).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/examples"), help="for what it writes")
    parser.add_argument("--short", action="store_true", help="bundled digits, no download")
    args = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        print('PyTorch is not installed, so there is nothing to compare: pip install "scratchgan[torch]"')
        return

    import torch
    digits = data.load("digits", size=28) if args.short else data.load_mnist("test")
    images, labels = (each[:500] if args.short else each for each in (digits.images, digits.labels))
    net = network()
    theirs = features_and_probabilities(net, images)
    print(f"{len(images):,} images of {digits.name}, weights {feature_record()['sha256'][:16]}")
    for name, mine, other in zip(("features", "probabilities"), feature_net().features_and_probabilities(images),
                                 theirs, strict=True):
        error = np.abs(mine - other).max()
        print(f"{name:<14} {other.shape!s:<12} differ by {error:.1e} at most")
        if error > TOLERANCE:
            raise SystemExit(f"The {name} are not those of this package.")
    print(f"accuracy       {(theirs[1].argmax(axis=1) == labels).mean():.2%}")
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), args.out / "feature_net.pt")
    print(f"Wrote {args.out / 'feature_net.pt'}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"feature_net_pytorch.py: error: {error}")
