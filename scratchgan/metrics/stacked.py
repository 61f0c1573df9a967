"""How many of the 1,000 modes of stacked MNIST samples cover, how evenly, and how surely: by the judge's word.

The judge is a classifier of digits. It looks at each channel by itself; the digits a, b, c that it takes the three for
are the mode of the image, the number 100 a + 10 b + c.

    modes   how many of the 1,000 numbers at least one sample is taken for
    kl      sum_k s_k log(1000 s_k) in nats, s_k the share of samples taken for the number k: KL(samples || uniform)
    sure    the share of channels whose digit the judge gives more than .9

The published figures are of 26,000 samples, with the average of G where there is one. A perfect sampler, too, has a
kl: 999 / 2N = .019 by chance, .004 as MNIST's digits are not equally frequent, and some by the judge's mistakes. No
figure tells enough alone: bad samples are taken for many numbers, and the judge, who knows nothing but digits, is
sure of most noise. Figures of other judges do not compare.

Source: Metz et al. 2017, "Unrolled generative adversarial networks", section 3.3 (modes); Lin et al. 2018, "PacGAN: the
power of two samples in generative adversarial networks", section 4.2 (26,000 samples, KL); Huang et al. 2024, "The GAN
is dead; long live the GAN! A modern GAN baseline" (both).
"""

import numpy as np

from scratchgan import random
from scratchgan.metrics.arrays import blocks, jackknife, standard_error
from scratchgan.metrics.classes import SURE, kl_to_uniform, probabilities
from scratchgan.metrics.features import feature_net

PART = 4000  # images that are made and judged at once


def of_stacked(p, seed=0):
    """{"modes", "kl", "sure"} and "..._se" of the probabilities (N, C, K) of K classes for each of C channels.

    The error of kl is by a jackknife over a tenth of the samples, that of sure by the mean of each sample's channels.
    That of modes is by a jackknife over single samples: se^2 = f (1 - f / N), f the number of modes that one sample
    alone is in; on average it is not too small (Efron and Stein 1981, "The jackknife estimate of variance").
    """
    p = np.asarray(p)
    if p.ndim != 3:
        raise ValueError(f"of_stacked: expected probabilities (N, channels, classes), got shape {p.shape}")
    n, c, k = p.shape
    p = probabilities(p.reshape(n * c, k)).reshape(n, c, k)
    sure = (p.max(axis=2) > SURE).mean(axis=1)
    modes = p.argmax(axis=2) @ k ** np.arange(c)[::-1]
    counts = np.bincount(modes, minlength=k**c)
    alone = int((counts == 1).sum())

    def divergence(modes):
        return kl_to_uniform(np.bincount(modes, minlength=k**c))
    return {"modes": int((counts > 0).sum()), "modes_se": float(np.sqrt(alone * (1 - alone / n))),
            "kl": divergence(modes), "kl_se": jackknife(divergence, modes, seed=seed),
            "sure": float(sure.mean()), "sure_se": standard_error(sure)}


def judged(images, device="cpu"):
    """The feature net's probabilities (N, C, 10) of the digit in each channel of images (N, C, 28, 28), uint8 or in
    [0, 1]."""
    n, c, *size = images.shape
    return feature_net(device).probabilities(images.reshape(n * c, 1, *size)).reshape(n, c, -1)


def yardsticks(test, n, seed=0, device="cpu"):
    """(name, probabilities (n, 3, 10)) of n images each, made of MNIST's test images and a seed:

        perfect     three random test images: what a perfect sampler would have, the judge's mistakes included
        noise       U(0, 1) for each pixel
        collapsed   ten of the first again and again
    """
    from scratchgan.data.stacked import Stacked  # with Pillow, which `import scratchgan` does without
    stacked = Stacked(test)
    yield "perfect", in_parts(lambda first, count: stacked.draw(count, seed, first)[0], n, device)
    yield "noise", in_parts(lambda first, count: random.uniform((count, *stacked.sample_shape), seed, "metrics/noise",
                                                                first=first), n, device)
    yield "collapsed", judged(stacked.draw(10, seed, 0)[0], device)[np.arange(n) % 10]


def in_parts(make, n, device="cpu"):
    """`judged` of n images, which make(first, count) makes part by part: they are never in memory all at once."""
    return np.concatenate([judged(make(rows.start, rows.stop - rows.start), device) for rows in blocks(n, PART)])
