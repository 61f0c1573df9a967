"""What the two players minimise: pure functions of D's scores.

`real` = D(x) and `fake` = D(G(z)) are arrays of scores (N, 1), before any sigmoid. An objective gives each loss (a
mean over the batch) and its gradient on the scores; nothing else in the engine knows the formula. `score` says what
a score is: "logit" (sigmoid(score) is the probability of being real), "real" (any number) or "energy" (>= 0).
"""

from scratchgan import kernels


class NonSaturating:
    """Goodfellow et al. 2014, section 3, with the generator's loss that does not saturate. With s = softplus:

        loss_d = scale_d (-E log D(x) - E log(1 - D(G(z)))) = scale_d (E s(-real) + E s(fake))
        loss_g = -E log D(G(z))                             = E s(-fake)

    scale_d = 1 is the sum, 0.5 the mean of D's two terms (the original code's choice and the tutorial's).
    """

    score = "logit"

    def __init__(self, scale_d=1.0):
        self.scale_d = scale_d

    def loss_d(self, real, fake):
        return self.scale_d * (kernels.softplus(-real).mean() + kernels.softplus(fake).mean())

    def grad_real(self, real):
        """d loss_d / d real."""
        return -self.scale_d / real.size * kernels.sigmoid(-real)

    def grad_fake(self, fake):
        """d loss_d / d fake."""
        return self.scale_d / fake.size * kernels.sigmoid(fake)

    def loss_g(self, fake):
        return kernels.softplus(-fake).mean()

    def grad_g(self, fake):
        """d loss_g / d fake."""
        return -1 / fake.size * kernels.sigmoid(-fake)


class Minimax(NonSaturating):
    """The same game with the generator of its value function (Goodfellow et al. 2014, eq. 1):

        loss_g = E log(1 - D(G(z))) = -E s(fake)

    Its gradient vanishes where D is sure that the samples are fake: sigmoid(fake) -> 0.
    """

    def loss_g(self, fake):
        return -kernels.softplus(fake).mean()

    def grad_g(self, fake):
        return -1 / fake.size * kernels.sigmoid(fake)
