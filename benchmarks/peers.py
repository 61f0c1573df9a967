"""The same training steps in PyTorch, as peers to measure against: what a tutorial writes, and the best we know."""

import functools
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

COMPILED = "torch.compile"


def mlp_networks(channels):
    G = nn.Sequential(nn.Linear(64, 256), nn.LeakyReLU(0.1), nn.Linear(256, 512), nn.LeakyReLU(0.1),
                      nn.Linear(512, 784), nn.Tanh())
    D = nn.Sequential(nn.Linear(784, 256), nn.LeakyReLU(0.1), nn.Linear(256, 128), nn.LeakyReLU(0.1),
                      nn.Linear(128, 1))
    return G, D


def conv(*sizes):
    return nn.Conv2d(*sizes, bias=False)


def transposed(*sizes):
    return nn.ConvTranspose2d(*sizes, bias=False)


def dcgan28_networks(channels):
    G = nn.Sequential(transposed(100, 128, 7, 1, 0), nn.BatchNorm2d(128), nn.ReLU(),
                      transposed(128, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
                      transposed(64, channels, 4, 2, 1), nn.Tanh())
    D = nn.Sequential(conv(channels, 64, 4, 2, 1), nn.LeakyReLU(0.2),
                      conv(64, 128, 4, 2, 1), nn.BatchNorm2d(128), nn.LeakyReLU(0.2),
                      conv(128, 1, 7, 1, 0))
    return G, D


def dcgan64_networks(channels):
    G = nn.Sequential(transposed(100, 512, 4, 1, 0), nn.BatchNorm2d(512), nn.ReLU(),
                      transposed(512, 256, 4, 2, 1), nn.BatchNorm2d(256), nn.ReLU(),
                      transposed(256, 128, 4, 2, 1), nn.BatchNorm2d(128), nn.ReLU(),
                      transposed(128, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
                      transposed(64, channels, 4, 2, 1), nn.Tanh())
    D = nn.Sequential(conv(channels, 64, 4, 2, 1), nn.LeakyReLU(0.2),
                      conv(64, 128, 4, 2, 1), nn.BatchNorm2d(128), nn.LeakyReLU(0.2),
                      conv(128, 256, 4, 2, 1), nn.BatchNorm2d(256), nn.LeakyReLU(0.2),
                      conv(256, 512, 4, 2, 1), nn.BatchNorm2d(512), nn.LeakyReLU(0.2),
                      conv(512, 1, 4, 1, 0))
    return G, D


@dataclass(frozen=True)
class Rules:
    """A system as published; our recipe of the same name has the same networks, keys and rates."""

    networks: callable
    image_shape: tuple   # as D takes it
    z_shape: tuple
    lr: float
    betas: tuple


RULES = {
    "mlp": Rules(mlp_networks, (784,), (64,), 3e-4, (0.9, 0.999)),
    "dcgan28": Rules(dcgan28_networks, (1, 28, 28), (100, 1, 1), 2e-4, (0.5, 0.999)),
    "dcgan64": Rules(dcgan64_networks, (3, 64, 64), (100, 1, 1), 2e-4, (0.5, 0.999)),
}


class TorchGame:
    """One alternating step from given noise. `lr` None: the published rate."""

    fused = False

    def __init__(self, system, dtype=torch.float32, lr=None, channels_last=False, compiled=False):
        self.rules = RULES[system]
        lr = self.rules.lr if lr is None else lr
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.G, self.D = (network.to(dtype=dtype, memory_format=self.layout) if channels_last else network.to(dtype)
                          for network in self.rules.networks(self.rules.image_shape[0]))
        fused = self.fused or None
        self.optimizer_g = torch.optim.Adam(self.G.parameters(), lr, self.rules.betas, fused=fused)
        self.optimizer_d = torch.optim.Adam(self.D.parameters(), lr, self.rules.betas, fused=fused)
        self.play_g, self.play_d = (torch.compile(n) if compiled else n for n in (self.G, self.D))

    @property
    def networks(self):
        return {"generator": self.G, "discriminator": self.D}

    def load(self, networks):
        """Take the weights of our networks, {name: network}."""
        for name, network in self.networks.items():
            state = {key: torch.from_numpy(value) for key, value in networks[name].state_dict().items()}
            network.load_state_dict(state, strict=True)
        return self

    def random_step(self, x):
        return self.step(x, torch.randn(len(x), *self.rules.z_shape))


class MlpAsWritten(TorchGame):
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


class DcganAsWritten(TorchGame):
    """PyTorch's DCGAN example: D ends in a Sigmoid, BCE, D's gradients computed in G's step too."""

    def step(self, x, z):
        self.optimizer_d.zero_grad()
        label = torch.ones(len(x), dtype=x.dtype)
        F.binary_cross_entropy(torch.sigmoid(self.D(x)).view(-1), label).backward()
        fake = self.G(z)
        label.fill_(0)
        F.binary_cross_entropy(torch.sigmoid(self.D(fake.detach())).view(-1), label).backward()
        self.optimizer_d.step()
        self.optimizer_g.zero_grad()
        label.fill_(1)
        F.binary_cross_entropy(torch.sigmoid(self.D(fake)).view(-1), label).backward()
        self.optimizer_g.step()


class Best(TorchGame):
    """The fastest eager step known to us: detached fake, D frozen in G's step, losses from logits, fused Adam."""

    fused = True

    def step(self, x, z):
        x = x.contiguous(memory_format=self.layout) if x.ndim == 4 else x
        fake = self.play_g(z)
        self.optimizer_d.zero_grad(set_to_none=True)
        self.learn_d(x, fake.detach())
        self.optimizer_d.step()
        for p in self.D.parameters():
            p.requires_grad_(False)
        self.optimizer_g.zero_grad(set_to_none=True)
        F.softplus(-self.play_d(fake)).mean().backward()
        self.optimizer_g.step()
        for p in self.D.parameters():
            p.requires_grad_(True)


class MlpBest(Best):
    """Real and fake in one batch, since no layer mixes samples."""

    def learn_d(self, x, fake):
        scores = self.play_d(torch.cat([x, fake]))
        ((F.softplus(-scores[:len(x)]).mean() + F.softplus(scores[len(x):]).mean()) / 2).backward()


class DcganBest(Best):
    """Real and fake apart, as batch norm sees each alone; each backward at once, which frees its memory sooner."""

    def learn_d(self, x, fake):
        F.softplus(-self.play_d(x)).mean().backward()
        F.softplus(self.play_d(fake)).mean().backward()


def variants(system, compiled=False):
    """{name: a function that makes the game, taking dtype= and lr=}; all but `COMPILED` are eager."""
    written, best = (MlpAsWritten, MlpBest) if system == "mlp" else (DcganAsWritten, DcganBest)
    makers = {"as written": functools.partial(written, system), "best eager": functools.partial(best, system)}
    if system != "mlp":
        makers["best eager, channels_last"] = functools.partial(best, system, channels_last=True)
    if compiled:
        makers[COMPILED] = functools.partial(best, system, compiled=True)
    return makers


def train_one_weight():
    """Loads what PyTorch loads when it is first used."""
    network = nn.Conv2d(1, 1, 1, bias=False)
    network(torch.ones(1, 1, 1, 1)).sum().backward()
    torch.optim.Adam(network.parameters(), fused=True).step()


def compile_problem():
    """None where torch.compile works, else the reason in a line; it needs a C++ compiler."""
    try:
        torch.compile(torch.sigmoid)(torch.ones(1))
    except Exception as error:  # many types, from a missing compiler to a failure of its own
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None
