"""Signs that a game goes wrong, from the rows of its metrics."""

import math


class Won:
    """Tells that D has won: it is `sure` of real samples and of fakes, and the norm of G's gradient has fallen below
    `vanished` times the largest that was seen. For scores that are logits, so that d_real and d_fake are probabilities.
    """

    SENTENCE = ("the discriminator has won: it tells every sample from the data, and the generator's gradient has "
                "vanished; try a smaller learning rate for the discriminator, a larger one for the generator, or the "
                "non-saturating loss")

    def __init__(self, sure=0.98, vanished=0.05):
        self.sure, self.vanished, self.largest = sure, vanished, 0.0

    def __call__(self, row):
        gradient = row.get("grad_norm_generator", math.nan)
        self.largest = max(self.largest, gradient)
        return (row.get("d_real", 0) > self.sure and row.get("d_fake", 1) < 1 - self.sure
                and gradient <= self.vanished * self.largest)
