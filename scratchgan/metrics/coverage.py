"""What share of the samples looks real, and what share of the real data is met by samples, by nearest neighbours.

About each point of a set lies a ball whose radius is the distance to its k-th nearest neighbour in that set; the balls
of a set stand for where its distribution is. Figures depend on the features, on k and on the numbers of points.
"""

import numpy as np

from scratchgan.metrics.arrays import matrices, rows_of, squared_distances, standard_error

TIE = 1e-9  # of a squared radius: a point on the edge, up to rounding, is inside


def precision_recall(real, fake, k=3):
    """precision: the share of fakes inside the ball of any real point; recall: of real points inside that of any fake.

    real (N, F), fake (M, F), of more than k points each. {"precision", "precision_se", "recall", "recall_se"}; errors
    are those of the shares, the balls being given. Other fakes have other balls: recall may change by more than its
    error tells, most where a few odd fakes with large balls make it.

    Source: Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models", eq. 1, 2
    (k = 3).
    """
    real, fake = about_real(real, fake, k)
    precise = counts_of_balls(fake, real, squared_radii(real, k)) > 0
    recalled = counts_of_balls(real, fake, squared_radii(fake, k)) > 0
    return {"precision": float(precise.mean()), "precision_se": standard_error(precise),
            "recall": float(recalled.mean()), "recall_se": standard_error(recalled)}


def density_coverage(real, fake, k=5):
    """density: how many balls of real points a fake lies in, on average, over k; coverage: the share of real points
    whose ball holds a fake.

    As `precision_recall`, but an odd real point far off does not make a region real, and no ball is about a fake. A
    perfect sampler has density 1 (it may be more) and coverage 1 - (N / (N + M))^k or so, of N real points and M fakes.
    Compare equal numbers only. Errors are those of the means, real points and what lies about them being given: of
    other fakes coverage changes by more, 1.6 times its error or so where it is high.

    Source: Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", section 3 (k = 5).
    """
    real, fake = about_real(real, fake, k)
    radii = squared_radii(real, k)
    dense = counts_of_balls(fake, real, radii) / k
    covered = squared_to_nearest(real, fake) <= radii * (1 + TIE)
    return {"density": float(dense.mean()), "density_se": standard_error(dense),
            "coverage": float(covered.mean()), "coverage_se": standard_error(covered)}


def about_real(real, fake, k):
    """Both sets about the middle of the real one; `ValueError` for k that is none, or points that are too few."""
    if isinstance(k, bool) or not hasattr(k, "__index__") or k < 1:
        raise ValueError(f"k must be a whole number, 1 or more, not {k!r}")
    real, fake = matrices(("real features", "fake features"), real, fake, least=k + 1, dtype=np.float64)
    middle = real.mean(axis=0)
    return real - middle, fake - middle


def squared_radii(x, k):
    """Of each point the squared distance to its k-th nearest neighbour among the others."""
    radii = np.empty(len(x))
    for rows in rows_of(x, len(x)):
        d = squared_distances(x[rows], x)
        d[np.arange(len(d)), np.arange(rows.start, rows.stop)] = np.inf  # no neighbour of itself
        radii[rows] = np.partition(d, k - 1, axis=1)[:, k - 1]
    return radii


def counts_of_balls(points, centres, radii):
    """Of each point in how many balls it lies."""
    return np.concatenate([(squared_distances(points[rows], centres) <= radii * (1 + TIE)).sum(axis=1)
                           for rows in rows_of(points, len(centres))])


def squared_to_nearest(points, others):
    """Of each point the squared distance to the nearest of the others."""
    return np.concatenate([squared_distances(points[rows], others).min(axis=1)
                           for rows in rows_of(points, len(others))])
