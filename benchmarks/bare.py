"""NumPy's calls of a `goodfellow` step, and nothing else: what the step would take with no engine around them.

Written out for this one system, in place and into memory made once: no layers, no losses' values, no preparation of the
batch. Products are the engine's, features first in memory; momentum is the engine's function, which uses all cores.
`step.py goodfellow` compares a step's weights with the engine's and times it beside the others.
"""

import numpy as np

from scratchgan.kernels.numpy.gemm import dot
from scratchgan.kernels.numpy.optimizers import momentum

PIECES, KEPT = 5, (0.8, 0.5, 0.5)  # of a maxout; the shares of the inputs of D's layers that dropout keeps


class Goodfellow:
    """Steps of a game of its own, whose weights and gradients it uses: `game.networks`."""

    def __init__(self, game):
        self.game, self.memory, self.bits = game, {}, np.random.Philox(0)
        self.dtype = game.generator.dtype
        self.G, self.D = ([(layer.params["weight"], layer.params["bias"], layer.grads["weight"], layer.grads["bias"])
                           for _, layer in network.named_layers() if "weight" in layer.params]
                          for network in game.networks.values())
        self.players = [(network.theta, network.grad, np.zeros_like(network.theta))
                        for network in game.networks.values()]

    def memory_of(self, name, n, features, dtype=None):
        key = name, n, features
        if key not in self.memory:
            self.memory[key] = np.empty((features, n), dtype or self.dtype).T
        return self.memory[key]

    def random_step(self, images):
        n = len(images)
        u = (self.bits.random_raw(50 * n).view("<u4") >> 8).astype(np.float32).reshape(n, 100)
        u *= np.float32(2 * 3**0.5 * 2**-24)
        u -= np.float32(3**0.5)
        self.step(images, u, [self.mask(layer, 2 * n, w.shape[1]) for layer, (w, *_) in enumerate(self.D)])

    def mask(self, layer, n, features):
        words = self.bits.random_raw(n * features // 2).view("<u4").reshape(n, features)
        kept = words >= np.uint32((1 - KEPT[layer]) * 2**32)
        return np.multiply(kept, np.float32(1 / KEPT[layer]), out=self.memory_of(f"mask {layer}", n, features))

    def step(self, images, z, masks):
        n = len(images)
        inputs = [z]                                                    # of G's layers: z, ReLU, ReLU; its images
        for layer, (w, b, *_) in enumerate(self.G):
            y = dot(inputs[-1], w.T, self.memory_of(f"G {layer}", n, len(w)))
            y += b
            if layer < 2:
                np.maximum(y, 0, out=y)
            else:
                np.negative(y, out=y)
                np.exp(y, out=y)
                y += 1
                np.divide(1, y, out=y)
            inputs.append(y)
        fake = inputs.pop()
        x = self.memory_of("both", 2 * n, fake.shape[1])
        x[:n], x[n:] = images.reshape(n, -1), fake
        seen, won = [], []                                              # by D's layers; the winning pieces
        for layer, (w, b, *_) in enumerate(self.D):
            seen.append(np.multiply(x, masks[layer], out=self.memory_of(f"seen {layer}", *x.shape)))
            y = dot(seen[-1], w.T, self.memory_of(f"D {layer}", 2 * n, len(w)))
            y += b
            if layer < 2:
                pieces = y.T.reshape(-1, PIECES, 2 * n)
                x = self.memory_of(f"max {layer}", 2 * n, len(pieces))
                np.max(pieces, axis=1, out=x.T)
                won.append(self.memory_of(f"won {layer}", 2 * n, len(w), np.bool).T.reshape(pieces.shape))
                np.equal(pieces, x.T[:, None], out=won[-1])
        rising = 1 / (1 + np.exp(-y))                                   # sigmoid(score)
        slopes = np.concatenate([rising[:n] - 1, rising[n:]]) * self.dtype.type(0.5 / n)
        self.back_through_D(slopes, slice(0, 2 * n), masks, won, seen)
        dx = self.back_through_D((rising[n:] - 1) * self.dtype.type(1 / n), slice(n, 2 * n), masks, won)
        dy = np.multiply(fake, fake, out=self.memory_of("slope", *fake.shape))
        np.subtract(fake, dy, out=dy)
        dy *= dx
        for layer in (2, 1, 0):
            w, _, dw, db = self.G[layer]
            if layer:
                dx = dot(dy, w, self.memory_of(f"dG {layer}", n, w.shape[1]))
                dx *= inputs[layer] > 0
            dot(dy.T, inputs[layer], dw)
            dot(dy.T, np.ones(n, self.dtype), db)
            dy = dx
        for arrays in self.players:
            momentum(*arrays, 0.5, 0.1)

    def back_through_D(self, dy, rows, masks, won, seen=None):
        """The gradient on the samples; where D's layers have `seen` something, that of their parameters instead."""
        for layer in (2, 1, 0):
            w, _, dw, db = self.D[layer]
            if layer < 2:
                dz = self.memory_of(f"dz {layer}", len(dy), len(w))
                np.multiply(won[layer][..., rows], dy.T[:, None], out=dz.T.reshape(-1, PIECES, len(dy)))
                dy = dz
            if layer or seen is None:
                dx = dot(dy, w, self.memory_of(f"dD {layer}", len(dy), w.shape[1]))
                dx *= masks[layer][rows]
            if seen is not None:
                dot(dy.T, seen[layer], dw)
                dot(dy.T, np.ones(len(dy), self.dtype), db)
            dy = dx
        return dy
