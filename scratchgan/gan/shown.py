"""What a run shows and says of a game: samples, charts, warnings."""

import math

import numpy as np

from scratchgan import backend
from scratchgan.gan import passes
from scratchgan.gan.checks import checked_labels
from scratchgan.gan.latent import whole
from scratchgan.system import Panel, System

SURE = 0.98       # D tells real from fake: its mean probability for the real above this, for fakes below 1 - this
VANISHED = 0.05   # times the largest norm of G's gradient so far: below, G learns no more
ALIKE = 0.05      # samples with less than this share of the standard deviation of the data are taken for all the same
SETTLING = 100    # in so many first steps they may be: G's first weights are small, so that it makes nearly the same
#                   sample from every z, as long as its batch normalisation has seen few batches
# Samples made at once, so that 10,000 do not take 10,000 samples' activations: at most so many, and so many pixels.
SAMPLES_AT_ONCE, PIXELS_AT_ONCE = 1000, 1 << 20


class ShownGame(System):
    """The part of `Game` that looks at it from outside."""

    largest_gradient = 0.0  # norm of G's, over the rows so far

    @property
    def panels(self):
        logits = self.objective.score == "logit"
        return (Panel("loss (nats)" if logits else "loss", {"loss_d": "D's loss", "loss_g": "G's loss"}),
                Panel("mean probability of being real" if logits else "mean score D gives",
                      {"d_real": "D(x)", "d_fake": "D(G(z))", "d_fake_after": "D(G(z)) after D's update"},
                      "probability" if logits else "linear"),
                Panel("norm of the gradient (L2)", {"grad_norm_discriminator": "D's gradient",
                                                    "grad_norm_generator": "G's gradient"}, "log"))

    def warnings(self, row):
        """D has won, where its scores are logits; the samples have collapsed."""
        gradient, told = row.get("grad_norm_generator", 0.0), []
        self.largest_gradient = max(self.largest_gradient, gradient)
        if (self.objective.score == "logit" and row.get("d_real", 0) > SURE and row.get("d_fake", 1) < 1 - SURE
                and gradient <= VANISHED * self.largest_gradient):
            told.append("the discriminator has won: it tells every sample from the data, and the generator's gradient "
                        "has vanished; try a smaller learning rate for the discriminator, a larger one for the "
                        "generator, or the non-saturating loss")
        if row["step"] > SETTLING and row.get("sample_std", 1) < ALIKE:
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
                 "penalties in D's loss": [each.about(self.discriminator) for each in self.penalties],
                 "penalties in G's loss": map(repr, self.penalties_g),
                 "G's step": map(repr, filter(None, (self.unrolled,))),
                 **{f"after an update of the {player}": map(repr, parts) for player, parts in self.updates.items()}}
        told = {"objective": f"{objective.name} ({objective.source}){terms}", "noise": repr(self.latent),
                **{what: words for what, each in parts.items() if (words := ", ".join(each))}}
        if self.n_critic > 1 or self.simultaneous:
            told["steps"] = (f"{self.n_critic} of the discriminator for each one of the generator"
                             f"{', gradients of both from one state' if self.simultaneous else ''}")
        return told

    @property
    def sampler(self):
        """The network that samples are made with: the moving average of G where there is one."""
        return self.networks.get("average", self.generator)

    def sample(self, n, seed=0, labels=None):
        """n samples (n, *sample_shape), float32, in the value range, on the host. One seed, one set of noise.

        In a conditional game `labels` is one for all or one for each; without, the classes take turns.
        """
        n, seed = whole(n, "Game.sample: n", 0), whole(seed, "Game.sample: seed")
        return self.generate(self.latent.draw(n, seed, "sample"), labels)

    def generate(self, z, labels=None):
        """The samples of given noise z (n, z_dim): as `sample`. Leaves the networks as they are."""
        G, z = self.sampler.twin().eval(), self.latent.as_input(z)
        if labels is None and self.classes:
            labels = np.arange(len(z)) % self.classes
        labels = checked_labels(self, len(z), labels)
        samples = np.empty((len(z), *self.sample_shape), np.float32)
        count = max(1, min(SAMPLES_AT_ONCE, PIXELS_AT_ONCE // math.prod(self.sample_shape[1:])))
        for start in range(0, len(z), count):
            part = slice(start, start + count)
            noise = backend.to_device(z[part].astype(G.dtype, copy=False), self.device)
            x = G.forward(passes.given(noise, None if labels is None else labels[part]))
            samples[part] = backend.to_host(self.as_samples(x))
        return samples if self.value_range is None else np.clip(samples, *self.value_range, out=samples)

    def as_samples(self, x):
        """What G made, (N, ...), as samples (N, *sample_shape)."""
        return x.reshape(-1, *self.sample_shape)

    def interpolate(self, first, last, rows, columns):
        rows, columns = (whole(n, "Game.interpolate: rows and columns", 1) for n in (rows, columns))
        a, b = (self.latent.draw(rows, seed, "sample") for seed in (first, last))
        z = np.stack([self.latent.between(a, b, t) for t in np.linspace(0, 1, columns)], axis=1)
        labels = np.repeat(np.arange(rows) % self.classes, columns) if self.classes else None  # one for each row
        return self.generate(z.reshape(rows * columns, -1), labels)
