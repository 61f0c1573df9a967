"""How well samples cover the modes of a mixture of Gaussians in the plane.

    high quality (hq)   the share of samples within 3 sigma of the nearest centre; of a perfect sampler
                        q = 1 - exp(-9/2) = .98889
    modes               how many of the K modes hold a sample of high quality
    fair                how many hold a fifth of their share, N q / K, or more
    kl                  KL(samples || target) = sum_b p_b log(p_b / t_b) in nats over K + 1 bins: the high-quality
                        samples of each mode, t = q / K, and all others, t = 1 - q

Source: Srivastava et al. 2017, "VEEGAN", section 4, and Lin et al. 2018, "PacGAN", section 4.1: modes and high quality
within 3 sigma; the divergence there is over the nearest modes alone. Modes alone mislead: a smear over the whole plane
hits them all.
"""

import math

import numpy as np

from scratchgan.metrics.arrays import jackknife

RADIUS = 3  # in sigmas
HIGH_QUALITY = 1 - math.exp(-RADIUS**2 / 2)  # the mass of a Gaussian in the plane within it
FAIR = 1 / 5
# The usual sets: a ring of radius 1 (Metz et al. 2017, "Unrolled GAN"), a grid (Lin et al. 2018, section 4.1).
MIXTURES = {
    "ring8": {"centres": [[math.cos(math.pi * k / 4), math.sin(math.pi * k / 4)] for k in range(8)], "sigma": 0.01},
    "grid25": {"centres": [[x, y] for x in range(-4, 5, 2) for y in range(-4, 5, 2)], "sigma": 0.05},
}


def of_modes(samples, centres, sigma):
    """{"modes", "fair", "hq", "kl"} of samples (N, 2), given the centres (K, 2); what is not finite lies off all modes.

    `ValueError` for other shapes and for no samples.
    """
    samples, centres = np.asarray(samples, np.float64), np.asarray(centres, np.float64)
    if samples.shape[1:] != (2,) or centres.shape[1:] != (2,) or not samples.size:
        raise ValueError(f"of_modes: expected samples (N, 2), one or more, and centres (K, 2), got {samples.shape} and "
                         f"{centres.shape}")
    n, k = len(samples), len(centres)
    samples = samples[np.isfinite(samples).all(axis=1)]
    distances = np.hypot(*(np.subtract.outer(samples[:, i], centres[:, i]) for i in (0, 1)))  # (N, K)
    nearest = distances.argmin(axis=1)
    good = distances[np.arange(len(samples)), nearest] <= RADIUS * sigma
    held = np.bincount(nearest[good], minlength=k)
    return {"modes": int((held > 0).sum()), "fair": int((held >= FAIR * n * HIGH_QUALITY / k).sum()),
            "hq": int(held.sum()) / n, "kl": divergence(held / n)}


def errors(samples, centres, sigma, seed=0):
    """{"hq_se", "kl_se"}: standard errors of these figures of `of_modes`, by a jackknife over the samples."""
    def error(name):
        return jackknife(lambda some: of_modes(some, centres, sigma)[name], np.asarray(samples), seed=seed)
    return {"hq_se": error("hq"), "kl_se": error("kl")}


def divergence(shares):
    """KL of the shares of K modes, and of what is left, to the target's."""
    p = np.append(shares, max(0.0, 1 - shares.sum()))
    t = np.append(np.full(len(shares), HIGH_QUALITY / len(shares)), 1 - HIGH_QUALITY)
    there = p > 0
    return float((p[there] * np.log(p[there] / t[there])).sum())
