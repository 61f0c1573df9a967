"""PyTorch's steps on CUDA as it makes them fastest: recorded in a CUDA graph, and compiled.

    python benchmarks/peers_cuda.py       # on the CPU: do they make the same as ours? (nothing is recorded there)
"""

import sys

import torch
from peers import variants
from torch.nn import functional as F


def loaded(system, networks, device, capturable=False):
    """The best eager game on a device, with the weights of our networks."""
    peer = variants(system)["best eager"](capturable=capturable).load(networks)
    for network in peer.networks.values():
        network.to(device)
    return peer


def begin_anew(peer, networks):
    """Weights and moments as at first, in the memory that they have."""
    peer.load(networks)
    for optimizer in (peer.optimizer_g, peer.optimizer_d):
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()


class GraphedSteps:
    """Whole steps of a peer in one CUDA graph: first some on a stream beside, then the recording, as PyTorch's "CUDA
    semantics" has it ("whole-network capture").

    peer    a game whose optimizers are capturable
    x       (K, N, ...) on the device, a batch for each step, to be filled by the caller
    z       (K, N, *z_shape), likewise; None: drawn in the graph by PyTorch's own generator
    """

    def __init__(self, peer, x, z=None, recorded=True):
        self.peer, self.x, self.z = peer, x, z
        if not recorded:
            self.run = self.make
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.make(1)
        torch.cuda.current_stream().wait_stream(side)
        for optimizer in (peer.optimizer_g, peer.optimizer_d):
            optimizer.zero_grad(set_to_none=True)  # so that gradients are made in the graph's memory
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=side):
            self.make()
        self.run = self.graph.replay

    def make(self, steps=None):
        for k in range(steps or len(self.x)):
            self.drawn = torch.randn(len(self.x[k]), *self.peer.rules.z_shape, device=self.x.device,
                                     dtype=self.x.dtype) if self.z is None else self.z[k]
            self.peer.step(self.x[k], self.drawn)


class CompiledPieces:
    """The best step with G, D's loss and G's loss each compiled, losses and passes in one; Adam's step is fused.

    Gradients of the step before are given up first, as the graphs of mode="reduce-overhead" write over them.
    """

    def __init__(self, peer, mode="reduce-overhead", system="mlp"):
        self.peer, D = peer, peer.D

        def loss_d(x, fake):
            if system == "mlp":
                scores = D(torch.cat([x, fake]))
                return (F.softplus(-scores[:len(x)]).mean() + F.softplus(scores[len(x):]).mean()) / 2
            return F.softplus(-D(x)).mean() + F.softplus(D(fake)).mean()

        def loss_g(fake):
            return F.softplus(-D(fake)).mean()
        self.make, self.loss_d, self.loss_g = (torch.compile(piece, mode=mode) for piece in (peer.G, loss_d, loss_g))

    def step(self, x, z):
        peer = self.peer
        for optimizer in (peer.optimizer_d, peer.optimizer_g):
            optimizer.zero_grad(set_to_none=True)
        torch.compiler.cudagraph_mark_step_begin()
        fake = self.make(z)
        self.loss_d(x, fake.detach()).backward()
        peer.optimizer_d.step()
        peer.D.requires_grad_(False)
        self.loss_g(fake).backward()
        peer.optimizer_g.step()
        peer.D.requires_grad_(True)


def distance(peer, networks):
    """{network: relative difference of the weights to ours after their steps, Euclidean}."""
    apart = {}
    for name, theirs in peer.networks.items():
        ours, state = networks[name].state_dict(), theirs.state_dict()
        pairs = [(torch.from_numpy(ours[key]).double().ravel(), state[key].detach().cpu().double().ravel())
                 for key, _ in theirs.named_parameters()]
        a, b = (torch.cat(side) for side in zip(*pairs, strict=True))
        apart[name] = float((a - b).norm() / a.norm())
    return apart


def main():
    from gpu_common import FULL, batches, game_of
    steps, worst = 2, 0.0
    for system in ("mlp", "dcgan28"):
        game = game_of(system, "cpu", FULL[system], "float64")
        images = batches(system, 4, steps, "float64")
        x = torch.from_numpy(images.reshape(steps, 4, -1) if system == "mlp" else images)
        peers = {"recorded": loaded(system, game.networks, "cpu", capturable=True),
                 "compiled": loaded(system, game.networks, "cpu")}
        for peer in peers.values():
            for network in peer.networks.values():
                network.double()
        z = torch.stack([torch.from_numpy(game.latent.draw(4, game.seed, "noise", k, dtype="float64"))
                         for k in range(steps)]).reshape(steps, 4, *peers["recorded"].rules.z_shape)
        recorded = GraphedSteps(peers["recorded"], x, z, recorded=False)
        recorded.run()
        begin_anew(peers["recorded"], game.networks)
        recorded.run()
        pieces = CompiledPieces(peers["compiled"], "default", system)
        for k in range(steps):
            game.step(images[k])
            pieces.step(x[k], z[k])
        for name, peer in peers.items():
            apart = distance(peer, game.networks)
            worst = max(worst, *apart.values())
            print(f"{system}, {name}: relative difference after {steps} steps {apart}")
    return 0 if worst < 1e-8 else 1


if __name__ == "__main__":
    sys.exit(main())
