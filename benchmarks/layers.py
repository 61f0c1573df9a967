"""Every layer's forward and backward pass against PyTorch's, over the shapes of our systems.

    pip install -e ".[torch]"
    python benchmarks/layers.py                              # all: about five minutes
    python benchmarks/layers.py --only Conv2d --only Linear  # these layers
    python benchmarks/layers.py --quick                      # does it run? its figures mean nothing

Each row is first checked: y, dx and all parameters' gradients equal PyTorch's, to 1e-9 in float64 and 1e-4 in float32
(relative to the largest entry; dropout, whose masks are random, to its own mask). Then both are timed in turn, in one
process: blocks of passes, a pause before each. Backward is dx and all parameters' gradients. Times are medians, ratios
ours over theirs: below 1, ours is faster.

Both get their arrays as they come inside a network: ours from the layer before, channels last in memory between
convolutions and features first between fully connected layers; PyTorch's contiguous or, where that is faster in all,
channels_last ("cl"). GFLOP/s counts the direct algorithm's products. Layers that only reshape are left out: they move
nothing.
"""

import argparse
import itertools
import os
import statistics
import time
from dataclasses import dataclass

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")  # as scratchgan does, where it is imported before NumPy

import numpy as np
import torch

from scratchgan import backend, layers
from scratchgan.kernels.numpy.convolution.layout import CHANNELS_LAST
from scratchgan.profiling import products, short

BATCH, BLOCKS, BLOCK_SECONDS, PAUSE = 64, 4, 0.1, 0.1


@dataclass(frozen=True)
class Case:
    where: str
    name: str
    arguments: tuple
    shape: tuple

    def ours(self):
        return getattr(layers, self.name)(*self.arguments)

    def theirs(self):
        """PyTorch's layer of the same name, None where it has none."""
        kind = getattr(torch.nn, self.name, None)
        return kind and kind(*self.arguments)


def cases(n):
    """(where it comes from, layer, its arguments, shape of x) for batches of n images."""
    stride = (4, 2, 1)
    for where, sizes, rows in (("mlp G", (64, 256, 512, 784), n), ("mlp D", (784, 256, 128, 1), 2 * n)):
        for a, b in itertools.pairwise(sizes):
            yield Case(where, "Linear", (a, b), (rows, a))
    yield Case("goodfellow G", "Linear", (1200, 1200), (100, 1200))
    yield Case("mlp G", "LeakyReLU", (0.1,), (n, 512))
    yield Case("mlp G", "Tanh", (), (n, 784))
    yield Case("", "Maxout", (784, 240, 5), (100, 784))
    yield Case("", "Dropout", (0.5,), (100, 1200))
    yield Case("", "BatchNorm1d", (1024,), (n, 1024))
    yield Case("", "LayerNorm", (1024,), (n, 1024))

    for where, name, arguments, size in (
            ("dcgan28 G", "ConvTranspose2d", (100, 128, 7), 1), ("dcgan28 G", "ConvTranspose2d", (128, 64, *stride), 7),
            ("dcgan28 G", "ConvTranspose2d", (64, 1, *stride), 14),
            ("dcgan28 D", "Conv2d", (1, 64, *stride), 28), ("dcgan28 D", "Conv2d", (64, 128, *stride), 14),
            ("dcgan28 D", "Conv2d", (128, 1, 7), 7),
            ("dcgan64 G", "ConvTranspose2d", (100, 512, 4), 1),
            ("dcgan64 G", "ConvTranspose2d", (512, 256, *stride), 4),
            ("dcgan64 G", "ConvTranspose2d", (256, 128, *stride), 8),
            ("dcgan64 G", "ConvTranspose2d", (128, 64, *stride), 16),
            ("dcgan64 G", "ConvTranspose2d", (64, 3, *stride), 32),
            ("dcgan64 D", "Conv2d", (3, 64, *stride), 64), ("dcgan64 D", "Conv2d", (64, 128, *stride), 32),
            ("dcgan64 D", "Conv2d", (128, 256, *stride), 16), ("dcgan64 D", "Conv2d", (256, 512, *stride), 8),
            ("dcgan64 D", "Conv2d", (512, 1, 4), 4),
            ("3x3", "Conv2d", (32, 32, 3, 1, 1), 32), ("3x3", "Conv2d", (64, 64, 3, 1, 1), 32),
            ("3x3", "Conv2d", (128, 128, 3, 1, 1), 16), ("3x3", "Conv2d", (256, 256, 3, 1, 1), 8),
            ("1x1", "Conv2d", (64, 64, 1), 32)):
        yield Case(where, name, arguments, (n, arguments[0], size, size))
    for where, channels, size in (("dcgan28 G", 128, 7), ("dcgan28 G", 64, 14), ("dcgan64 G", 512, 4),
                                  ("dcgan64 G", 256, 8), ("dcgan64 G", 128, 16), ("dcgan64 G", 64, 32)):
        yield Case(where, "BatchNorm2d", (channels,), (n, channels, size, size))
    yield Case("dcgan64 G", "ReLU", (), (n, 64, 32, 32))
    yield Case("dcgan64 D", "LeakyReLU", (0.2,), (n, 64, 32, 32))
    yield Case("dcgan64 G", "Tanh", (), (n, 3, 64, 64))
    yield Case("", "Sigmoid", (), (n, 3, 64, 64))
    yield Case("", "Softplus", (), (n, 3, 64, 64))
    yield Case("", "LayerNorm", ((64, 32, 32),), (n, 64, 32, 32))
    yield Case("", "InstanceNorm2d", (64,), (n, 64, 32, 32))
    for name in ("AvgPool2d", "MaxPool2d"):
        yield Case("", name, (2,), (n, 64, 32, 32))
    yield Case("", "Upsample", (None, 2), (n, 64, 16, 16))


# -- the two engines -----------------------------------------------------------------------------------------------


def chained(x):
    """x in the order of memory in which it comes inside one of our networks; images are as they are loaded."""
    if x.ndim == 4 and x.shape[1] > 3:
        return np.ascontiguousarray(x.transpose(CHANNELS_LAST)).transpose(0, 3, 1, 2)
    return np.asfortranarray(x) if x.ndim == 2 else x


class Ours:
    def __init__(self, case, dtype="float32"):
        self.layer = case.ours().to(dtype=dtype)
        self.x = chained(np.random.default_rng(0).standard_normal(case.shape).astype(dtype))
        self.dy = None

    def gradient(self, y):
        """dy in y's order of memory."""
        dy = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
        order = backend.memory_order(y)
        return np.ascontiguousarray(dy.transpose(order)).transpose(np.argsort(order))

    def passes(self):
        """Seconds of a forward and of a backward pass."""
        self.layer.zero_grad()
        self.y = self.dx = None  # a network holds none of them any more
        start = time.perf_counter()
        self.y = self.layer.forward(self.x)
        middle = time.perf_counter()
        if self.dy is None:
            self.dy = self.gradient(self.y)
            return self.passes()
        again = time.perf_counter()
        self.dx = self.layer.backward(self.dy)
        return middle - start, time.perf_counter() - again

    def results(self):
        grads = {f"d{prefix}{key}": grad for prefix, layer in self.layer.named_layers()
                 for key, grad in layer.grads.items()}
        return {"y": self.y, "dx": self.dx, **grads}


class Theirs:
    def __init__(self, case, ours, channels_last=False):
        layout = torch.channels_last if channels_last else torch.contiguous_format
        dtype = torch.from_numpy(ours.x).dtype
        self.layer = case.theirs().to(dtype)
        self.layer.load_state_dict({k: torch.from_numpy(v) for k, v in ours.layer.state_dict().items()}, strict=True)
        self.layer.to(memory_format=layout)
        self.x = torch.from_numpy(ours.x).contiguous(memory_format=layout).requires_grad_()
        self.ours, self.layout, self.dy = ours, layout, None

    def passes(self):
        self.layer.zero_grad()
        self.y = self.x.grad = None
        start = time.perf_counter()
        self.y = self.layer(self.x)
        middle = time.perf_counter()
        if self.dy is None:
            dy = torch.from_numpy(self.ours.gradient(self.y.detach().numpy()))
            self.dy = dy.contiguous(memory_format=self.layout) if dy.ndim == 4 else dy.contiguous()
        again = time.perf_counter()
        self.y.backward(self.dy)
        return middle - start, time.perf_counter() - again

    def results(self):
        grads = {f"d{key}": p.grad.numpy() for key, p in self.layer.named_parameters()}
        return {"y": self.y.detach().numpy(), "dx": self.x.grad.numpy(), **grads}


# -- equal, then timed ---------------------------------------------------------------------------------------------


def check_equal(case):
    for dtype, tolerance in (("float64", 1e-9), ("float32", 1e-4)):
        ours = Ours(case, dtype)
        theirs = Theirs(case, ours)
        for engine in (ours, theirs):
            engine.passes()
        a, b = ours.results(), theirs.results()
        if case.name == "Dropout":
            kept = (a["y"] != 0) / (1 - case.arguments[0])
            a, b = {key: a[key] for key in ("y", "dx")}, {"y": ours.x * kept, "dx": ours.dy * kept}
        for key, expected in b.items():
            error = np.abs(a[key] - expected).max() / max(np.abs(expected).max(), 1e-30)
            if not error <= tolerance:
                raise SystemExit(f"{ours.layer!r}, x {case.shape}: {key} in {dtype} differs by {error:.1e}")


def measure(case, quick):
    """({"ours", "torch", "torch cl": (median seconds forward, backward)} of what there is, our engine)."""
    ours = Ours(case)
    engines = {"ours": ours}
    if case.theirs():
        engines["torch"] = Theirs(case, ours)
        if len(case.shape) == 4:
            engines["torch cl"] = Theirs(case, ours, channels_last=True)
    times, counts = {name: [] for name in engines}, {}
    for block in range(2 if quick else 1 + BLOCKS):  # in the first it is found how many passes a block has
        for name, engine in engines.items():
            time.sleep(0 if quick else PAUSE)
            first = min(sum(engine.passes()) for _ in range(1 if quick else 3))
            if block:
                times[name] += [engine.passes() for _ in range(counts[name])]
            counts[name] = 1 if quick else max(3, min(100, int(BLOCK_SECONDS / first)))
    return {name: [statistics.median(column) for column in zip(*values)] for name, values in times.items()}, ours


def row(case, quick):
    if case.theirs():
        check_equal(case)
    found, engine = measure(case, quick)
    ours, flop = found.pop("ours"), products(engine.layer, case.shape, engine.y.shape)
    best = min(found, key=lambda name: sum(found[name]), default=None)
    text = f"{case.where:<10} {short(repr(engine.layer)):<40} {'x'.join(map(str, case.shape)):<13}"
    for i, factor in enumerate((1, 2)):
        rate = f"{factor * flop / ours[i] / 1e9:.0f}" if flop else ""
        theirs, ratio = (f"{found[best][i] * 1e3:.3f}", f"{ours[i] / found[best][i]:.2f}") if best else ("", "")
        text += f" {ours[i] * 1e3:>9.3f} {rate:>8} {theirs:>9} {ratio:>6}"
    return text + ("  cl" if best == "torch cl" else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="a layer's name (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="batches of 4, one pass of each")
    args = parser.parse_args()
    chosen = list(cases(4 if args.quick else BATCH))
    known = {case.name for case in chosen}
    for name in args.only or ():
        if name not in known:
            parser.error(f"there is no case of {name!r}: choose from {', '.join(sorted(known))}")
    print(f"NumPy {np.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'':<65} {'forward, ms':>9} {'':>32} {'backward, ms':>3}".rstrip())
    print(f"{'where':<10} {'layer':<40} {'x':<13}" + 2 * f" {'ours':>9} {'GFLOP/s':>8} {'torch':>9} {'ratio':>6}")
    for case in chosen:
        if not args.only or case.name in args.only:
            print(row(case, args.quick), flush=True)


if __name__ == "__main__":
    main()
