"""Whether samples are copies of training images.

Of an image x let d1 <= d2 be its Euclidean distances, in pixels, to the nearest and the second nearest training image:

    r = d1 / d2        0 for a copy; near 1 for an image that no training image is much nearer to than the next one

The distance d1 alone tells little: a "1", or a blurred image, is near to many. What r may be is seen from test images,
which no generator has copied.

Source: Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize", which calls a sample
with r < 1/3 memorised; Meehan, Chaudhuri and Dasgupta 2020, "A non-parametric test to detect data-copying in
generative models", section 2, for the comparison with held-out images. Pixels, as the former: in them a copy with a
little noise or blur is found, and one moved by a pixel is not.
"""

import numpy as np

from scratchgan.metrics.arrays import blocks, jackknife, matrix, standard_error

RAREST, COPY = 0.01, 1 / 3
BLOCK = 1000  # training images at a time


def memorisation(fake, test, seed=0):
    """How many samples are suspiciously near to one training image, given the ratios r of samples (N,) and of test
    images (M,), both by `neighbours`:

        memorised   the share of samples whose r is at most that of the 1% of test images with the smallest: of a
                    perfect sampler .01, of training images 1
        copied      the share with r < 1/3: of a perfect sampler 0, or nearly

    With "memorised_se", by a jackknife over both sets, and "copied_se". `ValueError` for ratios that are none.
    """
    fake, test = (matrix(name, np.reshape(r, (-1, 1)), dtype=np.float64)[:, 0]
                  for name, r in (("ratios of samples", fake), ("ratios of test images", test)))
    def share(fake, test):
        return float((fake <= np.quantile(test, RAREST)).mean())
    return {"memorised": share(fake, test), "memorised_se": jackknife(share, fake, test, seed=seed),
            "copied": float((fake < COPY).mean()), "copied_se": standard_error(fake < COPY)}


def neighbours(images, training, block=BLOCK):
    """(r, nearest): the ratio of each image (N, ...) and the index of the training image (M, ...) nearest to it, both
    (N,). Values are in [0, 1], or bytes; M is 2 or more. `block` is a matter of speed and memory alone.

    |y|^2/2 - x y, which is least where |x - y| is, finds the two in float32; their distances are then taken in float64
    from the differences, so that a copy has distance 0.
    """
    x, training = in_unit(images), np.asarray(training)
    training = training.reshape(len(training), -1)
    if len(training) < 2 or training.shape[1] != x.shape[1]:
        raise ValueError(f"neighbours: expected two or more training images of {x.shape[1]} values each, got shape "
                         f"{training.shape}")
    at, least = np.zeros((len(x), 2), np.intp), np.full((len(x), 2), np.inf, np.float32)
    for columns in blocks(len(training), block):
        y = in_unit(training[columns])
        half = np.einsum("ij,ij->i", y, y) / 2
        for rows in blocks(len(x), 2 * BLOCK):
            two_least(half - x[rows] @ y.T, columns.start, at[rows], least[rows])
    d = np.stack([np.sqrt(((x - in_unit(training[each]).astype(np.float64)) ** 2).sum(axis=1)) for each in at.T], 1)
    first = d.argmin(axis=1)[:, None]
    nearest, (d1, d2) = np.take_along_axis(at, first, 1)[:, 0], np.sort(d).T
    return d1 / np.where(d2 > 0, d2, 1), nearest


def two_least(values, start, at, least):
    """Have the two least of each row, so far, know those of a block (N, B) that begins at `start`. In place."""
    news = np.flatnonzero(values.min(axis=1) < least[:, 1])  # few, but for the first blocks
    values = values[news]
    two = np.argpartition(values, min(1, values.shape[1] - 1), axis=1)[:, :2]
    both = np.concatenate([least[news], np.take_along_axis(values, two, 1)], 1)
    order = both.argsort(axis=1, kind="stable")[:, :2]
    at[news] = np.take_along_axis(np.concatenate([at[news], start + two], 1), order, 1)
    least[news] = np.take_along_axis(both, order, 1)


def in_unit(images):
    """Images as float32 rows in [0, 1]."""
    images = np.asarray(images)
    x = matrix("images", images, dtype=np.float32)
    return x / np.float32(255) if images.dtype == np.uint8 else x
