"""The same training steps in PyTorch, as a peer to measure against."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def mlp_networks():
    """The networks of the recipe `mlp`, with keys equal to ours."""
    G = nn.Sequential(nn.Linear(64, 256), nn.LeakyReLU(0.1), nn.Linear(256, 512), nn.LeakyReLU(0.1),
                      nn.Linear(512, 784), nn.Tanh())
    D = nn.Sequential(nn.Linear(784, 256), nn.LeakyReLU(0.1), nn.Linear(256, 128), nn.LeakyReLU(0.1),
                      nn.Linear(128, 1))
    return G, D


class TorchGame:
    """One alternating step from given noise; starts from the weights of a `scratchgan.Game`."""

    def __init__(self, game, lr=3e-4, betas=(0.9, 0.999), fused=False):
        self.G, self.D = mlp_networks()
        for name, network in (("generator", self.G), ("discriminator", self.D)):
            state = game.networks[name].state_dict()
            network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=True)
        dtype = next(iter(game.generator.state_dict().values())).dtype
        self.G, self.D = (n.to(torch.from_numpy(np.zeros(0, dtype)).dtype) for n in (self.G, self.D))
        self.optimizer_g = torch.optim.Adam(self.G.parameters(), lr, betas, fused=fused or None)
        self.optimizer_d = torch.optim.Adam(self.D.parameters(), lr, betas, fused=fused or None)

    def vector(self, network):
        return torch.cat([p.detach().reshape(-1) for p in network.parameters()]).numpy()


class AsWritten(TorchGame):
    """What a tutorial writes: D ends in a Sigmoid, two BCE losses, the fake batch made twice as long in the graph
    as it need be (D's step runs through G as well), every gradient computed in both steps."""

    def step(self, x, z):
        n = len(x)
        real, fake_label = torch.ones(n, 1, dtype=x.dtype), torch.zeros(n, 1, dtype=x.dtype)
        fake = self.G(z)
        loss_d = (F.binary_cross_entropy(torch.sigmoid(self.D(x)), real)
                  + F.binary_cross_entropy(torch.sigmoid(self.D(fake)), fake_label)) / 2
        self.optimizer_d.zero_grad()
        loss_d.backward(retain_graph=True)
        self.optimizer_d.step()
        loss_g = F.binary_cross_entropy(torch.sigmoid(self.D(fake)), real)
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        return loss_d, loss_g


class Best(TorchGame):
    """The fastest eager step known to us: detached fake, D frozen in G's step, real and fake in one batch, losses
    from logits, fused Adam."""

    def __init__(self, game, **kwargs):
        super().__init__(game, fused=True, **kwargs)

    def step(self, x, z):
        n = len(x)
        fake = self.G(z)
        scores = self.D(torch.cat([x, fake.detach()]))
        loss_d = (F.softplus(-scores[:n]).mean() + F.softplus(scores[n:]).mean()) / 2
        self.optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward()
        self.optimizer_d.step()
        for p in self.D.parameters():
            p.requires_grad_(False)
        loss_g = F.softplus(-self.D(fake)).mean()
        self.optimizer_g.zero_grad(set_to_none=True)
        loss_g.backward()
        self.optimizer_g.step()
        for p in self.D.parameters():
            p.requires_grad_(True)
        return loss_d, loss_g


PEERS = {"as written": AsWritten, "best eager": Best}
