"""How well samples cover the modes of a mixture of Gaussians in the plane.

    high quality (hq)   the share of samples within 3 sigma of the nearest centre; of a perfect sampler
                        q = 1 - exp(-9/2) = .98889
    modes               how many of the K modes hold a sample of high quality
    fair                how many hold a fifth of their share, N q / K, or more
    kl                  KL(samples || target) = sum_b p_b log(p_b / t_b) over K + 1 bins: the high-quality samples of each
                        mode, t = q / K, and all others, t = 1 - q; in nats

Source: Srivastava et al. 2017, "VEEGAN", section 4, and Lin et al. 2018, "PacGAN", section 4.1: modes and high quality
within 3 sigma; the divergence there is over the nearest modes alone. Modes alone mislead: a smear over the whole plane
hits them all.
"""

import math

import numpy as np

RADIUS = 3  # in sigmas
HIGH_QUALITY = 1 - math.exp(-RADIUS**2 / 2)  # the mass of a Gaussian in the plane within it
FAIR = 1 / 5


def of_modes(samples, centres, sigma):
    """{"modes", "fair", "hq", "kl"} of samples (N, 2), given the centres (K, 2); what is not finite lies off all modes.

    `ValueError` for other shapes and for no samples.
    """
    samples, centres = np.asarray(samples, np.float64), np.asarray(centres, np.float64)
    if samples.ndim != 2 or centres.ndim != 2 or samples.shape[1:] != centres.shape[1:] or not samples.size:
        raise ValueError(f"of_modes: expected samples (N, 2), one or more, and centres (K, 2), got {samples.shape} and "
                         f"{centres.shape}")
    n, k = len(samples), len(centres)
    samples = samples[np.isfinite(samples).all(axis=1)]
    distances = sum(np.subtract.outer(samples[:, i], centres[:, i]) ** 2 for i in range(samples.shape[1]))
    nearest = distances.argmin(axis=1)
    good = distances[np.arange(len(samples)), nearest] <= (RADIUS * sigma) ** 2
    held = np.bincount(nearest[good], minlength=k)
    return {"modes": int((held > 0).sum()), "fair": int((held >= FAIR * n * HIGH_QUALITY / k).sum()),
            "hq": int(held.sum()) / n, "kl": divergence(held / n)}


def divergence(shares):
    """KL of the shares of K modes, and of what is left, to the target's."""
    p = np.append(shares, max(0.0, 1 - shares.sum()))
    t = np.append(np.full(len(shares), HIGH_QUALITY / len(shares)), 1 - HIGH_QUALITY)
    there = p > 0
    return float((p[there] * np.log(p[there] / t[there])).sum())
