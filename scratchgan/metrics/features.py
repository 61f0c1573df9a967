"""The feature net: the classifier of MNIST whose features and probabilities samples of digits are measured by.

Its weights lie beside this file: `mnist.safetensors`, a state dict that the same `torch.nn.Sequential` loads, and
`mnist.json`, which says how they were made, their accuracy on the 10,000 test images, and their SHA-256. There is no
standard net for MNIST: a figure says little without the SHA-256 of the net that it was measured with.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from scratchgan.errors import UserError

WEIGHTS = Path(__file__).parent / "mnist.safetensors"
RECORD = WEIGHTS.with_suffix(".json")


def feature_net(device="cpu"):
    """The net, a `Classifier`: `features(images)` (N, 64) and `probabilities(images)` (N, 10) of images
    (N, 1, 28, 28), uint8 or in [0, 1]. It is one and the same for all callers on a device: leave it as it is.

    `UserError` where its files are not those that this package came with.
    """
    from scratchgan import backend
    return _made(backend.device(device))


@cache
def _made(device):
    from safetensors.numpy import load

    from scratchgan import recipes  # an upper floor, whose games use other measures
    record, data = feature_record(), read(WEIGHTS)
    found = hashlib.sha256(data).hexdigest()
    if found != record["sha256"]:
        raise UserError(f"{WEIGHTS} is not the file that {RECORD.name} describes (its SHA-256 is {found[:12]}..., not "
                        f"{record['sha256'][:12]}...): install scratchgan again.")
    system = recipes.get(record["recipe"]).build(record["seed"], "cpu", record["facts"], **record["settings"])
    system.network.load_state_dict(load(data))
    system.network.to(device).eval()
    return system


def feature_record():
    """What `mnist.json` says: "command", "recipe", "seed", "settings", "facts", "steps", "accuracy", "sha256", ..."""
    return json.loads(read(RECORD))


def read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): install scratchgan again.") from error
