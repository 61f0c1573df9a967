"""The layers and losses that `scratchgan gradcheck` checks, each in the shapes and settings where its code differs."""

import numpy as np

from scratchgan import layers, losses


def layer_cases():
    """Layer name -> [(layer, input shape) or (layer, input shape, other arguments of check_layer), ...]."""
    whole = {"batch_of_one": False}  # one of them would be no batch, or one value a channel, which has no variance
    return {
        "Linear": [(layers.Linear(4, 3), (5, 4)), (layers.Linear(4, 3, bias=False), (5, 4)),
                   (layers.Linear(4, 3), (4,)), (layers.Linear(4, 3), (2, 3, 4)), (layers.Linear(4, 3), (0, 4))],
        "Conv2d": [(layers.Conv2d(2, 3, 3), (2, 2, 5, 4)), (layers.Conv2d(2, 4, (2, 3), (2, 1), 1), (2, 2, 5, 4)),
                   (layers.Conv2d(4, 2, 3, padding="same", dilation=2, groups=2, bias=False), (2, 4, 5, 5)),
                   (layers.Conv2d(3, 4, 4, 2, 1, bias=False), (2, 3, 8, 8)),
                   (layers.Conv2d(8, 6, 4, 2, 1), (2, 8, 8, 6)), (layers.Conv2d(2, 3, 3), (0, 2, 5, 4))],
        "ConvTranspose2d": [(layers.ConvTranspose2d(2, 3, 3), (2, 2, 4, 3)),
                            (layers.ConvTranspose2d(2, 4, (2, 3), (2, 3), 1, (1, 2)), (2, 2, 4, 3)),
                            (layers.ConvTranspose2d(4, 2, 3, 1, 0, 0, 2, False, 2), (2, 4, 3, 3)),
                            (layers.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), (2, 4, 4, 4)),
                            (layers.ConvTranspose2d(6, 8, 4, 2, 1), (2, 6, 4, 3)),
                            (layers.ConvTranspose2d(4, 3, 4, bias=False), (2, 4, 1, 1))],
        "LeakyReLU": [(layers.LeakyReLU(0.2), (4, 5)), (layers.LeakyReLU(-0.5), (4, 5)), (layers.LeakyReLU(), ())],
        "ReLU": [(layers.ReLU(), (4, 5)), (layers.ReLU(), (2, 3, 4))],
        "Tanh": [(layers.Tanh(), (4, 5)), (layers.Tanh(), ())],
        "Sigmoid": [(layers.Sigmoid(), (4, 5)), (layers.Sigmoid(), ())],
        "Softplus": [(layers.Softplus(), (4, 5)), (layers.Softplus(2.0, 1.0), (4, 5))],
        "Flatten": [(layers.Flatten(), (3, 2, 2, 2)), (layers.Flatten(0, 1), (3, 2, 2))],
        "Unflatten": [(layers.Unflatten(1, (2, 3)), (4, 6))],
        "Reshape": [(layers.Reshape(2, -1), (4, 6))],
        "Dropout": [(layers.Dropout(0.4), (4, 5)), (layers.Dropout(0.0), (4, 5))],
        "Maxout": [(layers.Maxout(4, 3, 2), (5, 4)), (layers.Maxout(3, 2, 4), (2, 3, 3))],
        "AvgPool2d": [(layers.AvgPool2d(2), (2, 2, 4, 5)), (layers.AvgPool2d((3, 2), 2, 1), (2, 2, 5, 4)),
                      (layers.AvgPool2d(3, 2, 1, True, False), (2, 1, 4, 5)),
                      (layers.AvgPool2d(2, 1, divisor_override=3), (2, 4, 3)), (layers.AvgPool2d(2), (0, 2, 4, 4))],
        "MaxPool2d": [(layers.MaxPool2d(2), (2, 2, 4, 5)), (layers.MaxPool2d((3, 2), 1, 1), (2, 1, 4, 4)),
                      (layers.MaxPool2d(2, 2, 0, 2, True), (2, 4, 5)), (layers.MaxPool2d(2), (0, 2, 4, 4))],
        "Upsample": [(layers.Upsample(scale_factor=2), (2, 2, 2, 3)), (layers.Upsample((5, 2)), (2, 1, 3, 4)),
                     (layers.Upsample(scale_factor=1.7), (2, 2, 3)), (layers.Upsample(scale_factor=2), (0, 2, 2, 2))],
        "BatchNorm1d": [(layers.BatchNorm1d(3), (5, 3), whole), (layers.BatchNorm1d(3, 1e-2, None), (2, 3, 4)),
                        (layers.BatchNorm1d(3, affine=False), (5, 3), whole), (layers.BatchNorm1d(3), (0, 3))],
        "BatchNorm2d": [(layers.BatchNorm2d(3), (2, 3, 2, 3)), (layers.BatchNorm2d(3, affine=False), (2, 3, 2, 3)),
                        (layers.BatchNorm2d(3, 0.1, track_running_stats=False), (4, 3, 1, 1), whole)],
        "InstanceNorm2d": [(layers.InstanceNorm2d(3), (2, 3, 2, 3)),
                           (layers.InstanceNorm2d(2, affine=True), (2, 3, 3), whole),
                           (layers.InstanceNorm2d(2, 0.1, 0.3, True, True), (2, 2, 2, 3))],
        "LayerNorm": [(layers.LayerNorm(4), (3, 4)), (layers.LayerNorm((3, 2), bias=False), (2, 2, 3, 2)),
                      (layers.LayerNorm(4, 0.1, False), (4,)), (layers.LayerNorm(4), (0, 4))],
        "spectral_norm": [(layers.spectral_norm(layers.Linear(4, 3)), (5, 4)),
                          (layers.spectral_norm(layers.Conv2d(2, 3, 3)), (2, 2, 4, 4)),
                          (layers.spectral_norm(layers.ConvTranspose2d(3, 2, 2, 2)), (2, 3, 2, 2))],
        "Sequential": [(layers.Sequential(layers.Linear(4, 5), layers.Tanh(),
                                          layers.Sequential(layers.Linear(5, 3), layers.LeakyReLU(0.2))), (3, 4))],
    }


def loss_cases():
    """Loss name -> [(loss, arguments of check_loss), ...]."""
    weight = np.array([0.5, 1.0, 2.0])
    scores = {"input": np.random.default_rng(0).standard_normal((4, 3, 2)),
              "target": np.array([[0, 1], [2, 1], [0, 0], [1, 2]])}
    return {
        "MSELoss": [(losses.MSELoss(reduction), {}) for reduction in losses.REDUCTIONS],
        "BCELoss": [(losses.BCELoss(weight, reduction), {}) for reduction in losses.REDUCTIONS],
        "BCEWithLogitsLoss": [(losses.BCEWithLogitsLoss(), {}),
                              (losses.BCEWithLogitsLoss(weight, "sum", 3 * weight), {}),
                              (losses.BCEWithLogitsLoss(None, "none", 3.0), {})],
        "CrossEntropyLoss": [(losses.CrossEntropyLoss(), {}), (losses.CrossEntropyLoss(), scores),
                             (losses.CrossEntropyLoss(weight, 1, "mean", 0.1), scores),
                             (losses.CrossEntropyLoss(weight, 1, "none", 0.1), scores),
                             (losses.CrossEntropyLoss(weight, reduction="sum", label_smoothing=0.3), {})],
    }
