"""Measures of samples: pure functions of arrays on the host.

Images are float32 (N, C, H, W) in [0, 1]; features and probabilities are what `feature_net()` makes of images of
digits. Each measure is a function with its definition and its source; with a figure comes its standard error, "..._se"
(for `of_modes` from `modes.errors`).
"""

from scratchgan.metrics.classes import class_balance, conditional_accuracy, inception_score
from scratchgan.metrics.coverage import density_coverage, precision_recall
from scratchgan.metrics.features import feature_net, feature_record
from scratchgan.metrics.frechet import frechet, kernel_distance
from scratchgan.metrics.inception import inception_features, inception_frechet
from scratchgan.metrics.memorisation import memorisation, neighbours
from scratchgan.metrics.modes import of_modes
from scratchgan.metrics.parzen import parzen
from scratchgan.metrics.stacked import of_stacked

__all__ = [
    "class_balance",
    "conditional_accuracy",
    "density_coverage",
    "feature_net",
    "feature_record",
    "frechet",
    "inception_features",
    "inception_frechet",
    "inception_score",
    "kernel_distance",
    "memorisation",
    "neighbours",
    "of_modes",
    "of_stacked",
    "parzen",
    "precision_recall",
]
