"""Networks that grow while they train: from small images to large ones, each new stage faded in.

Karras et al. 2018, "Progressive growing of GANs for improved quality, stability, and variation", section 2. A network
has the parameters of all stages from the first step on. Which stage it is in, and how far that is faded in, are
functions of the step that `set_step` tells, so that a checkpoint has nothing more to hold.
"""

from dataclasses import dataclass

from scratchgan.backend import array_module
from scratchgan.gan.game import Game
from scratchgan.layers import AvgPool2d, Layer, Sequential, Upsample
from scratchgan.system import Panel


@dataclass(frozen=True)
class Growth:
    """(stage, alpha) after `step` steps: each of `stages` lasts its share of `steps`, the last one on and on.

    alpha, the part of the newest stage, goes from 0 to 1 over the first half of each stage but the first, which has 1.
    """

    stages: int
    steps: int

    def __call__(self, step):
        stage = min(step * self.stages // self.steps, self.stages - 1)
        return stage, min(1.0, 2 * (step * self.stages / self.steps - stage)) if stage else 1.0

    def begins(self, step):
        """Whether the step after this many is the first of a new stage."""
        return step > 0 and self(step)[0] != self(step - 1)[0]


class Growing(Layer):
    """The base of both networks: what they are made of.

    blocks  a layer for each stage: to features twice as large in G, half as large in D; the first from z, or to scores
    images  a layer for each stage: from features to images in G, from images to features in D
    growth  step -> (stage, alpha), such as a `Growth`
    """

    def __init__(self, blocks, images, growth):
        super().__init__()
        if len(blocks) != len(images):
            raise ValueError(f"{type(self).__name__}: each stage needs a block and a layer for images, got "
                             f"{len(blocks)} and {len(images)}")
        self.blocks, self.images, self.growth = Sequential(*blocks), Sequential(*images), growth

    def now(self):
        return self.growth(self._draw[2])

    def forward(self, x):
        self.ops(x)
        return self.keep(self.through(x, *self.now(), lambda layer, x: layer.forward(x)), *self.now())

    def through(self, x, stage, alpha, run):
        """What becomes of x, where run(layer, x) goes through one layer."""
        raise NotImplementedError(f"{type(self).__name__} does not define through")

    def unused(self):
        """The keys of parameters whose gradient is zero in this stage."""
        stage, alpha = self.now()
        used = [f"blocks.{i}." for i in range(stage + 1)] + [f"images.{stage}."]
        used += [f"images.{stage - 1}."] if alpha < 1 else []
        return [key for key, _ in self.named_parameters() if not key.startswith(tuple(used))]


class GrowingGenerator(Growing):
    """y = (1 - alpha) up(image_{k-1}(h)) + alpha image_k(block_k(h)),  h = block_{k-1}(... block_0(z)), in stage k.

    up takes each pixel four times; y is as large as images of stage k are. dh has a part from each of the two ways:

        dh = image_{k-1}^T(up^T((1 - alpha) dy)) + block_k^T(image_k^T(alpha dy))
    """

    piecewise_linear = True

    def __init__(self, blocks, images, growth):
        super().__init__(blocks, images, growth)
        self.up = Upsample(scale_factor=2)

    def through(self, h, stage, alpha, run):
        for i in range(stage):
            h = run(self.blocks[i], h)
        y = run(self.images[stage], run(self.blocks[stage], h))
        if alpha < 1:
            y = (1 - alpha) * run(self.up, run(self.images[stage - 1], h)) + alpha * y
        return y

    def backward(self, dy, wrt="all"):
        stage, alpha = self.kept(dy, wrt)
        inner = "all" if wrt == "params" else wrt           # only the first block needs no gradient on its input
        dh = self.images[stage].backward(alpha * dy, inner)
        dh = self.blocks[stage].backward(dh, inner if stage else wrt)
        if alpha < 1:
            dh = dh + self.images[stage - 1].backward(self.up.backward((1 - alpha) * dy), inner)
        for i in reversed(range(stage)):
            dh = self.blocks[i].backward(dh, inner if i else wrt)
        return dh

    def tangent(self, z, c=None):
        return self.through(z, *self.kept_for(z, c), lambda layer, z: layer.tangent(z, c))


class GrowingDiscriminator(Growing):
    """s = block_0(... block_{k-1}(h)),  h = (1 - alpha) image_{k-1}(down(x)) + alpha block_k(image_k(x)), in stage k.

    The mirror image of G: x are images of stage k, down is the mean of four pixels.

        dx = down^T(image_{k-1}^T((1 - alpha) dh)) + image_k^T(block_k^T(alpha dh))
    """

    piecewise_linear = True

    def __init__(self, blocks, images, growth):
        super().__init__(blocks, images, growth)
        self.down = AvgPool2d(2)

    def through(self, x, stage, alpha, run):
        h = run(self.blocks[stage], run(self.images[stage], x))
        if alpha < 1:
            h = (1 - alpha) * run(self.images[stage - 1], run(self.down, x)) + alpha * h
        for i in reversed(range(stage)):
            h = run(self.blocks[i], h)
        return h

    def backward(self, ds, wrt="all"):
        stage, alpha = self.kept(ds, wrt)
        inner, dh = "all" if wrt == "params" else wrt, ds
        for i in range(stage):
            dh = self.blocks[i].backward(dh, inner)
        dx = self.images[stage].backward(self.blocks[stage].backward(alpha * dh, inner), wrt)
        if alpha < 1:
            smaller = self.images[stage - 1].backward((1 - alpha) * dh, wrt)
            dx = None if wrt == "params" else dx + self.down.backward(smaller)
        return dx

    def tangent(self, z, c=None):
        return self.through(z, *self.kept_for(z, c), lambda layer, z: layer.tangent(z, c))


class GrowingGame(Game):
    """A `Game` of a `GrowingGenerator` and a `GrowingDiscriminator`.

    D sees real images as large as those of the stage: means of squares of pixels, while it fades in blended with those
    of the stage before, as G's are. A new stage resets both optimizers: Adam's second moments of weights that wake hold
    the zeros of their sleep, which would make their first steps ten times too long.
    Samples are as large as images of the last stage, each pixel of a smaller one a square.
    """

    @property
    def growth(self):
        return self.generator.growth

    cycle = None  # the stages differ

    def step(self, batch, labels=None):
        if self.growth.begins(self.steps):
            for optimizer in self.optimizers.values():
                optimizer.reset()
        metrics = super().step(batch, labels)
        self.draw_from(self.steps)                          # samples are those of the stage that comes
        return metrics

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.draw_from(self.steps)

    def prepared(self, batch, labels=None):
        real, labels = super().prepared(batch, labels)
        stage, alpha = self.growth(self.steps)
        real = smaller(real, 2 ** (self.growth.stages - 1 - stage))
        if alpha < 1:
            real = (1 - alpha) * larger(smaller(real, 2), 2) + alpha * real
        return real, labels

    def as_samples(self, x):
        return larger(x, self.sample_shape[-1] // x.shape[-1])

    # -- what is shown ---------------------------------------------------------------------------------------------

    def discriminator_gradient(self, real, fake, labels=None):
        scores, metrics = super().discriminator_gradient(real, fake, labels)
        stage, alpha = self.growth(self.steps)
        size = self.sizes[stage]
        return scores, {**metrics, "image_size": alpha * size + (1 - alpha) * size / 2}

    @property
    def sizes(self):
        return [self.sample_shape[-1] >> i for i in reversed(range(self.growth.stages))]

    @property
    def panels(self):
        return (*super().panels, Panel("size of the images (pixels)", {"image_size": "image size"}))

    def about(self):
        stages = ", ".join(f"{size}x{size}" for size in self.sizes)
        return {**super().about(), "growth": f"images {stages}, each for as many of the run's steps, the first half of "
                                             "which fades it in; each resets the optimizers"}

    @property
    def phases(self):
        """The first stage, and the last one half faded in: of three stages they use all parameters."""
        stages, steps = self.growth.stages, self.growth.steps
        return (0, (4 * stages - 3) * steps // (4 * stages)) if stages > 1 else (0,)

    def unused(self, name):
        return self.networks[name].unused()


def smaller(x, factor):
    """Images (N, C, H, W), each pixel the mean of factor x factor."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // factor, factor, w // factor, factor).mean(axis=(3, 5)) if factor > 1 else x


def larger(x, factor):
    """Images, each pixel factor x factor times."""
    xp = array_module(x)
    return xp.repeat(xp.repeat(x, factor, axis=2), factor, axis=3) if factor > 1 else x
