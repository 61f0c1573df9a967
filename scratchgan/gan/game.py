"""`Game`: a generator and a discriminator in alternating steps, written out."""

from scratchgan import backend
from scratchgan.gan import objectives, passes
from scratchgan.gan.checks import check_batch, check_game, check_made, checked_labels
from scratchgan.gan.generator_penalties import with_terms
from scratchgan.gan.latent import sizes, whole
from scratchgan.gan.shown import ShownGame
from scratchgan.system import Metric, Metrics, scaled


def repeats(piece):
    """Whether its steps are the same operations again: see `System.cycle`. What is of one's own has to say so."""
    return type(piece).__module__.split(".")[0] == __name__.split(".")[0] or getattr(piece, "repeats", False)


class Game(ShownGame):
    """A generator and a discriminator that train against each other.

    generator      z (N, *z_shape) -> N samples
    discriminator  N samples, shaped as the generator makes them -> N scores or maps of scores, before any sigmoid
    objective      what each player minimises: a row of `scratchgan.gan.objectives`, or its name
    latent         what z is: a `Latent`
    sample_shape   (C, H, W) of one image; batches and samples have this shape, whatever the networks use
    n_critic       D's steps for each one of G's
    simultaneous   whether G's gradient is taken from the same state as D's, not from D after its update
    augmentation   what D sees in place of samples: `Augmentation`s
    penalties      further terms of D's loss: `Penalty`s
    penalties_g    further terms of G's loss: `GeneratorPenalty`s
    unrolled       how G looks ahead at D's next steps: an `Unrolled`, or None
    updates_d, updates_g   what goes with an update of a player: `Update`s
    classes        of a conditional game, whose networks take (z, labels) and (samples, labels): how many classes the
                   labels name, 0 to classes - 1. 0: they take none
    value_range    (low, high) of the samples' values; None for points
    joint_batch    whether D's own step sees real and fake in one batch of 2N: see `scratchgan.gan.passes`. None: where
                   no layer of D couples samples
    """

    def __init__(self, generator, discriminator, objective, optimizer_g, optimizer_d, *, latent, sample_shape,
                 n_critic=1, simultaneous=False, augmentation=(), penalties=(), penalties_g=(), unrolled=None,
                 updates_d=(), updates_g=(), classes=0, value_range=(-1, 1), joint_batch=None, seed=0):
        self.generator, self.discriminator = generator, discriminator
        self.objective = objectives.get(objective) if isinstance(objective, str) else objective
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.latent = latent
        self.sample_shape = sizes(sample_shape, "Game: sample_shape")
        self.n_critic, self.simultaneous = whole(n_critic, "Game: n_critic", 1), simultaneous
        self.augmentation = tuple(augmentation)
        self.penalties, self.penalties_g, self.unrolled = tuple(penalties), tuple(penalties_g), unrolled
        self.updates = {"discriminator": tuple(updates_d), "generator": tuple(updates_g)}
        self.classes, self.value_range = whole(classes, "Game: classes", 0), value_range
        self.joint_batch = not passes.couples_samples(discriminator) if joint_batch is None else joint_batch
        self.seed = whole(seed, "Game: seed")
        check_game(self)

    def initialize(self, seed, device="cpu"):
        super().initialize(whole(seed, "Game: seed"), device)
        for player, parts in self.updates.items():
            for part in parts:
                part.begin(self.networks[player])
        return self

    @property
    def networks(self):
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        for part in (*self.updates["generator"], *self.updates["discriminator"]):
            networks |= part.networks
        return networks

    @property
    def optimizers(self):
        return {"generator": self.optimizer_g, "discriminator": self.optimizer_d}

    @property
    def cycle(self):
        """`n_critic`; None where G looks ahead at D, which takes rates of the steps to come as they are now, and where
        a part, or the class of the game, is of one's own and does not say that it `repeats`."""
        pieces = (self, *self.augmentation, *self.penalties, *self.penalties_g, *self.updates["discriminator"],
                  *self.updates["generator"])
        return self.n_critic if not self.unrolled and all(map(repeats, pieces)) else None

    # -- a step ------------------------------------------------------------------------------------------------------

    def step(self, batch, labels=None):
        """D learns from this batch of real samples; every n_critic-th time G learns from D."""
        self.draw_from(self.steps)                            # masks and noise are functions of (seed, step)
        real, labels = self.prepared(batch, labels)           # on the device, in the networks' range
        g_learns = (self.steps + 1) % self.n_critic == 0
        fake = self.fakes(len(real), labels)                  # a constant for D; G's caches wait for G's turn
        scores, metrics = self.discriminator_gradient(real, fake, labels)
        if g_learns and self.simultaneous:                    # both gradients from one state: D's pass just made
            metrics |= self.generator_gradient(real, fake, labels, scores)
        self.update("discriminator")                          # reduce, optimizer, what follows an update
        if g_learns and not self.simultaneous:
            if self.n_critic > 1:
                fake = self.fakes(len(real), labels, "noise/g")
            metrics |= self.generator_gradient(real, fake, labels)
        if g_learns:
            self.update("generator")
        self.steps += 1                                       # counts D's steps; schedules and half-lives do, too
        return Metrics(metrics)

    def draw_from(self, step):
        super().draw_from(step)
        for what, parts in (("augmentation", self.augmentation), ("penalty", self.penalties)):
            for i, part in enumerate(parts):
                part.set_step(self.seed, step, f"{what}.{i}")

    def fakes(self, n, labels=None, purpose="noise"):
        """n samples of G, of noise of this step."""
        G = self.generator
        self.z = self.latent.draw(n, self.seed, purpose, self.steps, dtype=G.dtype, device=G.device)
        return G.forward(passes.given(self.latent.as_input(self.z), labels))

    def seen_both(self, real, fake):
        """What D sees of real and of fake samples; the augmentations' last pass is the fake's."""
        def seen(x):
            for part in self.augmentation:
                x = part.forward(x)
            return x
        check_made(self, fake, real.shape[1:])
        return seen(real.reshape(fake.shape)), seen(fake)

    def discriminator_gradient(self, real, fake, labels=None):
        """D's grad = d loss_d / d theta_D, penalties included; none of it reaches G. Returns D's scores and metrics."""
        D, objective = self.discriminator, self.objective
        D.zero_grad()
        real, fake = self.seen_both(real, fake)
        scores, terms = passes.learn(D, objective, real, fake, labels, self.joint_batch, self.penalties)
        def loss_d(mean, real, fake, *terms):                 # computed when it is read: see `Metric`
            return sum(terms, objective.loss_d(real, fake, mean))
        return scores, {"loss_d": Metric(loss_d, scores.real, scores.fake, *terms),
                        "d_real": self.mean_verdict(scores.real), "d_fake": self.mean_verdict(scores.fake)}

    def mean_verdict(self, scores):
        """The mean of what D says of samples, for a person: a probability where scores are logits."""
        return Metric(lambda mean, scores: mean(self.objective.says(scores)), scores)

    def generator_gradient(self, real, fake, labels=None, scores=None):
        """G's grad = d loss_g / d theta_G, through D's last pass, that over the fakes; D's own grad stays as it is.

        `scores` of a pass just made are those of a simultaneous step; without, D scores the fakes now.
        """
        G, D, objective = self.generator, self.discriminator, self.objective
        after = scores is None and not self.unrolled
        if self.unrolled:
            dx, scores = self.unrolled.gradient(self, *self.seen_both(real, fake), labels)
        else:
            scores = scores or self.scores_now(real, fake, labels)
            dx = passes.fake_gradient(D, objective.grad_g(scores.fake, scores.real), scores.joint)
        dx, of_codes = with_terms(dx, [part.gradient_of_seen(D, scores.joint) for part in self.penalties_g])
        for part in reversed(self.augmentation):
            dx = part.backward(dx, "input")
        dx, of_samples = with_terms(dx, [part.gradient(fake, self.z) for part in self.penalties_g])
        for part in self.updates["generator"]:
            part.sees(dx)
        G.zero_grad()
        G.backward(dx, "params")
        def loss_g(mean, fake, real, *terms):
            return sum(terms, objective.loss_g(fake, real, mean))
        metrics = {"loss_g": Metric(loss_g, scores.fake, scores.real, *of_codes, *of_samples)}
        return {**metrics, "d_fake_after": self.mean_verdict(scores.fake)} if after else metrics

    def scores_now(self, real, fake, labels=None):
        """D's scores in G's turn: of the fakes, and before them of the real samples where the objective pairs them."""
        D = self.discriminator
        real, fake = self.seen_both(real, fake)
        of_real = passes.scores(D, real, labels) if self.objective.paired else None
        return passes.Scores(of_real, passes.scores(D, fake, labels))

    def update(self, player):
        """One step of the player's optimizer, along the mean gradient of all ranks, and what goes with it."""
        for part in self.updates[player]:
            part.before(self.networks[player])
        super().update(player)
        for part in self.updates[player]:
            part.after(self.networks[player], self.steps + 1, 1 if player == "discriminator" else self.n_critic)

    def prepared(self, batch, labels=None):
        """The batch on the networks' device, in their dtype and range; its labels, None unless they take some."""
        check_batch(self, batch)
        real = scaled(backend.to_device(batch, self.device), self.value_range)
        return real.astype(self.generator.dtype, copy=False), checked_labels(self, len(real), labels)
