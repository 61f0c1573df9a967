"""What the stages of `gpu_day.sh` share: games, batches, waiting, timing."""

import time
from importlib.util import find_spec

import numpy as np

IMAGES = {"mlp": (1, 28, 28), "dcgan28": (1, 28, 28), "dcgan64": (3, 64, 64)}
FULL = {"mlp": {}, "dcgan28": {}, "dcgan64": {"channels": 3}}
SMALL = {"mlp": {"z_dim": 4}, "dcgan28": {"z_dim": 4, "ngf": 2, "ndf": 2},
         "dcgan64": {"z_dim": 4, "ngf": 2, "ndf": 2, "channels": 3}}
CASES = (("mlp", 64), ("mlp", 512), ("dcgan28", 64), ("dcgan64", 16), ("dcgan64", 64))


def game_of(recipe, device, settings, dtype="float32"):
    from scratchgan import recipes
    game = recipes.get(recipe).build(seed=0, device=device, **settings)
    for network in game.networks.values():
        network.to(dtype=dtype)
    return game


def batches(recipe, size, count=8, dtype=np.float32):
    """Random images in [-1, 1], on the host."""
    return np.random.default_rng(0).uniform(-1, 1, (count, size, *IMAGES[recipe])).astype(dtype)


def synchronise():
    import cupy
    cupy.cuda.Device().synchronize()  # for all of the process, PyTorch's work, too


def torch_on_device():
    """PyTorch if it is here and sees the device, without TF32 and with cuDNN's search for the fastest algorithm."""
    if not find_spec("torch"):
        return None
    import torch
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return torch


def steps_within(step, seconds, short):
    """How many steps to measure at a time, 2 to 15, so that they take about so long; makes a few of them first."""
    timed(step, 3)
    return 2 if short else max(2, min(15, int(1e3 * seconds / timed(step, 2))))


def timed(step, count):
    """Milliseconds a step, waiting for the device before and after."""
    synchronise()
    start = time.perf_counter()
    for _ in range(count):
        step()
    synchronise()
    return (time.perf_counter() - start) / count * 1e3
