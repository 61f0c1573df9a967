"""The Frechet distance in the features of the Inception net, for comparison with published figures.

Protocol: 10,000 samples against the 10,000 test images of MNIST; each image as bytes, its one channel three times;
features are the 2,048 of the last pooling layer; the distance is that of `frechet`. So measured, with the best of many
settings, on MNIST: non-saturating GAN 6.8, WGAN 6.7, WGAN-GP 20.3, means over trainings with other seeds.

Source: Lucic et al. 2018, "Are GANs created equal? A large-scale study", section 5 and table 2; Heusel et al. 2017,
"GANs trained by a two time-scale update rule converge to a local Nash equilibrium".

The net is that of torch-fidelity: its weights, downloaded at first use, and its way of resizing images to 299x299 are
those that the studies used.
"""

import importlib
from functools import cache

import numpy as np

from scratchgan.errors import UserError
from scratchgan.metrics.frechet import frechet

NET, LAYER, SIZE = "inception-v3-compat", "2048", 2048
AT_ONCE = 50


def inception_frechet(real, fake, seed=0):
    """`frechet` of two sets of these features: {"inception-frechet", "inception-frechet_se"}; the error takes minutes,
    for the eigenvalues of matrices of 2,048 rows."""
    return {f"inception-{name}": value for name, value in frechet(real, fake, seed).items()}


def inception_features(images, device="cpu"):
    """What the Inception net sees in images (N, 1 or 3, H, W), uint8 or in [0, 1]: float32 (N, 2048).

    `UserError` as `inception_net`. Ten thousand images take seconds on a GPU, up to an hour on a CPU.
    """
    net, features = inception_net(device), np.empty((len(images), SIZE), np.float32)
    torch = importlib.import_module("torch")
    device = next(net.parameters()).device
    for start in range(0, len(images), AT_ONCE):
        x = images[start:start + AT_ONCE]
        x = x if x.dtype == np.uint8 else np.rint(x * 255).astype(np.uint8)
        x = np.ascontiguousarray(np.broadcast_to(x, (len(x), 3, *x.shape[2:])))
        with torch.no_grad():
            features[start:start + AT_ONCE] = net(torch.from_numpy(x).to(device))[0].cpu().numpy()
    return features


@cache
def inception_net(device="cpu"):
    """The net, a `torch.nn.Module`, on the CPU, or for "cuda" on the GPU if PyTorch has one. `UserError` where
    torch-fidelity cannot be imported, or where the weights are neither on this machine nor can be downloaded."""
    fidelity, torch = torch_fidelity(), importlib.import_module("torch")
    device = device if torch.cuda.is_available() else "cpu"
    try:
        return fidelity.FeatureExtractorInceptionV3(NET, [LAYER]).eval().to(device)
    except (OSError, RuntimeError) as error:  # no network, or a file that is not whole
        raise UserError(f"The Inception net cannot be made ({reason(error)}): its weights are downloaded from "
                        "github.com at first use; use inception-frechet on a machine with a network, or leave it out"
                        ) from error


def torch_fidelity():
    """The package; `UserError` where it cannot be imported."""
    try:
        return importlib.import_module("torch_fidelity")
    except ModuleNotFoundError as error:
        raise UserError(f"inception-frechet needs torch-fidelity, and the package {error.name} is not installed here: "
                        'pip install "scratchgan[fidelity]"') from error
    except Exception as error:  # whatever PyTorch, torchvision and it have against one another
        raise UserError(f"inception-frechet needs torch-fidelity, which cannot be imported here ({reason(error)}): "
                        'pip install "scratchgan[fidelity]" in an environment of its own') from error


def inception_facts():
    """{"inception_net": which net and package}, for records of results."""
    return {"inception_net": f"{NET} of torch-fidelity {torch_fidelity().__version__}"}


def reason(error):
    """The first line of an error."""
    return (str(error).splitlines() or [type(error).__name__])[0]
