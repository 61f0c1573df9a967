"""Discriminators that give energies, as in energy-based GANs."""

import math

from scratchgan.layers.base import Layer


class GivesEnergies:
    """A base of discriminators whose scores are energies, 0 or more and small for real samples, such as the error of an
    autoencoder: `class Energy(GivesEnergies, Layer)`. Objectives for energies take these, the others all the rest."""


class AutoencoderEnergy(GivesEnergies, Layer):
    """E_n = 1/m sum_i (r[n, i] - x[n, i])^2, r = decoder(encoder(x)), over the m values of sample n.

    With e = dr = 2/m dE_n (r - x), from r and from x itself:  dx = encoder^T(decoder^T(e)) - e.

    x (N, ...), E (N,); the decoder gives the shape of x. `codes` are those of the last pass, encoder(x). Zhao et al.
    2017, "Energy-based generative adversarial network", section 2.3.
    """

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    @property
    def codes(self):
        return self._kept[-1][1]

    def forward(self, x):
        self.ops(x)
        codes = self.encoder.forward(x)
        error = self.decoder.forward(codes)
        self.expect(error.shape == x.shape, x, f"{tuple(error.shape)}, which the decoder gives")
        error = error - x
        flat = error.reshape(len(x), math.prod(x.shape[1:]))
        return self.keep((flat * flat).mean(axis=1), error, codes)

    def backward(self, dy, wrt="all"):
        error, _ = self.kept(dy, wrt)
        n, size = len(error), math.prod(error.shape[1:])
        dr = (2 / size * dy).reshape(n, *(1,) * (error.ndim - 1)) * error
        dcodes = self.decoder.backward(dr, "all" if wrt == "params" else wrt)
        dx = self.encoder.backward(dcodes, wrt)
        return None if wrt == "params" else dx - dr
