"""What a classifier says of samples: which classes they are of, how surely, and how evenly spread.

All take probabilities p(y|x): (N, K), rows that sum to 1.
"""

import numpy as np

from scratchgan.metrics.arrays import jackknife, matrix, standard_error

SURE = 0.9


def class_balance(p, seed=0):
    """How samples spread over the K classes that they are taken for, each for its most probable one.

        counts   samples of each class, a list
        kl       sum_k s_k log(s_k K), s_k the share of class k: KL of the shares to uniform, in nats; of a perfect
                 sampler (K - 1) / 2N on average, not 0
        rarest   the smallest share
        sure     the share of samples whose class is given more than .9

    With "kl_se" (by a jackknife), "rarest_se" and "sure_se" (of shares). None of them tells whether samples are digits
    at all: the feature net, which knows nothing else, is sure of most noise (and takes all of it for an 8).

    Source: Srivastava et al. 2017, "VEEGAN", section 4.1 (KL of the classes of stacked MNIST).
    """
    p = probabilities(p)
    taken, k = p.argmax(axis=1), p.shape[1]
    counts, sure = np.bincount(taken, minlength=k), p.max(axis=1) > SURE
    def divergence(taken):
        return kl_to_uniform(np.bincount(taken, minlength=k))
    return {"counts": counts.tolist(), "kl": divergence(taken), "kl_se": jackknife(divergence, taken, seed=seed),
            "rarest": float(counts.min() / len(p)), "rarest_se": standard_error(taken == counts.argmin()),
            "sure": float(sure.mean()), "sure_se": standard_error(sure)}


def kl_to_uniform(counts):
    """KL(shares || uniform) in nats: 0 if all counts are equal, log K if one class has all."""
    shares = counts / counts.sum()
    there = shares > 0
    return float((shares[there] * np.log(shares[there] * len(shares))).sum())


def inception_score(p, seed=0):
    """exp of the mean over samples of KL(p(y|x) || p(y)), p(y) the mean of p(y|x): from 1 to K.

    {"inception", "inception_se"}, of all samples together, the error by a jackknife; the published figures, by the
    Inception net, are means over 10 parts, which are a little smaller. Sure and evenly spread samples do well, and so
    does one sample for each class.

    Source: Salimans et al. 2016, "Improved techniques for training GANs", section 4.
    """
    p = probabilities(p)
    return {"inception": score(p), "inception_se": jackknife(score, p, seed=seed)}


def score(p):
    log_p, log_mean = (np.log(np.where(q > 0, q, 1)) for q in (p, p.mean(axis=0)))
    return float(np.exp((p * (log_p - log_mean)).sum(axis=1).mean()))


def conditional_accuracy(p, labels):
    """The share of samples that are taken for the class that they were asked to be: {"conditional",
    "conditional_se"}. labels (N,), whole numbers from 0 to K - 1."""
    p, labels = probabilities(p), np.asarray(labels)
    if labels.dtype.kind not in "iu" or labels.shape != (len(p),) or not 0 <= labels.min() <= labels.max() < p.shape[1]:
        raise ValueError(f"labels must be one whole number from 0 to {p.shape[1] - 1} for each of {len(p)} samples, "
                         f"got {labels.dtype} of shape {labels.shape}")
    right = p.argmax(axis=1) == labels
    return {"conditional": float(right.mean()), "conditional_se": standard_error(right)}


def probabilities(p):
    """p as float64 (N, K); `ValueError` unless each row is one of probabilities."""
    p = np.asarray(p)
    if p.ndim != 2 or p.shape[1] < 2:
        raise ValueError(f"probabilities must be an array (N, K) of two classes or more, got shape {p.shape}")
    p = matrix("probabilities", p, dtype=np.float64)
    if p.min() < 0 or abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("probabilities must be 0 or more, and those of a sample sum to 1")
    return p
