"""Distances between two sets of features: of their first two moments, and of their means under a kernel.

Which features is for the caller to say: figures of different nets, or of different numbers of samples, do not compare.
"""

import numpy as np

from scratchgan.metrics.arrays import GROUPS, in_groups, jackknife, matrices, rows_of, spread


def frechet(real, fake, seed=0):
    """The Frechet distance of the Gaussians with the means and covariances of two sets of features (N, F), (M, F):

        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2)

    {"frechet", "frechet_se"}; the error by a jackknife over a tenth of both sets, NaN of fewer than 3. It is a squared
    distance, 0 for equal moments; of finite sets it is too large, in proportion to 1/N: compare equal numbers only.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
    eq. 6; Dowson and Landau 1982, "The Frechet distance between multivariate normal distributions".
    """
    real, fake = matrices(("real features", "fake features"), real, fake, least=2, dtype=np.float64)
    middle = real.mean(axis=0)
    def distance(a, b):
        return of_gaussians(*moments(a), *moments(b))
    real, fake = real - middle, fake - middle
    error = jackknife(distance, real, fake, seed=seed) if min(len(real), len(fake)) > 2 else float("nan")
    return {"frechet": distance(real, fake), "frechet_se": error}


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


def kernel_distance(real, fake, seed=0):
    """The squared maximum mean discrepancy with the kernel k(x, y) = (x y / F + 1)^3, by its unbiased estimator

        1/(n(n-1)) sum_{i != j} k(x_i, x_j) + 1/(m(m-1)) sum_{i != j} k(y_i, y_j) - 2/(nm) sum_ij k(x_i, y_j)

    {"kernel", "kernel_se"}; the error by a jackknife over a tenth of both sets, NaN of fewer than 3. It has no bias in
    n and m, and is below 0 by chance where the two are alike. Of all pairs, where published figures are means over
    random subsets of 1,000: the same on average, and surer.

    Source: Binkowski et al. 2018, "Demystifying MMD GANs", section 4 and eq. 4; Gretton et al. 2012, "A kernel
    two-sample test", lemma 6.
    """
    sets = matrices(("real features", "fake features"), real, fake, least=2, dtype=np.float64)
    groups = min(GROUPS, *map(len, sets))
    of = [in_groups(len(x), groups, seed, i) for i, x in enumerate(sets)]
    x, y = ([each[at == i] for i in range(groups)] for each, at in zip(sets, of))
    sums, sizes = (sums_within(x), sums_within(y), sums_between(x, y)), [list(map(len, each)) for each in (x, y)]

    def estimate(left_out=None):
        keep = np.arange(groups) != (-1 if left_out is None else left_out)
        n, m = (np.array(each)[keep].sum() for each in sizes)
        xx, yy, xy = (each[np.ix_(keep, keep)].sum() for each in sums)
        return float(xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m))
    error = spread([estimate(i) for i in range(groups)]) if min(map(len, sets)) > 2 else float("nan")
    return {"kernel": estimate(), "kernel_se": error}


def sums_between(x, y):
    """(G, G): the kernel summed over all pairs of the i-th group of x and the j-th of y."""
    return np.array([[sum(cubic(a[rows], b).sum() for rows in rows_of(a, len(b))) for b in y] for a in x])


def sums_within(x):
    """The same of one set; nothing is paired with itself."""
    sums = np.zeros((len(x), len(x)))
    for i, a in enumerate(x):
        sums[i, i] = sums_between([a], [a])[0, 0] - ((np.einsum("nf,nf->n", a, a) / a.shape[1] + 1) ** 3).sum()
        sums[i, i + 1:] = sums[i + 1:, i] = sums_between([a], x[i + 1:])[0]
    return sums


def cubic(x, y):
    """k(x_i, y_j) = (x_i y_j / F + 1)^3."""
    k = x @ y.T / x.shape[1] + 1
    return k * k * k
