"""Where a training step's time goes: per layer and pass, measured from outside while a system steps.

Nothing in the engine knows of this: for a while every layer and every optimizer is of a subclass of its class, whose
`forward`, `backward` and `step` are measured. Of the system only what `System` declares is used. On CUDA a layer that
is watched has kernels of its own, where a step otherwise has one for two: see `scratchgan.layers.fused`.
"""

import functools
import math
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from scratchgan import backend
from scratchgan.layers import Conv2d, ConvTranspose2d, Layer, Linear, Sequential

METHODS = ("forward", "backward", "tangent", "step")
NAME_WIDTH = 44  # of a layer in the table and the chart


def products(layer, x_shape, y_shape):
    """Multiplications and additions of the layer's matrix product in one pass, 0 where it has none.

    By the direct algorithm each entry of the weight meets each position once, zeros of a padding included. Forward is
    one such product, dx another, dW a third.
    """
    if isinstance(layer, Linear):
        positions = math.prod(x_shape[:-1])
    elif isinstance(layer, Conv2d):
        positions = math.prod(y_shape) // layer.out_channels
    elif isinstance(layer, ConvTranspose2d):
        positions = math.prod(x_shape) // layer.in_channels
    else:
        return 0
    return 2 * positions * sum(value.size for value in layer.params.values() if value.ndim > 1)


@contextmanager
def watched(things, around):
    """Inside, each call of one of METHODS goes through `around(key, thing, method, call, *arguments)`.

    things  key -> layer or optimizer. What it computes stays the same; twins and copies that are made of it meanwhile
            count under its key. A watched D goes through its passes as a whole: a game leaves out its short cuts, such
            as those of `only_rows` and of WGAN-GP behind a linear layer, with the same results but for rounding (and
            WGAN-GP's masks of dropout)
    """
    before = [(thing, type(thing)) for thing in things.values()]
    try:
        for key, thing in things.items():
            thing.__class__ = _watched_class(type(thing), key, around)
        yield
    finally:
        for thing, kind in before:
            thing.__class__ = kind


def _watched_class(kind, key, around):
    def method(name):
        plain = getattr(kind, name)

        @functools.wraps(plain)
        def call(self, *arguments, **named):
            return around(key, self, name, functools.partial(plain, self), *arguments, **named)
        return call
    return type(kind.__name__, (kind,), {name: method(name) for name in METHODS if hasattr(kind, name)})


def things_of(system):
    """{(network, prefix): layer} of all layers in forward order, {(name of an optimizer, None): optimizer}."""
    layers = {(name, prefix): layer for name, network in system.networks.items()
              for prefix, layer in network.named_layers()}
    return layers | {(name, None): optimizer for name, optimizer in system.optimizers.items()}


# -- what a step multiplies and keeps ------------------------------------------------------------------------------


class Survey:
    """Counts, while it watches: `flop` of each (key, method) and `kept`, the bytes each layer keeps for backward.

    What several layers keep counts once, for the first of them; parameters do not count; of several passes through a
    layer the one that keeps most counts.
    """

    def __init__(self):
        self.flop, self.kept = Counter(), Counter()
        self.product = {}  # key -> products of its last forward pass
        self.depth, self.seen = 0, set()

    def around(self, key, thing, method, call, *arguments, **named):
        if method == "forward":
            return self.forward(key, thing, call, *arguments)
        if method == "backward":
            wrt = named.get("wrt", (*arguments, "all", "all")[1])
            self.flop[key, method] += self.product.get(key, 0) * (2 if wrt == "all" else 1)
        if method == "tangent":  # W z and dy^T z
            self.flop[key, method] += self.product.get(key, 0) * 2
        return call(*arguments, **named)

    def forward(self, key, layer, call, x):
        if self.depth == 0:  # a pass through a network begins
            self.seen = set()
        self.depth += 1
        try:
            y = call(x)
        finally:
            self.depth -= 1
        self.product[key] = products(layer, getattr(x, "shape", ()), getattr(y, "shape", ()))
        self.flop[key, "forward"] += self.product[key]
        self.kept[key] = max(self.kept[key], self.new_bytes(layer))
        return y

    def new_bytes(self, layer):
        self.seen.update(_address(value) for value in layer.params.values())
        fresh = {_address(array): array.nbytes for array in _arrays(layer._kept, set()) if array.size}
        fresh = {address: size for address, size in fresh.items() if address not in self.seen}
        self.seen.update(fresh)
        return sum(fresh.values())


def _address(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def _arrays(kept, visited):
    """All arrays in what a layer keeps: in tuples, dicts, objects."""
    if id(kept) in visited or isinstance(kept, (Layer, ModuleType, type, np.generic)):
        return
    visited.add(id(kept))
    if backend.is_array(kept):
        yield kept
        return
    inside = kept.values() if isinstance(kept, dict) else kept if isinstance(kept, (tuple, list)) else ()
    for part in (*inside, *getattr(kept, "__dict__", {}).values()):
        yield from _arrays(part, visited)


def survey(system, batch):
    """One step of the system on the batch: its `Survey`."""
    counts = Survey()
    with watched(things_of(system), counts.around):
        system.step(batch, labels_for(system, batch))
    return counts


def labels_for(system, batch):
    """Labels for a batch of noise, each class in turn; None where the system takes none."""
    return np.arange(len(batch)) % system.classes if system.classes else None


def random_examples(system, n, seed=0):
    """n examples as the system takes them, of uniform noise."""
    low, high = system.value_range or (-1, 1)
    return np.random.default_rng(seed).uniform(low, high, (n, *system.sample_shape)).astype(np.float32)


def step_flop(system, batch):
    """Multiplications and additions of the matrix products of one step, by the direct algorithm; makes that step."""
    return sum(survey(system, batch).flop.values())


# -- time ----------------------------------------------------------------------------------------------------------


class Clock:
    """`seconds` of each (key, method), what it calls inside and is watched itself taken off."""

    def __init__(self, wait):
        self.wait, self.seconds, self.inside = wait, Counter(), [0.0]

    def around(self, key, thing, method, call, *arguments, **named):
        self.wait()
        start = time.perf_counter()
        self.inside.append(0.0)
        try:
            result = call(*arguments, **named)
            self.wait()
            return result
        finally:
            took = time.perf_counter() - start
            self.seconds[key, method] += took - self.inside.pop()
            self.inside[-1] += took


def waiting_for(device):
    """A function that returns when the device has done all it was told."""
    if device == "cpu":
        return lambda: None
    return backend.module_of(device).cuda.runtime.deviceSynchronize


@dataclass
class Part:
    """A layer or an optimizer's update: `seconds` and `flop` by method, for one step; `kept` bytes."""

    owner: str
    name: str
    seconds: dict
    flop: dict
    kept: int = 0

    @property
    def total(self):
        return sum(self.seconds.values())

    def rate(self, method):
        """GFLOP/s of its product, None where there is none."""
        flop, seconds = self.flop.get(method, 0), self.seconds.get(method, 0)
        return flop / seconds / 1e9 if flop and seconds else None


@dataclass
class Profile:
    """`parts` of a step that took `seconds` under observation and `unwatched` seconds without."""

    parts: list
    seconds: float
    unwatched: float
    steps: int

    @property
    def rest(self):
        """What is in no layer and no update: noise, losses, copies of the batch, containers, the observation."""
        return self.seconds - sum(part.total for part in self.parts)

    def owners(self):
        return list(dict.fromkeys(part.owner for part in self.parts))

    def of(self, owner):
        return [part for part in self.parts if part.owner == owner]


def profile(system, batch, steps=None, seconds=5.0):
    """Train the system on this batch of real images, (N, ...) in [-1, 1], and measure where the time goes.

    steps    how many are measured; default: as many as take about `seconds`, 5 to 200

    After two steps of warm-up, `steps` are timed as they are and `steps` with every layer timed. Times are means over
    the faster half, so that they add up and what else the machine did is left out.
    """
    things = things_of(system)
    wait, labels = waiting_for(system.device), labels_for(system, batch)

    def step():
        wait()
        start = time.perf_counter()
        system.step(batch, labels)
        wait()
        return time.perf_counter() - start
    counts = survey(system, batch)
    once = min(step(), step())
    steps = steps or max(5, min(200, int(seconds / 2 / once)))
    unwatched = [step() for _ in range(steps)]
    clocks, times = [Clock(wait) for _ in range(steps)], []
    for clock in clocks:
        with watched(things, clock.around):
            times.append(step())

    fast = sorted(range(steps), key=times.__getitem__)[:(steps + 1) // 2]

    def mean(values):
        return sum(values) / len(fast)
    parts = []
    for key, thing in things.items():
        owner, prefix = key
        if isinstance(thing, Sequential):  # it only calls others: part of the rest
            continue
        name = f"update, {type(thing).__name__}" if prefix is None else f"{prefix[:-1]} {thing!r}".strip()
        used = [method for method in METHODS if (key, method) in clocks[0].seconds]
        parts.append(Part(owner, name, {m: mean(clocks[i].seconds[key, m] for i in fast) for m in used},
                          {m: counts.flop[key, m] for m in used}, counts.kept[key]))
    order = list(system.networks)
    parts.sort(key=lambda part: order.index(part.owner) if part.owner in order else len(order))
    return Profile(parts, mean(times[i] for i in fast), mean(sorted(unwatched)[:len(fast)]), steps)


# -- what a person sees --------------------------------------------------------------------------------------------


def table(result):
    """A profile as text, one line for each layer."""
    names = [short(part.name) for part in result.parts]
    width = max(map(len, (*names, "a step, in all"))) + 2
    whole = result.seconds
    lines = [f"{'':{width}} {'forward':>9} {'':>8} {'backward':>9} {'':>8} {'all':>9}",
             f"{'':{width}} {'ms':>9} {'GFLOP/s':>8} {'ms':>9} {'GFLOP/s':>8} {'ms':>9} {'share':>7} {'GFLOP':>8} "
             f"{'kept MiB':>9}"]

    def line(name, seconds, flop=0, kept=0, passes=" " * 37):
        return (f"{name:{width}} {passes} {seconds * 1e3:>9.3f} {seconds / whole:>7.1%} "
                f"{f'{flop / 1e9:.4f}' if flop else '':>8} {f'{kept / 2**20:.2f}' if kept else '':>9}").rstrip()

    for owner in result.owners():
        parts = result.of(owner)
        lines.append(line(owner, sum(part.total for part in parts), sum(sum(part.flop.values()) for part in parts),
                          sum(part.kept for part in parts)))
        for part in parts:
            passes = " ".join(f"{_ms(part.seconds.get(method))} {_rate(part.rate(method))}"
                              for method in ("forward", "backward"))
            lines.append(line(f"  {short(part.name)}", part.total, sum(part.flop.values()), part.kept, passes))
    lines.append(line("the rest", result.rest))
    lines.append(line("a step, in all", whole, sum(sum(part.flop.values()) for part in result.parts),
                      sum(part.kept for part in result.parts)))
    return "\n".join(lines)


def short(name):
    """A layer's name without what it can do without, at most NAME_WIDTH characters."""
    for long, brief in ((", bias=False", ""), ("stride=", "s="), ("padding=", "p=")):
        name = name.replace(long, brief)
    return name if len(name) <= NAME_WIDTH else f"{name[:NAME_WIDTH - 3]}..."


def _ms(seconds):
    return f"{'':>9}" if seconds is None else f"{seconds * 1e3:>9.3f}"


def _rate(rate):
    return f"{'':>8}" if rate is None else f"{rate:>8.1f}"
