"""What a run shows and says of a game: charts, warnings."""

import math

import numpy as np

from scratchgan.gan.passes import sharing
from scratchgan.gan.sampling import Sampling
from scratchgan.system import Grid, Panel, is_image

SURE = 0.98       # D tells real from fake: its mean probability for the real above this, for fakes below 1 - this
VANISHED = 0.05   # times the largest norm of G's gradient so far: below, G learns no more
ALIKE = 0.05      # samples with less than this share of the standard deviation of the data are taken for all the same
SETTLING = 100    # in so many first steps they may be: G's first weights are small, so that it makes nearly the same
#                   sample from every z, as long as its batch normalisation has seen few batches
CLASS_ROWS, COLUMNS = 20, 10  # of a conditional game's picture: classes at most, and samples of each


class ShownGame(Sampling):
    """The part of `Game` that looks at it from outside."""

    sampler_name = "generator"
    settling = SETTLING  # a recipe whose first samples are alike by design may set more
    last_gradient, largest_gradient = math.inf, 0.0  # norms of G's, over the rows so far that have one

    @property
    def panels(self):
        logits = self.objective.score == "logit"
        return (Panel("loss (nats)" if logits else "loss", {"loss_d": "D's loss", "loss_g": "G's loss"}),
                Panel("mean probability of being real" if logits else "mean score D gives",
                      {"d_real": "D(x)", "d_fake": "D(G(z))", "d_fake_after": "D(G(z)) after D's update"},
                      "probability" if logits else "linear"),
                Panel("norm of the gradient (L2)", {"grad_norm_discriminator": "D's gradient",
                                                    "grad_norm_generator": "G's gradient"}, "log"))

    def picture(self, run):
        """Samples from always the same noise; in a conditional game a row for each class, a column for each noise."""
        if not self.classes or not is_image(self.sample_shape):
            return super().picture(run)
        labels = np.repeat(np.arange(min(self.classes, CLASS_ROWS)), COLUMNS)
        z = self.latent.draw(COLUMNS, run.config["seed"], "sample")
        return Grid(self.generate(np.tile(z, (len(labels) // COLUMNS, 1)), labels), COLUMNS)

    def warnings(self, row):
        """D has won, where its scores are logits; the samples have collapsed."""
        told = []
        if "grad_norm_generator" in row:
            self.last_gradient = row["grad_norm_generator"]
            self.largest_gradient = max(self.largest_gradient, self.last_gradient)
        if (self.objective.score == "logit" and row.get("d_real", 0) > SURE and row.get("d_fake", 1) < 1 - SURE
                and self.last_gradient <= VANISHED * self.largest_gradient):
            told.append("the discriminator has won: it tells every sample from the data, and the generator's gradient "
                        "has vanished; try a smaller learning rate for the discriminator, a larger one for the "
                        "generator, or the non-saturating loss")
        if row["step"] > self.settling and row.get("sample_std", 1) < ALIKE:
            normalised = any(layer.couples_samples for _, layer in self.generator.named_layers())
            more = "" if normalised else ", or batch normalisation, as the recipe dcgan28 has it"
            told.append("the samples have collapsed: the generator makes nearly the same sample from every z; try "
                        f"smaller learning rates, another seed{more}")
        return told

    def about(self):
        objective = self.objective
        terms = "" if objective.scale_d == 1 else f", D's loss times {objective.scale_d:g}"
        terms += f", D's target for real samples {1 - objective.smoothing:g}" if objective.smoothing else ""
        terms += f" and {objective.drift:g} E D(x)^2 in its loss" if objective.drift else ""
        parts = {"what D sees": map(repr, self.augmentation),
                 "penalties in D's loss": self.penalties_in_words(),
                 "penalties in G's loss": map(repr, self.penalties_g),
                 "G's step": map(repr, filter(None, (self.unrolled,))),
                 **{f"with an update of the {player}": map(repr, parts) for player, parts in self.updates.items()}}
        told = {"objective": f"{objective.name} ({objective.source}){terms}", "noise": repr(self.latent),
                **{what: words for what, each in parts.items() if (words := ", ".join(each))}}
        if self.n_critic > 1 or self.simultaneous:
            told["steps"] = (f"{self.n_critic} of the discriminator for each one of the generator"
                             f"{', gradients of both from one state' if self.simultaneous else ''}")
        return told

    @property
    def smallest_batch(self):
        judged = max(super().smallest_batch, 2 if self.penalties_g else 1)
        return judged * self.pack

    @property
    def pack(self):
        return math.prod(part.joins for part in self.augmentation)

    def couplings(self):
        return super().couplings() + [type(part).__name__ for part in self.penalties_g]

    def notes(self):
        """By which route the penalties on D's gradient are computed."""
        return [f"a penalty in D's loss: {words}" for words in self.penalties_in_words()]

    def penalties_in_words(self):
        D, first = self.discriminator, sharing(self.discriminator, self.penalties)
        return [each.about(D) + (", with the loss" if each is first else "") for each in self.penalties]

    @property
    def sampler(self):
        """The network that samples are made with: the moving average of G where there is one."""
        return self.networks.get("average", self.generator)
