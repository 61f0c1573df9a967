"""What D sees in place of samples: the same change of real and of fake ones, so that D cannot tell them by it."""

from scratchgan import kernels, random, recording, settings
from scratchgan.backend import array_module, device_of
from scratchgan.gan.checks import nonnegative
from scratchgan.gan.latent import whole
from scratchgan.gan.part import Part
from scratchgan.layers import Layer


class Augmentation(Part, Layer):
    """The base: a layer without parameters that comes before D, in training only.

    `forward(x)` makes what D sees of N samples, `backward(dy, wrt)` the gradient of the last pass; what is random is a
    function of `set_step`, drawn anew in each pass. Like every layer it is checked by `gradcheck.check_layer`.
    """

    kind = "augmentation"
    joins = 1  # samples that become one

    def seen_shape(self, shape):
        """The shape of one sample as D sees it, given a sample's."""
        return shape


def seen_shape(parts, shape):
    """What the discriminator of a game with these augmentations must take, given the shape of one sample."""
    for part in parts:
        shape = part.seen_shape(shape)
    return tuple(shape)


class InstanceNoise(Augmentation):
    """y = x + sigma_t n, n ~ N(0, 1);  dx = dy.  sigma_t = sigma (1 - t / until) at step t, 0 from step `until` on.

    until = 0: sigma stays as it is. Real and fake distributions then overlap, however far apart they are, so that D's
    gradient does not vanish (Sonderby et al. 2017; Arjovsky and Bottou 2017).
    """

    SETTINGS = (settings.Setting("instance_noise", 0.0, "sigma of noise added to what D sees; 0: none",
                                 settings.number(0)),
                settings.Setting("instance_noise_steps", 0, "steps until that noise has fallen to 0; 0: it stays",
                                 settings.whole(0), needs=("instance_noise",)))

    @classmethod
    def of(cls, chosen, network=None):
        return cls(chosen.instance_noise, chosen.instance_noise_steps) if chosen.instance_noise else None

    def __init__(self, sigma, until=0):
        super().__init__()
        self.sigma = float(nonnegative(sigma, "InstanceNoise: sigma"))
        self.until = whole(until, "InstanceNoise: until", 0)

    def forward(self, x):
        ops, (seed, key, step, count), dtype = self.ops(x), self._draw, x.real.dtype
        self._draw[3] += 1
        n = random.normal(x.shape, seed, f"instance-noise/{key}/{count}", step, dtype=dtype, device=device_of(x))
        return self.keep(ops.noisy(x, n, *recording.values(self.sigma_at, step, dtype)))

    def sigma_at(self, step):
        return self.sigma * max(0.0, 1 - step / self.until) if self.until else self.sigma,

    def backward(self, dy, wrt="all"):
        self.kept(dy, wrt)
        return None if wrt == "params" else dy.copy()


@kernels.formula
def noisy(x, n, sigma):
    return x + sigma * n


class Pack(Augmentation):
    """D judges packs of m samples, joined along axis 1: (N, C, ...) -> (N / m, m C, ...).

    Consecutive samples make a pack, all real or all fake, so that D sees whether G repeats itself (Lin et al. 2018,
    "PacGAN"). What is left over of a batch is not judged: its gradient is zero.
    """

    SETTINGS = (settings.Setting("pack", 1, "samples that the discriminator judges together", settings.whole(1)),)

    @classmethod
    def of(cls, chosen, network=None):
        return cls(chosen.pack) if chosen.pack > 1 else None

    def __init__(self, m):
        super().__init__()
        self.m = self.joins = whole(m, "Pack: m", 1)

    def seen_shape(self, shape):
        return self.m * shape[0], *shape[1:]

    def forward(self, x):
        self.ops(x)
        packs = len(x) // self.m
        self.expect(packs > 0, x, f"(N, C, ...) with N >= {self.m}, as many as a pack has")
        return self.keep(x[:packs * self.m].reshape(packs, *self.seen_shape(x.shape[1:])), x)

    def backward(self, dy, wrt="all"):
        x = self.kept(dy, wrt)
        if wrt == "params":
            return None
        dx = array_module(dy).zeros(x.shape, dy.dtype)
        dx[:len(dy) * self.m] = dy.reshape(-1, *x.shape[1:])
        return dx
