"""The Parzen-window log-likelihood: how probable images are under a Gaussian about each of the samples.

    log p(x) = log 1/M sum_j N(x; y_j, sigma^2 I)
             = log sum_j exp(-|x - y_j|^2 / (2 sigma^2)) - log M - D/2 log(2 pi sigma^2)         nats

over M samples y_j of D numbers in [0, 1]. By the published protocol M = 10,000; sigma is the best of 10 values from .1
to 1, evenly spaced in their logarithms, on 1,000 validation images; told is the mean over the 10,000 test images, with
its standard error. That, as published, is the error of the test images alone. What another draw of samples changes is
told apart, by a jackknife over a tenth of them, chosen at random: of samples far from the images, such as noise, it is
the larger.

Source: Breuleux, Bengio and Vincent 2011, "Quickly generating representative samples from an RBM-derived process";
Goodfellow et al. 2014, "Generative adversarial nets", section 5 and table 1 (MNIST: 225 +- 2), as released.

A figure for that table, and for no other use: training images in place of samples score about 243 nats, so that above
this it says nothing; blurred means of digits do better than sharp digits (Theis et al. 2016, "A note on the evaluation
of generative models", section 3.2).
"""

import math

import numpy as np

from scratchgan.metrics.arrays import GROUPS, blocks, in_groups, matrices, spread, squared_distances, standard_error

SIGMAS = tuple(10 ** (k / 9 - 1) for k in range(10))
BLOCK = 1000


def parzen(samples, test, validation, sigmas=SIGMAS, block=BLOCK, seed=0):
    """{"parzen": mean log p of the test images, "parzen_se": its standard error over them, "parzen_draw_se": that over
    draws of the samples, NaN of one sample, "sigma": which}.

    All three are (N, ...) with values in [0, 1]. Of sigmas that do equally well the first is taken. In float32 unless
    an array is float64; `block` is a matter of speed and memory alone. `seed` says which samples make a
    tenth: neighbours must not, since a file may be sorted by class. `ValueError` for what does not fit.
    """
    samples, test, validation = matrices(("samples", "test images", "validation images"), samples, test, validation)
    sigma = best_sigma(samples, validation, sigmas, block)
    groups = min(GROUPS, len(samples))
    at = in_groups(len(samples), groups, seed)
    sizes = np.bincount(at)[:, None]
    logs = np.log(sizes) + [log_densities(test, samples[at == i], [sigma], block)[0] for i in range(groups)]
    values = mean_density(logs, sizes)
    without = [mean_density(np.delete(logs, i, 0), np.delete(sizes, i)).mean() for i in range(groups)
               if groups > 1]
    return {"parzen": float(values.mean()), "parzen_se": standard_error(values),
            "parzen_draw_se": spread(without) if without else float("nan"), "sigma": sigma}


def mean_density(logs, sizes):
    """(N,): the log of the mean density, of the logs (G, N) of sums over some samples each, and how many they are."""
    largest = logs.max(axis=0)
    return largest + np.log(np.exp(logs - largest).sum(axis=0)) - math.log(sizes.sum())


def best_sigma(samples, validation, sigmas=SIGMAS, block=BLOCK):
    """The one under which the validation images are the most probable."""
    means = log_densities(validation, samples, sigmas, block).mean(axis=1)
    return float(sigmas[int(means.argmax())])


def log_densities(points, samples, sigmas, block=BLOCK):
    """log p of each point under each sigma: float64 (S, N). One matrix of distances serves all sigmas.

    The sum over the samples goes on from block to block beside the smallest distance so far, d0:
    sum_j exp(-d_j / (2 sigma^2)) = exp(-d0 / (2 sigma^2)) sum_j exp(-(d_j - d0) / (2 sigma^2)), whose largest term
    is 1.
    """
    points, samples = matrices(("points", "samples"), points, samples)
    sigmas = np.asarray(sigmas, np.float64).reshape(-1, 1)
    if not sigmas.size or not (np.isfinite(sigmas) & (sigmas > 0)).all():
        raise ValueError(f"sigmas must be finite numbers above 0, one or more, not {sigmas.ravel().tolist()}")
    scale, (m, size), middle = 1 / (2 * sigmas**2), samples.shape, samples.mean(axis=0)
    points, samples = points - middle, samples - middle
    result = np.empty((len(sigmas), len(points)))
    for rows in blocks(len(points), block):
        x = points[rows]
        nearest, sums = np.full(len(x), np.inf), np.zeros((len(sigmas), len(x)))
        for columns in blocks(m, block):
            d = squared_distances(x, samples[columns])
            closest = np.minimum(nearest, d.min(axis=1))
            sums *= np.exp((closest - nearest) * scale)
            d -= closest[:, None].astype(d.dtype)
            for i, factor in enumerate(scale[:, 0].astype(d.dtype)):
                term = d * -factor if len(scale) > 1 else np.multiply(d, -factor, out=d)
                sums[i] += np.exp(term, out=term).sum(axis=1)
            nearest = closest
        result[:, rows] = np.log(sums) - nearest * scale
    return result - math.log(m) - size / 2 * np.log(2 * np.pi * sigmas**2)
