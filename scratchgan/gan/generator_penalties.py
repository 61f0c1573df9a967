"""Further terms of G's loss, against samples that are all alike."""

from scratchgan import kernels, settings
from scratchgan.backend import array_module
from scratchgan.gan.checks import nonnegative
from scratchgan.gan.part import Part
from scratchgan.layers.energy import AutoencoderEnergy


class GeneratorPenalty(Part):
    """The base: a term P that is added to loss_g, made of the fakes, of the noise they came from, or of D's codes.

    After D's pass over the fakes the game asks for `gradient` and for `gradient_of_seen`; a penalty defines one. P is a
    0-d array, analytic, so that `gradcheck.check_game` checks it with loss_g.
    """

    kind = "penalties_g"
    needs_codes = False       # of D as it is
    compares_samples = False  # whatever their labels

    def check(self, D):
        """`ValueError` for a discriminator that the penalty does not fit."""

    def gradient(self, fake, z):
        """(P, dP/dfake) of N fakes and their noise."""
        return 0, 0

    def gradient_of_seen(self, D, joint):
        """(P, dP/dx) of the fakes x as D saw them in its last pass: all of it, or with `joint` its second half."""
        return 0, 0


def with_terms(dx, terms):
    """(dx and the gradients of the terms, their values), of pairs (P, dP/dx)."""
    return sum((d for _, d in terms), dx), [P for P, _ in terms]


class Diversity(GeneratorPenalty):
    """P = weight / (ratio + eps),  ratio = mean |G(z1) - G(z2)| / mean |z1 - z2|, means of absolute values.

    The pairs are samples i and i + N/2; of an odd batch the last is in none. dP/dratio = -weight / (ratio + eps)^2. Not
    for conditional games, where the two of a pair would need one label. Mao et al. 2019, "Mode seeking generative
    adversarial networks for diverse image synthesis", section 3.2; the reciprocal is that of its released code.
    """

    SETTINGS = (settings.Setting("diversity", 0.0, "weight of the mode-seeking term in G's loss; 0: none",
                                 settings.number(0)),)
    compares_samples = True

    @classmethod
    def of(cls, chosen, network=None):
        return cls(chosen.diversity) if chosen.diversity else None

    def __init__(self, weight, eps=1e-5):
        self.weight, self.eps = float(nonnegative(weight, "Diversity: weight")), eps

    def gradient(self, fake, z):
        half = len(fake) // 2
        if not half:
            raise ValueError("Diversity compares samples: it needs a batch of 2 or more")
        (size, dsize), (of_noise, _) = (distance(x[:half], x[half:2 * half]) for x in (fake, z))
        ratio = size / of_noise
        P = self.weight / (ratio + self.eps)
        d = -P / (ratio + self.eps) / of_noise * dsize
        dfake = array_module(fake).zeros_like(fake)
        dfake[:half], dfake[half:2 * half] = d, -d
        return P, dfake

    def __repr__(self):
        return f"Diversity({self.weight})"


def distance(a, b):
    """mean |a - b| over all values, and its gradient on a."""
    difference = a - b
    xp = array_module(a)
    sign = xp.sign(difference.real).astype(a.real.dtype)
    return (sign * difference).mean(), sign / difference.size


class PullAway(GeneratorPenalty):
    """P = weight / (N (N - 1)) sum_{i != j} cos(c_i, c_j)^2 of the codes c_i = encoder(x_i) that D gives the fakes.

    With u_i = c_i / |c_i| and A = sum_j u_j u_j^T, sum_{i != j} (u_i u_j)^2 = sum_i u_i A u_i - N, so that
    dP/du_i = 4 weight / (N (N - 1)) (A u_i), of which |u_i| = 1 leaves the part across u_i:
    dc_i = (du_i - (du_i u_i) u_i) / |c_i|.  Zhao et al. 2017, "Energy-based generative adversarial network", eq. 7.
    """

    SETTINGS = (settings.Setting("pull_away", 0.0, "weight of the pull-away term of D's codes in G's loss; 0: none",
                                 settings.number(0)),)
    needs_codes = True

    @classmethod
    def of(cls, chosen, network=None):
        return cls(chosen.pull_away) if chosen.pull_away else None

    def __init__(self, weight):
        self.weight = float(nonnegative(weight, "PullAway: weight"))

    def check(self, D):
        if not isinstance(D, AutoencoderEnergy):
            raise ValueError("PullAway: the pull-away term needs a discriminator with an encoder: an "
                             "AutoencoderEnergy, as in the recipe ebgan")

    def gradient_of_seen(self, D, joint):
        codes = D.codes.reshape(len(D.codes), -1)
        xp, first = array_module(codes), len(codes) // 2 if joint else 0
        c = codes[first:]
        n = len(c)
        if n < 2:
            raise ValueError("PullAway compares samples: it needs a batch of 2 or more")
        squared = (c * c).sum(axis=1, keepdims=True)
        length = xp.sqrt(xp.where(squared.real > 0, squared, xp.ones_like(squared)))  # a code of zeros is left alone
        u = c / length
        gemm = kernels.of(u).gemm
        A = gemm(u.T, u)
        P = self.weight / (n * (n - 1)) * ((A * A).sum() - (squared.real > 0).sum())  # less those of i with itself
        du = 4 * self.weight / (n * (n - 1)) * gemm(u, A)
        dcodes = xp.zeros_like(codes)
        dcodes[first:] = (du - (du * u).sum(axis=1, keepdims=True) * u) / length
        return P, D.encoder.backward(dcodes.reshape(D.codes.shape), "input")[first:]

    def __repr__(self):
        return f"PullAway({self.weight})"
