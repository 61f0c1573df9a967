"""`VAE`: the variational autoencoder, its step and the derivation of its gradients."""

import copy

import numpy as np

from scratchgan import backend
from scratchgan.gan.checks import check_batch
from scratchgan.gan.latent import Latent, sizes, whole
from scratchgan.gan.sampling import Sampling, in_parts
from scratchgan.layers import Layer, Sequential, Sigmoid
from scratchgan.losses import BCEWithLogitsLoss
from scratchgan.system import GRID_SIDE, Grid, Metrics, Panel, is_image, scaled

SETTLING = 100  # steps after which z must say something of the image
IGNORED = 0.1   # nats: with less z tells the decoder next to nothing


class VAE(Sampling):
    """An encoder and a decoder that learn the evidence lower bound (Kingma and Welling 2014, section 2.3).

    encoder       images (N, *sample_shape) -> (N, 2 z_dim): mu and logvar of z given the image
    decoder       z (N, *z_shape) -> logits a of the pixels, a Sequential; it ends before the Sigmoid that makes images
    latent        what z is before an image is seen: a `Latent` of kind "normal"
    sample_shape  (C, H, W) of one image; its values are from 0 to 1, the probability that a pixel is white

    The loss of an image x, in nats, its mean over the batch being minimised:

        z   = mu + exp(logvar / 2) eps,  eps ~ N(0, 1)                   as section 2.4 has it
        rec = sum_pixels softplus(a) - x a                               = -log p(x|z), appendix C.1
        kl  = 1/2 sum_z (mu^2 + exp(logvar) - 1 - logvar)                = KL(N(mu, exp(logvar)) || N(0, 1)), appendix B

    So for one image, before the 1/N of the mean,

        da      = sigmoid(a) - x                                         which the decoder takes back to dz
        dmu     = dz + mu                                                as dz/dmu = 1
        dlogvar = 1/2 (dz eps exp(logvar / 2) + exp(logvar) - 1)         as dz/dlogvar = 1/2 exp(logvar / 2) eps

    and (dmu, dlogvar) goes back through the encoder. eps of a step is a function of (seed, step, index of the image).
    """

    value_range = (0, 1)
    cycle = 1
    sampler_name = "decoder"
    panels = (Panel("loss of an image (nats)", {"loss": "loss", "reconstruction": "reconstruction", "kl": "KL"}),
              Panel("norm of the gradient (L2)", {"grad_norm_encoder": "encoder's gradient",
                                                  "grad_norm_decoder": "decoder's gradient"}, "log"))

    def __init__(self, encoder, decoder, optimizer_e, optimizer_d, *, latent, sample_shape, seed=0):
        self.encoder, self.decoder, self.latent = encoder, decoder, latent
        self.networks = {"encoder": encoder, "decoder": decoder}
        self.optimizers = {"encoder": optimizer_e, "decoder": optimizer_d}
        self.sample_shape = sizes(sample_shape, "VAE: sample_shape")
        self.seed = whole(seed, "VAE: seed")
        check_vae(self)

    # -- a step ------------------------------------------------------------------------------------------------------

    def step(self, batch, labels=None):
        """Encoder and decoder learn from this batch of images. Labels are not used."""
        self.draw_from(self.steps)
        metrics = self.gradient(batch)
        for name in self.optimizers:
            self.update(name)
        self.steps += 1
        return Metrics(metrics)

    def gradient(self, batch, labels=None):
        """Encoder's and decoder's grad = d loss / d theta. Returns loss, reconstruction and kl, nats an image."""
        x = self.prepared(batch)
        n, xp, bce = len(x), backend.array_module(x), BCEWithLogitsLoss(reduction="sum")
        mu, logvar = self.halves(self.encoder.forward(x))
        sigma = xp.exp(logvar / 2)                                                  # sigma^2 = exp(logvar)
        eps = self.latent.draw(n, self.seed, "noise", self.steps, dtype=x.dtype, device=self.device)
        z = mu + sigma * eps
        a = self.decoder.forward(self.latent.as_input(z))
        if a.size != x.size:
            raise ValueError(f"VAE: the decoder must give a logit for each value of {n} samples {self.sample_shape}, "
                             f"not {tuple(a.shape)}")
        reconstruction = bce(a, x.reshape(a.shape)) / n
        kl = (mu * mu + sigma * sigma - 1 - logvar).sum() / (2 * n)

        self.encoder.zero_grad()
        self.decoder.zero_grad()
        dz = self.decoder.backward(bce.backward() / n).reshape(z.shape)             # da = (sigmoid(a) - x) / N
        dmu = dz + mu / n
        dlogvar = (dz * eps * sigma + (sigma * sigma - 1) / n) / 2
        self.encoder.backward(xp.concatenate([dmu, dlogvar], axis=1), "params")
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}

    def halves(self, h):
        """(mu, logvar) of what the encoder gives."""
        z_dim = self.latent.z_dim
        if h.ndim != 2 or h.shape[1] != 2 * z_dim:
            raise ValueError(f"VAE: the encoder must give (N, {2 * z_dim}), mean and log-variance of {z_dim} numbers, "
                             f"not {tuple(h.shape)}")
        return h[:, :z_dim], h[:, z_dim:]

    def prepared(self, batch):
        """The batch on the networks' device, in their dtype, from 0 to 1."""
        check_batch(self, batch)
        return scaled(backend.to_device(batch, self.device), self.value_range).astype(self.encoder.dtype, copy=False)

    # -- what a person sees ------------------------------------------------------------------------------------------

    @property
    def sampler(self):
        """The decoder as it is now, a copy, with the Sigmoid that it ends before."""
        return copy.deepcopy(self.decoder).append(Sigmoid())

    def encode(self, images):
        """(mean, log-variance) of z for images (N, *sample_shape): float32 (N, z_dim) each, on the host."""
        encoder, x = self.encoder.twin().eval(), self.prepared(images)
        codes = [backend.to_host(encoder.forward(x[part])) for part in in_parts(len(x), self.sample_shape)]
        return self.halves(np.concatenate(codes).astype(np.float32, copy=False))

    def reconstruct(self, images):
        """What the decoder makes of the mean of z of each image: as `sample`."""
        return self.generate(self.encode(images)[0])

    def picture(self, run):
        """Samples; below them a row of images of the data, and below each what the decoder makes of its code."""
        samples = super().picture(run)
        if not is_image(self.sample_shape):
            return samples
        real = backend.to_host(run.examples(GRID_SIDE, seed=1))
        return Grid(np.concatenate([samples.images, real, self.reconstruct(real)]), columns=len(real))

    def warnings(self, row):
        """The decoder takes no notice of z."""
        if row["step"] > SETTLING and row.get("kl", IGNORED) < IGNORED:
            return ["the code has collapsed: z says next to nothing of the image, and the decoder makes nearly the "
                    "same image from every z; try a smaller learning rate, or another seed"]
        return []

    def about(self):
        return {"objective": "evidence lower bound, binary cross-entropy + KL (Kingma and Welling 2014)",
                "noise": repr(self.latent)}


def check_vae(vae):
    """`ValueError` or `TypeError` unless the parts of a new VAE fit each other."""
    for name, network in vae.networks.items():
        if not isinstance(network, Layer):
            raise TypeError(f"VAE: {name} must be a network (a Layer), not {type(network).__name__}")
        if getattr(vae.optimizers[name], "network", None) is not network:
            raise ValueError(f"VAE: optimizer_{name[0]} is not an optimizer of the {name}: make it from that network, "
                             f"such as Adam({name})")
    if vae.encoder is vae.decoder:
        raise ValueError("VAE: encoder and decoder are one network: make two")
    if not isinstance(vae.decoder, Sequential):
        raise TypeError(f"VAE: decoder must be a Sequential, which a Sigmoid can follow, not {vae.decoder!r}")
    if not isinstance(vae.latent, Latent) or vae.latent.kind != "normal":
        raise ValueError(f"VAE: latent must be a Latent of kind \"normal\", such as Latent(20), not {vae.latent!r}")
