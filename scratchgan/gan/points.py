"""`PointGame`: a game of points in the plane, where everything that happens can be seen."""

from dataclasses import replace

from scratchgan import backend
from scratchgan.gan import augmentation, passes
from scratchgan.gan.game import Game
from scratchgan.metrics.modes import of_modes
from scratchgan.system import POINTS, Panel, Points

MEASURED = 10_000         # samples that are measured
ARROWS, MESH = 40, 96    # arrows in a picture, and points of the mesh along a side
MODES = (Panel("modes of the data", {"modes": "modes covered", "fair": "fairly covered"}),
         Panel("share within 3 sigma of a mode", {"hq": "high quality"}, "share"),
         Panel("KL(samples || data) (nats)", {"kl": "KL"}))


class PointGame(Game):
    """A `Game` whose samples are points (x, y).

    modes  {"centres": (K, 2), "sigma": s} of the mixture that it learns: samples are measured by them, see
           `scratchgan.metrics.modes`. None: they are not measured
    scale  the networks see coordinates divided by this; batches, samples and pictures are in those of the data
    """

    def __init__(self, *arguments, modes=None, scale=1.0, sample_shape=(2,), **more):
        super().__init__(*arguments, sample_shape=sample_shape, value_range=None, **more)
        if self.sample_shape != (2,):
            raise ValueError(f"PointGame: samples are points of shape (2,), not {self.sample_shape}")
        self.modes, self.scale = modes, float(scale)

    def prepared(self, batch, labels=None):
        real, labels = super().prepared(batch, labels)
        return self.as_seen(real), labels

    def as_seen(self, points):
        """Points as the networks see them."""
        points = backend.to_device(points, self.device).astype(self.generator.dtype, copy=False)
        return points / points.dtype.type(self.scale)

    def generate(self, z, labels=None):
        samples = super().generate(z, labels)
        samples *= samples.dtype.type(self.scale)
        return samples

    # -- shown -------------------------------------------------------------------------------------------------------

    @property
    def panels(self):
        losses, *others = super().panels
        return (losses, *(MODES if self.modes else ()), *others)

    def measure(self):
        """Modes covered, fairly covered, high quality and KL of 10,000 samples, always from the same noise."""
        return of_modes(self.sample(MEASURED, seed=self.seed), **self.modes) if self.modes else {}

    def picture(self, run):
        """Points over those of the data, what D says of the plane, and where G's loss moves some of the samples.

        A discriminator that sees several samples at once, or labels, says nothing of single points: then points alone.
        """
        picture = Points(run.examples(POINTS), self.sample(POINTS, seed=run.config["seed"]))
        if self.classes or augmentation.seen_shape(self.augmentation, self.sample_shape) != self.sample_shape:
            return picture
        D, k = self.discriminator.twin().eval(), min(ARROWS, len(picture.data))
        return replace(picture, scores=self.scores_of(D, picture.mesh(MESH)).reshape(MESH, MESH),
                       scores_range=(0, 1) if self.objective.score == "logit" else None, at=picture.samples[:k],
                       arrows=self.descent_directions(D, picture.samples[:k], picture.data[:k]))

    def scores_of(self, D, points):
        """What D says of points (N, 2): (N,), on the host."""
        told = self.objective.says(passes.scores(D, self.as_seen(points)))
        return backend.to_host(told).reshape(len(points), -1).mean(axis=1)

    def descent_directions(self, D, samples, real):
        """-d loss_g / dx (N, 2) at N samples, given as many real points: each moved along it, the loss falls."""
        of_real = passes.scores(D, self.as_seen(real)) if self.objective.paired else None
        of_fake = passes.scores(D, self.as_seen(samples))
        return -backend.to_host(passes.fake_gradient(D, self.objective.grad_g(of_fake, of_real), joint=False))
