"""The game: one alternating step of discriminator and generator, written out."""

import math
from contextlib import nullcontext

import numpy as np

from scratchgan import backend, kernels, random
from scratchgan.gan.shown import ShownGame
from scratchgan.system import Metrics

# Pixels of real and fake images together up to which D treats both in one pass also where each has statistics of its
# own: half as many calls and longer matrix products. More would leave the caches, and double D's memory.
PIXELS_TOGETHER = 1 << 17
# Numbers of noise up to which several steps' are drawn together.
NUMBERS_AHEAD = 1 << 15
# Samples made at once, so that 10,000 do not take 10,000 samples' activations: at most so many, and so many pixels.
SAMPLES_AT_ONCE, PIXELS_AT_ONCE = 1000, 1 << 20


class Game(ShownGame):
    """A generator and a discriminator that train against each other.

    generator      z (N, *z_shape) -> N images in [-1, 1]
    discriminator  N images, shaped as the generator makes them -> N scores, of any shape (N, 1, ...)
    objective      what the scores are worth to each player: see `scratchgan.gan.objectives`
    z_dim          how many numbers one z has
    image_shape    (C, H, W) of one image; batches and samples have this shape, whatever the networks use
    z_shape        the shape of one z for the generator: (z_dim,) by default, (z_dim, 1, 1) for a convolution
    joint_batch    whether D's own step sees real and fake in one batch of 2N. Where no layer couples samples, draws
                   or has buffers this is the same as one after the other, and faster. Batch normalisation couples
                   them, by statistics
                   - of each batch alone with False, DCGAN's published step: D's running statistics follow three
                     batches a step, the real, the fake, and the fake again when G learns from it (small batches
                     go through D in one pass all the same, each with its own statistics);
                   - of both together with True: then D normalises fake samples in its own step by other statistics
                     than when G learns from it.
                   None: True where no layer of D couples samples, else False.
    """

    def __init__(self, generator, discriminator, objective, optimizer_g, optimizer_d, *, z_dim, image_shape,
                 z_shape=None, joint_batch=None, seed=0):
        self.generator, self.discriminator, self.objective = generator, discriminator, objective
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.z_dim, self.image_shape, self.seed = z_dim, tuple(image_shape), seed
        self.z_shape = (z_dim,) if z_shape is None else tuple(z_shape)
        if math.prod(self.z_shape) != z_dim:
            raise ValueError(f"Game: z_shape {self.z_shape} does not hold z_dim = {z_dim} numbers")
        coupled = any(layer.couples_samples for _, layer in discriminator.walk())
        self.joint_batch = not coupled if joint_batch is None else joint_batch
        self.steps = 0
        self._ahead = None, range(0), None  # noise of the next steps: its kind, the steps, the numbers
        self.sample_shape = self.image_shape

    @property
    def networks(self):
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def optimizers(self):
        return {"generator": self.optimizer_g, "discriminator": self.optimizer_d}

    @property
    def device(self):
        return self.generator.device

    def noise(self, n, seed, purpose, step=0, first=0):
        """z ~ N(0, 1), (n, z_dim)."""
        return random.normal((n, self.z_dim), seed, purpose, step, first, self.generator.dtype, self.device)

    def step_noise(self, n):
        """noise(n, self.seed, "noise", self.steps), with that of the steps after it drawn ahead."""
        kind = n, self.seed, self.generator.dtype, self.device
        drawn, steps, numbers = self._ahead
        if drawn != kind or self.steps not in steps:
            steps = range(self.steps, self.steps + max(1, NUMBERS_AHEAD // (n * self.z_dim)))
            numbers = random.normals(steps, (n, self.z_dim), self.seed, "noise", *kind[2:])
            self._ahead = kind, steps, numbers
        return numbers[self.steps - steps.start]

    def step(self, batch, labels=None):
        """One step of D, then one of G, on a batch of real images (N, *image_shape) in [-1, 1].

        G's samples serve both: D learns from them, then judges them again with its new weights for G to learn from.
        """
        G, D, objective = self.generator, self.discriminator, self.objective
        real = self.checked(batch)
        n, xp = len(real), G.xp
        scores = xp.empty((3, n, 1), G.dtype)  # real, fake, and fake after D's update
        for name, network in self.networks.items():
            network.set_step(self.seed, self.steps, name)
        with G.workspace(), D.workspace(beside=G):
            fake = self.made(G, self.step_noise(n))
            real = real.reshape(fake.shape)

            # D learns which are real. Its gradient does not go on to G.
            D.zero_grad()
            if self.one_pass(real):
                both = D.empty_along("both", (2 * n, *fake.shape[1:]), fake.dtype, backend.memory_order(fake))
                both[:n], both[n:] = real, fake
                with nullcontext() if self.joint_batch else D.in_batches(2):
                    judged = D.forward(both)
                scores[:2] = judged.reshape(2, n, 1)
                dscores = xp.concatenate([objective.grad_real(scores[0]), objective.grad_fake(scores[1])])
                D.backward(dscores.reshape(judged.shape), "params")
            else:  # the backward pass of the real ones comes before the fake ones take over D's caches
                for i, images, grad in ((0, real, objective.grad_real), (1, fake, objective.grad_fake)):
                    judged = D.forward(images)
                    scores[i] = judged.reshape(n, 1)
                    D.backward(grad(scores[i]).reshape(judged.shape), "params")
            self.optimizer_d.step()

            # G: the gradient of its loss comes through the new D, whose own parameters need none.
            judged = D.forward(fake)
            scores[2] = judged.reshape(n, 1)
            dfake = D.backward(objective.grad_g(scores[2]).reshape(judged.shape), "input")
            G.zero_grad()
            G.backward(dfake, "params")
            self.optimizer_g.step()
        self.steps += 1
        return self.metrics(*scores)

    def one_pass(self, real):
        """Whether real and fake go through D together: joint, or kept apart by its layers in a small batch."""
        if self.joint_batch or 2 * real.size // self.image_shape[0] > PIXELS_TOGETHER:
            return self.joint_batch
        return all(layer.knows_batches or not (layer.couples_samples or layer.buffers)
                   for _, layer in self.discriminator.walk())

    def made(self, generator, z):
        """What this generator (G or a twin) makes of noise z (n, z_dim)."""
        return generator.forward(z.reshape(-1, *self.z_shape))

    def metrics(self, real, fake, after):
        """From D's scores of the real and the fake batch, and of the fake one after D's update."""
        return Metrics(loss_d=lambda: self.objective.loss_d(real, fake),
                       loss_g=lambda: self.objective.loss_g(after),
                       d_real=lambda: self.probability(real).mean(),
                       d_fake=lambda: self.probability(fake).mean(),
                       d_fake_after=lambda: self.probability(after).mean())

    def probability(self, scores):
        """What D makes of its scores: the probability of being real for a logit, else the score itself."""
        return kernels.sigmoid(scores) if self.objective.score == "logit" else scores

    def sample(self, n, seed=0, labels=None):
        """n images (n, *image_shape) in [-1, 1], float32, on the host. The same seed gives the same noise."""
        return self.generate(backend.to_host(self.noise(n, seed, "sample")))

    def generate(self, z):
        """The images of given noise z (n, z_dim): float32 in [-1, 1], on the host. Leaves the networks as they are."""
        G = self.generator.twin().eval()
        images = np.empty((len(z), *self.image_shape), np.float32)
        count = max(1, min(SAMPLES_AT_ONCE, PIXELS_AT_ONCE // math.prod(self.image_shape[1:])))
        with G.workspace():
            for start in range(0, len(z), count):
                part = slice(start, start + count)
                made = self.made(G, backend.to_device(z[part], self.device))
                images[part] = backend.to_host(made).reshape(-1, *self.image_shape)
        return images

    def checked(self, batch):
        if not backend.is_array(batch) or batch.dtype.kind != "f":
            raise TypeError("Game.step: expected a float array of images in [-1, 1], got "
                            f"{batch.dtype if backend.is_array(batch) else type(batch).__name__}")
        if batch.ndim != 1 + len(self.image_shape) or batch.shape[1:] != self.image_shape or not len(batch):
            raise ValueError(f"Game.step: expected a batch of shape (N, {', '.join(map(str, self.image_shape))}), "
                             f"got {tuple(batch.shape)}")
        return backend.to_device(batch.astype(self.generator.dtype, copy=False), self.device)

    def state_dict(self):
        """What is neither in the networks nor in the optimizers: plain numbers."""
        return {"steps": self.steps, "seed": self.seed}

    def load_state_dict(self, state):
        self.steps, self.seed = int(state["steps"]), int(state["seed"])
