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


class Dropout(nn.Module):
    """As nn.Dropout in training, by the masks that it is given, in turn, or by one of its own, drawn faster."""

    def __init__(self, p):
        super().__init__()
        self.p, self.given = p, []

    def forward(self, x):
        return x * (self.given.pop(0) if self.given else torch.rand_like(x).ge_(self.p).div_(1 - self.p))


class Maxout(nn.Module):
    def __init__(self, n_in, n_out, pieces):
        super().__init__()
        self.linear, self.shape = nn.Linear(n_in, n_out * pieces), (n_out, pieces)

    def forward(self, x):
        return self.linear(x).unflatten(1, self.shape).max(dim=2)[0]  # faster than amax


def goodfellow_networks(channels):
    G = nn.Sequential(nn.Linear(100, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU(), nn.Linear(1200, 784),
                      nn.Sigmoid())
    D = nn.Sequential(Dropout(0.2), Maxout(784, 240, 5), Dropout(0.5), Maxout(240, 240, 5), Dropout(0.5),
                      nn.Linear(240, 1))
    for network, bound in ((G, 0.05), (D, 0.005)):
        for p in network.parameters():
            nn.init.uniform_(p, -bound, bound) if p.ndim > 1 else nn.init.zeros_(p)
    return G, D


@dataclass(frozen=True)
class Rules:
    """A system as published; our recipe of the same name has the same networks, keys and rates."""

    networks: callable
    image_shape: tuple   # as D takes it
    z_shape: tuple
    lr: float
    betas: tuple = ()


RULES = {
    "mlp": Rules(mlp_networks, (784,), (64,), 3e-4, (0.9, 0.999)),
    "dcgan28": Rules(dcgan28_networks, (1, 28, 28), (100, 1, 1), 2e-4, (0.5, 0.999)),
    "dcgan64": Rules(dcgan64_networks, (3, 64, 64), (100, 1, 1), 2e-4, (0.5, 0.999)),
    "goodfellow": Rules(goodfellow_networks, (784,), (100,), 0.1),
}


class TorchGame:
    """One alternating step from given noise. `lr` None: the published rate."""

    fused = False

    def __init__(self, system, dtype=torch.float32, lr=None, channels_last=False, compiled=False, capturable=False):
        self.rules, self.capturable = RULES[system], capturable
        lr = self.rules.lr if lr is None else lr
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.G, self.D = (network.to(dtype=dtype, memory_format=self.layout) if channels_last else network.to(dtype)
                          for network in self.rules.networks(self.rules.image_shape[0]))
        self.optimizer_g, self.optimizer_d = (self.optimizer(network.parameters(), lr) for network in (self.G, self.D))
        self.play_g, self.play_d = (torch.compile(n) if compiled else n for n in (self.G, self.D))

    def optimizer(self, parameters, lr):
        return torch.optim.Adam(parameters, lr, self.rules.betas, fused=self.fused or None, capturable=self.capturable)

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


class GoodfellowAsWritten(TorchGame):
    """Both players step at once, by gradients of one state, with one batch of fakes and one mask for both losses.

    The momentum is classical, v = m v - lr g; p += v; it and the rate change from step to step.
    """

    steps = 0

    def optimizer(self, parameters, lr):
        self.first_lr, parameters = lr, list(parameters)
        return [(p, torch.zeros_like(p)) for p in parameters]

    def rates(self):
        """(lr, momentum) after `steps`, of which 500 are an epoch."""
        return (max(self.first_lr / 1.000004**self.steps, min(1e-6, self.first_lr)),
                0.5 + 0.2 * min(self.steps // 500 / 249, 1))

    def give(self, masks):
        """The next step's masks of dropout, of 2N samples for each layer, the real ones first."""
        for layer, mask in zip((layer for layer in self.D if isinstance(layer, Dropout)), masks):
            layer.given = self.split(mask)

    def split(self, both):
        return list(both.chunk(2))

    def random_step(self, x):
        return self.step(x, torch.empty(len(x), *self.rules.z_shape).uniform_(-3**0.5, 3**0.5))

    def step(self, x, z):
        real, fake = torch.ones(len(x), 1, dtype=x.dtype), torch.zeros(len(x), 1, dtype=x.dtype)
        of_real, of_fake = torch.sigmoid(self.D(x)), torch.sigmoid(self.D(self.G(z)))
        loss_d = (F.binary_cross_entropy(of_real, real) + F.binary_cross_entropy(of_fake, fake)) / 2
        loss_g = F.binary_cross_entropy(of_fake, real)
        grads_d = torch.autograd.grad(loss_d, list(self.D.parameters()), retain_graph=True)
        grads_g = torch.autograd.grad(loss_g, list(self.G.parameters()))
        self.learn(grads_g, grads_d)

    def learn(self, grads_g, grads_d):
        lr, momentum = self.rates()
        with torch.no_grad():
            for (p, v), p.grad in zip(self.optimizer_g + self.optimizer_d, grads_g + grads_d):
                v.mul_(momentum).sub_(lr * p.grad)
                p.add_(v)
        self.steps += 1


class GoodfellowBest(GoodfellowAsWritten):
    """No gradient that is not needed, losses from logits, momentum in one fused pass."""

    fused = True

    def optimizer(self, parameters, lr):
        self.first_lr = self.lr_before = lr
        return torch.optim.SGD(parameters, lr, momentum=0.5, fused=True)

    def step(self, x, z):
        fake = self.play_g(z)
        seen = fake.detach().requires_grad_()
        of_real, of_fake = self.scores(x, seen)
        loss_d = (F.softplus(-of_real).mean() + F.softplus(of_fake).mean()) / 2
        grads_d = torch.autograd.grad(loss_d, list(self.D.parameters()), retain_graph=True)
        dx, = torch.autograd.grad(F.softplus(-of_fake).mean(), seen)
        self.learn(torch.autograd.grad(fake, list(self.G.parameters()), dx), grads_d)

    def scores(self, x, seen):
        return self.play_d(x), self.play_d(seen)

    def learn(self, grads_g, grads_d):
        """SGD's b = m b + g; p -= lr b is classical momentum with v = -lr b where m is multiplied by lr's fall."""
        lr, momentum = self.rates()
        for p, grad in zip((*self.G.parameters(), *self.D.parameters()), grads_g + grads_d):
            p.grad = grad
        for optimizer in (self.optimizer_g, self.optimizer_d):
            optimizer.param_groups[0].update(lr=lr, momentum=momentum * self.lr_before / lr if lr else momentum)
            optimizer.step()
        self.lr_before, self.steps = lr, self.steps + 1


class GoodfellowTogether(GoodfellowBest):
    """Real and fake in one batch: longer products, but G's gradient passes the real rows, too."""

    def split(self, both):
        return [both]

    def scores(self, x, seen):
        return self.play_d(torch.cat([x, seen])).chunk(2)


def variants(system, compiled=False):
    """{name: a function that makes the game, taking dtype= and lr=}; all but `COMPILED` are eager."""
    written, best = {"mlp": (MlpAsWritten, MlpBest), "goodfellow": (GoodfellowAsWritten, GoodfellowBest)}.get(
        system, (DcganAsWritten, DcganBest))
    makers = {"as written": functools.partial(written, system), "best eager": functools.partial(best, system)}
    if system == "goodfellow":
        makers["best eager, one batch"] = functools.partial(GoodfellowTogether, system)
    elif system != "mlp":
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
