"""Distances between two sets of features: of their first two moments, and of their means under a kernel.

Which features is for the caller to say: figures of different nets, or of different numbers of samples, do not compare.
"""

import numpy as np

from scratchgan import random
from scratchgan.metrics.arrays import blocks, jackknife, matrices, standard_error

SUBSET = 1000  # features that are compared at once in the kernel distance


def frechet(real, fake, seed=0):
    """The Frechet distance of the Gaussians with the means and covariances of two sets of features (N, F), (M, F):

        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2)

    {"frechet", "frechet_se"}; the error by a jackknife over a tenth of both sets. It is a squared distance, 0 for equal
    moments; of finite sets it is too large by something like F/N: compare equal numbers only.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
    eq. 6; Dowson and Landau 1982, "The Frechet distance between multivariate normal distributions".
    """
    real, fake = matrices(("real features", "fake features"), real, fake, least=2, dtype=np.float64)
    middle = real.mean(axis=0)
    def distance(a, b):
        return of_gaussians(*moments(a), *moments(b))
    real, fake = real - middle, fake - middle
    return {"frechet": distance(real, fake), "frechet_se": jackknife(distance, real, fake, seed=seed)}


def moments(x):
    """Mean (F,) and unbiased covariance (F, F) of features (N, F)."""
    mean = x.mean(axis=0)
    x = x - mean
    return mean, x.T @ x / (len(x) - 1)


def of_gaussians(m1, c1, m2, c2):
    """The distance of two Gaussians. The trace of (C1 C2)^1/2 is that of the root of the symmetric R C2 R, R = C1^1/2,
    which has the same eigenvalues."""
    root = square_root(c1)
    eigenvalues = np.linalg.eigvalsh(symmetric(root @ c2 @ root))
    overlap = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    return float(max(0.0, ((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * overlap))


def square_root(c):
    """The symmetric root of a symmetric matrix without negative eigenvalues, up to rounding: V w^1/2 V^T."""
    w, v = np.linalg.eigh(symmetric(c))
    return v * np.sqrt(np.maximum(w, 0)) @ v.T


def symmetric(c):
    return (c + c.T) / 2


def kernel_distance(real, fake, size=SUBSET, seed=0):
    """The squared maximum mean discrepancy with the kernel k(x, y) = (x y / F + 1)^3, by its unbiased estimator

        1/(n(n-1)) sum_{i != j} (k(x_i, x_j) + k(y_i, y_j)) - 2/n^2 sum_ij k(x_i, y_j)

    on subsets of `size` features each that have none in common, drawn at random. {"kernel", "kernel_se"}: the mean over
    the subsets and its standard error, NaN of a single one. No bias in N; below 0 by chance where the two are alike.

    Source: Binkowski et al. 2018, "Demystifying MMD GANs", section 4 and eq. 4; Gretton et al. 2012, "A kernel
    two-sample test", lemma 6.
    """
    if size < 2:
        raise ValueError(f"kernel_distance: size must be 2 or more, not {size}")
    sets = matrices(("real features", "fake features"), real, fake, least=2, dtype=np.float64)
    n = min(map(len, sets))
    orders = [random.permutation(len(x), seed, f"metrics/kernel/{i}") for i, x in enumerate(sets)]
    parts = [part for part in blocks(n, min(size, n)) if part.stop - part.start == min(size, n)]
    values = [squared_discrepancy(*(x[order[part]] for x, order in zip(sets, orders))) for part in parts]
    error = standard_error(values) * np.sqrt(len(values) / (len(values) - 1)) if len(values) > 1 else np.nan
    return {"kernel": float(np.mean(values)), "kernel_se": float(error)}


def squared_discrepancy(x, y):
    """The estimator of two sets of equal size."""
    n = len(x)
    within = sum(k.sum() - np.trace(k) for k in (cubic(x, x), cubic(y, y)))
    return float(within / (n * (n - 1)) - 2 * cubic(x, y).mean())


def cubic(x, y):
    """k(x_i, y_j) = (x_i y_j / F + 1)^3."""
    k = x @ y.T / x.shape[1] + 1
    return k * k * k
