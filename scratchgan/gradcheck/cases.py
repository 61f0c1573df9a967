"""The layers and losses that `scratchgan gradcheck` checks, each in the shapes and settings where its code differs."""

import numpy as np

from scratchgan import layers, losses
from scratchgan.gradcheck.passes import Labelled


def layer_cases():
    """Layer name -> [(layer, input shape) or (layer, input shape, other arguments of check_layer), ...]."""
    whole = {"batch_of_one": False}  # the first axis is no batch
    rng = np.random.default_rng(1)  # not the seed that checks draw cotangents from
    wide = (8,), {"x": np.array([-800, -100, -40, -1, 0.5, 30, 100, 800.0])}  # beyond what an exponential can hold
    beside = layers.Sequential(layers.Embedding(4, 3), layers.Linear(3, 2))
    maps = layers.Sequential(layers.Embedding(3, 8), layers.Reshape(2, 2, 2))
    return {
        "Linear": [(layers.Linear(4, 3), (5, 4)), (layers.Linear(4, 3, bias=False), (5, 4)),
                   (layers.Linear(4, 3), (4,)), (layers.Linear(4, 3), (2, 3, 4)), (layers.Linear(4, 3), (0, 4))],
        "Conv2d": [(layers.Conv2d(2, 3, 3), (2, 2, 5, 4)), (layers.Conv2d(2, 4, (2, 3), (2, 1), 1), (2, 2, 5, 4)),
                   (layers.Conv2d(4, 2, 3, padding="same", dilation=2, groups=2, bias=False), (2, 4, 5, 5)),
                   (layers.Conv2d(3, 4, 4, 2, 1, bias=False), (2, 3, 8, 8)),
                   (layers.Conv2d(8, 6, 4, 2, 1), (2, 8, 8, 6)), (layers.Conv2d(2, 3, 3), (0, 2, 5, 4)),
                   (layers.Conv2d(2, 3, (3, 2)), (2, 5, 4), whole)],
        "ConvTranspose2d": [(layers.ConvTranspose2d(2, 3, 3), (2, 2, 4, 3)),
                            (layers.ConvTranspose2d(2, 4, (2, 3), (2, 3), 1, (1, 2)), (2, 2, 4, 3)),
                            (layers.ConvTranspose2d(4, 2, 3, 1, 0, 0, 2, False, 2), (2, 4, 3, 3)),
                            (layers.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), (2, 4, 4, 4)),
                            (layers.ConvTranspose2d(6, 8, 4, 2, 1), (2, 6, 4, 3)),
                            (layers.ConvTranspose2d(4, 3, 4, bias=False), (2, 4, 1, 1)),
                            (layers.ConvTranspose2d(3, 2, (2, 3), 2), (3, 2, 3), whole)],
        "LeakyReLU": [(layers.LeakyReLU(0.2), (4, 5)), (layers.LeakyReLU(-0.5), (4, 5)), (layers.LeakyReLU(), ())],
        "ReLU": [(layers.ReLU(), (4, 5)), (layers.ReLU(), (2, 3, 4))],
        "Tanh": [(layers.Tanh(), (4, 5)), (layers.Tanh(), ())],
        "Sigmoid": [(layers.Sigmoid(), (4, 5)), (layers.Sigmoid(), ()), (layers.Sigmoid(), *wide)],
        "Softplus": [(layers.Softplus(), (4, 5)), (layers.Softplus(2.0, 1.0), (4, 5)),
                     (layers.Softplus(0.5, -0.25), (4, 5)), (layers.Softplus(threshold=500), *wide)],
        "Flatten": [(layers.Flatten(), (3, 2, 2, 2)), (layers.Flatten(0, 1), (3, 2, 2))],
        "Unflatten": [(layers.Unflatten(1, (2, 3)), (4, 6))],
        "Reshape": [(layers.Reshape(2, -1), (4, 6))],
        "Dropout": [(layers.Dropout(0.4), (4, 5)), (layers.Dropout(0.0), (4, 5)),
                    (layers.Dropout(1.0), (4, 5), {"zero": ("x",)})],
        "Maxout": [(layers.Maxout(4, 3, 2), (5, 4)), (layers.Maxout(3, 2, 4), (2, 3, 3))],
        "Embedding": [(Labelled(layers.Concat(None, layers.Embedding(4, 3)), np.array([3, 0, 2, 3, 1])), (5, 2)),
                      (Labelled(layers.Concat(None, layers.Embedding(2, 1)), np.array([1, 0], "u1")), (2, 1, 2, 2))],
        "Concat": [(Labelled(layers.Concat(layers.Linear(3, 2), beside), np.array([1, 0, 0, 3])), (4, 3)),
                   (Labelled(layers.Sequential(layers.Concat(layers.Sequential(), maps), layers.Conv2d(3, 2, 2),
                                               layers.LeakyReLU()), np.array([2, 0])), (2, 1, 2, 2))],
        "AvgPool2d": [(layers.AvgPool2d(2), (2, 2, 4, 5)), (layers.AvgPool2d((3, 2), 2, 1), (2, 2, 5, 4)),
                      (layers.AvgPool2d(3, 2, 1, True, False), (2, 1, 4, 5)),
                      (layers.AvgPool2d(3, 2, 1, True, True), (1, 2, 4, 5)),
                      (layers.AvgPool2d(2, 3, 0, True), (1, 1, 3, 4)),
                      (layers.AvgPool2d(3, 1, 1, False, False), (1, 1, 3, 4)),
                      (layers.AvgPool2d(2, 1, divisor_override=3), (2, 4, 3)), (layers.AvgPool2d(2), (0, 2, 4, 4))],
        "MaxPool2d": [(layers.MaxPool2d(2), (2, 2, 4, 5)), (layers.MaxPool2d((3, 2), 1, 1), (2, 1, 4, 4)),
                      (layers.MaxPool2d(2, 2, 0, 2, ceil_mode=True), (2, 4, 5)), (layers.MaxPool2d(2), (0, 2, 4, 4)),
                      (layers.MaxPool2d(2, 3, ceil_mode=True), (1, 1, 3, 4)), (layers.MaxPool2d(12), (1, 1, 12, 12))],
        "Upsample": [(layers.Upsample(scale_factor=2), (2, 2, 2, 3)), (layers.Upsample((5, 2)), (2, 1, 3, 4)),
                     (layers.Upsample(scale_factor=1.7), (2, 2, 3)), (layers.Upsample(scale_factor=2), (0, 2, 2, 2)),
                     (layers.Upsample((1, 4, 3)), (2, 1, 2, 2, 3)),
                     (layers.Upsample(scale_factor=(3, 0.5)), (1, 2, 2, 4))],
        "BatchNorm1d": [(layers.BatchNorm1d(3), (5, 3)), (layers.BatchNorm1d(3, 1e-2, None), (2, 3, 4)),
                        (layers.BatchNorm1d(3, affine=False), (5, 3)), (layers.BatchNorm1d(3), (0, 3)),
                        (layers.BatchNorm1d(3), *values(rng, (6, 3), 3e3))],
        "BatchNorm2d": [(layers.BatchNorm2d(3), (2, 3, 2, 3)), (layers.BatchNorm2d(3, affine=False), (2, 3, 2, 3)),
                        (layers.BatchNorm2d(3, 0.1, track_running_stats=False), (4, 3, 1, 1)),
                        (layers.BatchNorm2d(2), *values(rng, (3, 2, 2, 2), -3e3))],
        "InstanceNorm2d": [(layers.InstanceNorm2d(3), (2, 3, 2, 3)),
                           (layers.InstanceNorm2d(2, affine=True), (2, 3, 3), whole),
                           (layers.InstanceNorm2d(2, 0.1, 0.3, True, True), (2, 2, 2, 3)),
                           (layers.InstanceNorm2d(2), *values(rng, (2, 2, 3, 3), 3e3))],
        "LayerNorm": [(layers.LayerNorm(4), (3, 4)), (layers.LayerNorm((3, 2), bias=False), (2, 2, 3, 2)),
                      (layers.LayerNorm(4, 0.1, False), (4,)), (layers.LayerNorm(4), (0, 4)),
                      (layers.LayerNorm(4), *values(rng, (3, 4), 3e3)),
                      (layers.LayerNorm(500, 1e-12), *values(rng, (2, 500), 0, 1e-4))],
        "AutoencoderEnergy": [
            (layers.AutoencoderEnergy(layers.Linear(4, 3), layers.Linear(3, 4)), (3, 4)),
            (layers.AutoencoderEnergy(layers.Conv2d(1, 2, 2, 2), layers.ConvTranspose2d(2, 1, 2, 2)), (2, 1, 4, 4))],
        "spectral_norm": [(layers.spectral_norm(layers.Linear(4, 3)), (5, 4)),
                          (layers.spectral_norm(layers.Conv2d(2, 3, 3)), (2, 2, 4, 4)),
                          (layers.spectral_norm(layers.ConvTranspose2d(3, 2, 2, 2)), (2, 3, 2, 2)),
                          (layers.spectral_norm(layers.Linear(4, 3), n_power_iterations=2, dim=1), (5, 4)),
                          (layers.spectral_norm(layers.Conv2d(2, 3, (3, 2)), dim=-1), (2, 2, 4, 4))],
        "Sequential": [(layers.Sequential(layers.Linear(4, 5), layers.Tanh(),
                                          layers.Sequential(layers.Linear(5, 3), layers.LeakyReLU(0.2))), (3, 4)),
                       (layers.Sequential(layers.Flatten(), layers.Tanh(), layers.Linear(4, 2)), (3, 2, 2)),
                       (layers.Sequential(layers.Tanh(), layers.Sequential(layers.LeakyReLU(0.2))), (3, 4)),
                       (layers.Sequential(layers.Linear(4, 5), layers.LeakyReLU(0.2), layers.Linear(5, 2)), (3, 4)),
                       (layers.Sequential(), (3, 4))],
    }


def values(rng, shape, mean, spread=1.0):
    """(shape, arguments of check_layer): values about `mean`, which central differences cannot take."""
    return shape, {"x": mean + spread * rng.standard_normal(shape), "differences": False}


def loss_cases():
    """Loss name -> [(loss, arguments of check_loss), ...]."""
    weight = np.array([0.5, 1.0, 2.0])
    rng = np.random.default_rng(1)  # not the seed that checks draw cotangents from
    scores = {"input": rng.standard_normal((4, 3, 2)), "target": np.array([[0, 1], [2, 1], [0, 0], [1, 2]])}
    ignored = {"input": scores["input"][..., 0], "target": np.array([0, -100, 2, 1])}
    far = {"input": np.array([[90, 89.5, -10], [-20, -100, -99]]), "target": np.array([1, 2])}  # exp(90) in float32
    one = {"input": scores["input"][0, :, 0], "target": np.array(2)}
    return {
        "MSELoss": [(losses.MSELoss(reduction), {}) for reduction in losses.REDUCTIONS],
        "BCELoss": [(losses.BCELoss(weight, reduction), {}) for reduction in losses.REDUCTIONS],
        "BCEWithLogitsLoss": [(losses.BCEWithLogitsLoss(), {}),
                              (losses.BCEWithLogitsLoss(weight, "sum", 3 * weight), {}),
                              (losses.BCEWithLogitsLoss(None, "none", 3.0), {})],
        "CrossEntropyLoss": [(losses.CrossEntropyLoss(), {}), (losses.CrossEntropyLoss(), scores),
                             (losses.CrossEntropyLoss(weight), ignored), (losses.CrossEntropyLoss(), one),
                             (losses.CrossEntropyLoss(), far),
                             (losses.CrossEntropyLoss(weight, reduction="none"), {"shape": (3,)}),
                             (losses.CrossEntropyLoss(weight, 1, "mean", 0.1), scores),
                             (losses.CrossEntropyLoss(weight, 1, "none", 0.1), scores),
                             (losses.CrossEntropyLoss(weight, reduction="sum", label_smoothing=0.3), {})],
    }


def objective_cases():
    """Objective name -> [(objective, arguments of check_objective), ...]."""
    from scratchgan.gan import objectives  # a floor above this one

    extended = objectives.get("non-saturating", 0.5, 0.1, 0.01)
    others = {"non-saturating": [(objectives.NonSaturating(scale_d=0.5), {}),
                                 (extended, {"name": "objective non-saturating, smoothed labels, drift"})],
              "energy-margin": [(objectives.EnergyMargin(2.5), {})]}
    return {name: [(row, {}), *others.get(name, [])] for name, row in objectives.TABLE.items()}
