"""Objectives: what D and G minimise, as a table. Nothing else in the engine knows these formulas.

A `Term` is a function of one score s = D(.), before any sigmoid, with its derivative. A row of the table names three:

    loss_d = scale_d (mean real(D(x)) + mean fake(D(G(z))))        loss_g = mean g(D(G(z)))

A mean is over all scores there are, so that the gradient on a score is slope / (number of scores): both are written
once, in `Objective`. In a paired row the terms act on differences of the scores of a real sample and of a fake one:

    loss_d = scale_d mean real(D(x) - D(G(z)))                     loss_g = mean g(D(G(z)) - D(x))

A new objective is a row more in `TABLE`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache, partial

from scratchgan import kernels, settings
from scratchgan.backend import array_module, empty_like
from scratchgan.kernels import sigmoid, softplus
from scratchgan.system import mean


@dataclass(frozen=True)
class Term:
    """A function of scores, elementwise, and its derivative: both analytic, as they are run on complex values, too."""

    value: Callable
    slope: Callable


def negative(term):
    return Term(lambda s: -term.value(s), lambda s: -term.slope(s))


def positive(x):
    """max(0, x)."""
    return array_module(x).where(x.real > 0, x, array_module(x).zeros_like(x))


def step(x):
    """Its derivative: 1 where x > 0, else 0."""
    return (x.real > 0).astype(x.dtype)


# Slopes of what a number, given first, tells apart.

@kernels.formula
def constant(value, s):
    return array_module(s).full_like(s, value)


@kernels.formula
def difference(m, s):
    return s - m


@kernels.formula
def below_slope(m, s):
    """Of max(0, m - s)."""
    return -step(m - s)


@kernels.formula
def above_slope(m, s):
    """Of max(0, s - m)."""
    return step(s - m)


@kernels.formula
def logit_slope(target, s):
    """Of -(target log p + (1 - target) log(1 - p)): sigmoid(s) - target, with all its digits at both ends."""
    if target in (0, 1):
        return -sigmoid(-s) if target else sigmoid(s)
    return target * -sigmoid(-s) + (1 - target) * sigmoid(s)


# p = sigmoid(s) is the probability that D gives a sample of being real; no logarithm of 0 at any s.
LOG_REAL = Term(lambda s: softplus(-s), partial(logit_slope, 1.0))            # -log p
LOG_FAKE = Term(lambda s: softplus(s), partial(logit_slope, 0.0))             # -log(1 - p)
SCORE = Term(lambda s: s, partial(constant, 1.0))                             # s
MINUS = Term(lambda s: -s, partial(constant, -1.0))                           # -s
ABOVE = Term(lambda s: positive(1 - s), partial(below_slope, 1.0))            # max(0, 1 - s): s should be 1 or more
BELOW = Term(lambda s: positive(1 + s), partial(above_slope, -1.0))           # max(0, 1 + s): s should be -1 or less
NEAR_ONE = Term(lambda s: (s - 1) ** 2 / 2, partial(difference, 1.0))         # (s - 1)^2 / 2
NEAR_ZERO = Term(lambda s: s ** 2 / 2, partial(difference, 0.0))              # s^2 / 2


def margin(m):
    """max(0, m - s)."""
    m = float(m)  # as `scale_d`
    return Term(partial(below, m), partial(below_slope, m))


def below(m, s):
    return positive(m - s)


@cache
def smoothed(target):
    """-(target log p + (1 - target) log(1 - p)): the cross-entropy to a target below 1."""
    target = float(target)  # as `scale_d`
    return Term(lambda s: target * LOG_REAL.value(s) + (1 - target) * LOG_FAKE.value(s), partial(logit_slope, target))


@cache
def drifting(term, weight):
    """value(s) + weight s^2: keeps scores near 0 (Karras et al. 2018, appendix A.1)."""
    weight = float(weight)  # as `scale_d`
    return Term(lambda s: term.value(s) + weight * s ** 2, lambda s: term.slope(s) + 2 * weight * s)


@dataclass(frozen=True)
class Objective:
    """A row: terms of the two losses, and what a score is.

    real, fake  D's terms on the scores of real samples and of fake ones (fake: None in a paired row)
    g           G's term on the scores of fake samples
    score       "logit" (sigmoid(score) is the probability of being real), "real" (any number), "energy" (>= 0)
    paired      whether terms act on differences of the scores of real and fake number i. Then G's step scores the real
                batch with the new D, too, and the gradient of D's last bias is zero by nature
    source      who published it
    scale_d     1 for the sum of D's two terms, 0.5 for their mean
    smoothing   how far below 1 is D's target for the probability of real samples
    drift       weight of the squared scores of real samples in their term
    """

    name: str
    real: Term
    fake: Term | None
    g: Term
    score: str
    source: str
    paired: bool = False
    scale_d: float = 1.0
    smoothing: float = 0.0
    drift: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "scale_d", float(self.scale_d))  # a float64 of NumPy would make its products float64

    def __reduce__(self):
        """What pickle takes: a row of the table by its name, as the functions without one cannot be pickled."""
        arguments = self.name, self.scale_d, self.smoothing, self.drift
        if self.name in TABLE and get(*arguments) == self:
            return get, arguments
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def says(self, scores):
        """What D says of samples, for a person: the probability of being real for a logit, else the score itself."""
        return sigmoid(scores) if self.score == "logit" else scores

    def loss_d(self, real, fake, mean=mean):
        if self.paired:
            return self.scale_d * mean(self.real.value(real - fake))
        return self.scale_d * (mean(self.real.value(real)) + mean(self.fake.value(fake)))

    def loss_g(self, fake, real=None, mean=mean):
        return mean(self.g.value(fake - real if self.paired else fake))

    def grad_d(self, real, fake):
        """(d loss_d / d real, d loss_d / d fake)."""
        if self.paired:
            dreal = gradient(self.real, real - fake, self.scale_d)
            return dreal, -dreal
        return self.grad_real(real), self.grad_fake(fake)

    def grad_both(self, both):
        """d loss_d / d both, where `both` holds the scores of N real samples and then of N fake ones."""
        gradients, n = empty_like(both), len(both) // 2
        if self.paired:
            gradient(self.real, both[:n] - both[n:], self.scale_d, gradients[:n])
            array_module(both).negative(gradients[:n], out=gradients[n:])
        else:
            kernels.of(both).slopes_of_both(self.real.slope, self.fake.slope, both, self.scale_d / both[:n].size,
                                            gradients)
        return gradients

    def grad_real(self, real):
        """d loss_d / d real, where real and fake have terms of their own."""
        return gradient(self.real, real, self.scale_d)

    def grad_fake(self, fake):
        """d loss_d / d fake, where real and fake have terms of their own."""
        return gradient(self.fake, fake, self.scale_d)

    def grad_g(self, fake, real=None):
        """d loss_g / d fake."""
        return gradient(self.g, fake - real if self.paired else fake)


def gradient(term, s, scale=1.0, out=None):
    """d(scale mean value(s)) / ds = scale / n slope(s), written into `out` if given."""
    return kernels.of(s).scaled_slope(term.slope, s, scale / s.size, out)


@kernels.formula
def scaled_slope(slope, s, factor, out=None):
    """factor slope(s)."""
    return array_module(s).multiply(factor, slope(s), out=out)


@kernels.formula
def slopes_of_both(real, fake, both, factor, out):
    """out = factor real(s) for the first half of the scores, factor fake(s) for the second."""
    n = len(both) // 2
    scaled_slope(real, both[:n], factor, out[:n])
    scaled_slope(fake, both[n:], factor, out[n:])


GOODFELLOW = "Goodfellow et al. 2014"
TABLE = {row.name: row for row in (
    #         name                 real        fake       g                   score     source
    Objective("non-saturating",    LOG_REAL,   LOG_FAKE,  LOG_REAL,           "logit",  f"{GOODFELLOW}, section 3"),
    Objective("minimax",           LOG_REAL,   LOG_FAKE,  negative(LOG_FAKE), "logit",  f"{GOODFELLOW}, eq. 1"),
    Objective("wasserstein",       MINUS,      SCORE,      MINUS,              "real",   "Arjovsky et al. 2017"),
    Objective("least-squares",     NEAR_ONE,   NEAR_ZERO, NEAR_ONE,           "real",   "Mao et al. 2017"),
    Objective("hinge",             ABOVE,      BELOW,      MINUS,              "real",   "Lim and Ye 2017"),
    Objective("energy-margin",     SCORE,      margin(1), SCORE,              "energy", "Zhao et al. 2017"),
    Objective("relativistic",      LOG_REAL,   None,      LOG_REAL,           "real",   "Jolicoeur-Martineau 2019",
              paired=True),
)}

OBJECTIVE = settings.Setting("objective", "non-saturating", f"what the two players minimise: {', '.join(TABLE)}",
                             replace(settings.choice(*TABLE), metavar="NAME"))


SMOOTHING = settings.Setting("label_smoothing", 0.0, "D's target for real samples is 1 minus this, as .1 makes it .9",
                             settings.number(0, 0.5))


DRIFT = settings.Setting("drift", 0.0, "weight of the squared scores of real samples in D's loss; 0: none",
                         settings.number(0))


def get(name, scale_d=1.0, smoothing=0.0, drift=0.0):
    """The row of this name; `ValueError` listing the names if there is none.

    smoothing   of D's target for real samples alone (Salimans et al. 2016, section 3.4), for unpaired logits
    drift       weight of the squared scores of real samples in D's loss, for unpaired rows
    """
    if name not in TABLE:
        raise ValueError(f"Unknown objective {name!r}: choose one of {', '.join(TABLE)}")
    if not (0 <= smoothing < 1 and 0 <= drift < math.inf):
        raise ValueError(f"Objective {name}: smoothing must be a number from 0 to below 1, drift a finite number >= 0, "
                         f"not {smoothing} and {drift}")
    row = replace(TABLE[name], scale_d=scale_d)
    if smoothing:
        if row.score != "logit":
            logits = ", ".join(each.name for each in TABLE.values() if each.score == "logit")
            raise ValueError(f"Label smoothing is for objectives whose scores are logits ({logits}), not for {name}")
        row = replace(row, real=smoothed(1 - smoothing), smoothing=float(smoothing))
    if drift:
        if row.paired:
            raise ValueError(f"The drift term is for objectives with a term of the real scores, which {name} has not: "
                             "it compares pairs")
        row = replace(row, real=drifting(row.real, drift), drift=float(drift))
    return row


def NonSaturating(scale_d=1.0):
    """The row "non-saturating": G minimises -log D(G(z)), whose gradient stays large where D is sure."""
    return get("non-saturating", scale_d)


def Minimax(scale_d=1.0):
    """The row "minimax": G minimises log(1 - D(G(z))), whose gradient vanishes where D is sure."""
    return get("minimax", scale_d)


def EnergyMargin(m=1.0, scale_d=1.0):
    """The row "energy-margin" with this margin, up to which D raises the energy of fakes."""
    return replace(get("energy-margin", scale_d), fake=margin(m))
