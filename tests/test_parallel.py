"""Several ranks against one: the same system, from shares of the same batches."""

import numpy as np
import pytest
from simulated_ranks import apart, in_ranks

from scratchgan import ranks, recipes
from scratchgan.data.batches import share

STEPS, N = 3, 12
IMAGES = np.random.default_rng(0).integers(0, 256, (STEPS * N, 1, 28, 28), np.uint8)
LABELS = np.arange(STEPS * N) % 10

WITHOUT_NORM = {
    "mlp": ("mlp", {"ema": 3.0}),
    "n_critic, instance noise, weight decay": (
        "mlp", {"n_critic": 2, "instance_noise": 0.1, "weight_decay_d": 1e-3}),
    "goodfellow: dropout in one batch of real and fake": ("goodfellow", {"scale_gradient": 10.0}),
    "goodfellow, packs": ("goodfellow", {"pack": 2}),
    "packs, of 5": ("mlp", {"pack": 5}),
    "r1 and r2 with pairs": ("r3gan28", {}),
    "r1 by complex step": ("mlp", {"r1": 0.5, "pack": 2}),
    "points between": ("mlp", {"objective": "wasserstein", "gp": 10.0, "n_critic": 3}),
    "unrolled": ("mlp", {"unroll": 2}),
    "unrolled, pairs": ("mlp", {"objective": "relativistic", "unroll": 1}),
    "growing": ("progressive", {}),
    "vae": ("vae", {}),
    "classifier": ("classifier", {}),
}
WITH_NORM = {
    "dcgan28": ("dcgan28", {}),
    "both in one batch": ("dcgan28", {"joint_batch": True}),
    "wgan-gp": ("wgan-gp", {"n_critic": 2}),
    "cgan": ("cgan", {}),
    "dcgan28, unrolled": ("dcgan28", {"unroll": 1}),
}


def trained(name, settings, each=ranks.ALONE, sync_bn=False, dtype="float64"):
    """A small system of the recipe after some steps on shares of the same batches, and its metrics."""
    recipe = recipes.get(name)
    system = recipe.build(0, **{**recipe.small, **settings})
    for network in system.networks.values():
        network.to(dtype=dtype)
    rows = []
    for step in range(STEPS):
        part = share(N, each.rank, each.size, system.pack)
        kept = slice(step * N + part.start, step * N + part.stop)
        total = N if each.size == 1 else N // system.pack * system.pack
        mine = ranks.Share(part.start, part.stop - part.start, total, sync_bn, each)
        with ranks.learning(mine):
            metrics = system.step(IMAGES[kept], LABELS[kept])
            rows.append({key: float(mine.mean(np.float64(value))) for key, value in metrics.items()})
    return system, rows


def closeness(name, settings, size, sync_bn=False):
    one, of_one = trained(name, settings)
    several = in_ranks(size, lambda each: trained(name, settings, each, sync_bn))
    rows = max(abs(row[key] - its[key]) / max(1, abs(row[key]))
               for row, its in zip(of_one, several[0][1], strict=True) for key in row)
    assert several[0][1] == several[1][1]
    return max(apart(one, system) for system, _ in several), rows


@pytest.mark.parametrize("case", WITHOUT_NORM)
def test_two_ranks_are_one(case):
    assert max(closeness(*WITHOUT_NORM[case], 2)) < 1e-10


@pytest.mark.parametrize("case", WITH_NORM)
def test_two_ranks_are_one_with_sync_bn(case):
    assert max(closeness(*WITH_NORM[case], 2, sync_bn=True)) < 1e-10
