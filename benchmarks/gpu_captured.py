"""The stages `captured`, `compile` and `jax` of `gpu_day.sh`: steps without Python between them, side by side.

Each case is a process of its own with a time limit, and each variant may fail by itself: the others are still told.
All batches are on the device, TF32 is off, noise is drawn anew in every step.
"""

import os
import subprocess
import sys
import time
import traceback
from importlib.util import find_spec

import numpy as np
from gpu_common import CASES, FULL, IMAGES, SMALL, batches, game_of, synchronise, torch_on_device

RECIPES = (("goodfellow", 100, {}), ("stacked", 64, {}), ("stacked", 64, {"r1": 0.0, "r2": 0.0}))
FEW = 5                   # steps in a graph of these
MANY = 20                 # steps in a graph, beside one
EXACT, CLOSE = 1e-4, 1e-2  # relative difference of a network's weights after a step, of `mlp` and of convolutions, in
#                            which single ReLUs rounded to the other side of 0 make up to 1e-3 and more through Adam
SECONDS, BLOCKS = 4.0, 7  # of timing in a case: at most so long, but 3 blocks, and at most so many
TRY = 6.0                 # seconds for which steps are made again to compare their bits
OURS, COMPILED = "ours, {} recorded", "PyTorch, compiled"


class Attempts:
    """What may fail without ending all: each failure is told."""

    failed = 0

    def make(self, what, function, *arguments):
        try:
            return function(*arguments)
        except Exception as error:  # CUDA, compilers, libraries: many types
            self.failed += 1
            where = "".join(traceback.format_tb(error.__traceback__)[-2:])
            print(f"FAILED {what}: {type(error).__name__}: {str(error).strip()[:600]}\n{where}", flush=True)


def captured_step():
    """`CapturedStep`, or None with a line that says so."""
    try:
        from scratchgan.captured import CapturedStep
    except ImportError as error:
        print(f"scratchgan.captured is not there ({error}): no step of ours is recorded", flush=True)
        return None
    return CapturedStep


class Case:
    """A recipe at a batch size: games with the same weights, batches on the device."""

    def __init__(self, recipe, size, short):
        import cupy
        self.recipe, self.short = recipe, short
        self.size = 2 if short else size
        self.settings = SMALL[recipe] if short and torch_on_device() is None else FULL[recipe]
        self.host = batches(recipe, self.size, MANY)
        self.images = cupy.asarray(self.host)
        self.shape = (self.size, *IMAGES[recipe])
        self.limit = EXACT if recipe == "mlp" else CLOSE

    def game(self):
        return game_of(self.recipe, "cuda", self.settings)

    def on_torch(self, torch, steps):
        x = torch.from_numpy(self.host[:steps]).cuda()
        return x.reshape(steps, self.size, -1) if self.recipe == "mlp" else x

    # -- do they make the same? --------------------------------------------------------------------------------------

    def recorded(self, CapturedStep, steps):
        game = self.game()
        captured = CapturedStep(game, self.shape, steps=steps)
        captured.batch[...] = self.images[:steps]
        return game, captured

    def same_bits(self, CapturedStep, steps, runs):
        """Ours recorded against ours eager after the same steps, and against steps whose noise is always the first."""
        game, captured = self.recorded(CapturedStep, steps)
        for n in (steps, runs - steps):  # the first is eager
            metrics = captured.run(n)
        twin, frozen, stale = self.game(), self.game(), steps == 1
        first = frozen.latent.draw
        frozen.latent.draw = lambda n, seed, purpose, step=0, *more, **named: first(n, seed, purpose, 0, *more, **named)
        for k in range(game.steps):
            twin.step(self.images[k % steps])
            if stale:
                frozen.step(self.images[k % steps])
        apart, same = weights_apart(game, twin)
        told = "same bits" if same else f"NOT the same bits, relative differences {apart}"
        if stale:
            told += f"; against steps with one and the same noise {weights_apart(game, frozen)[0]}"
        told += f"; loss_d of the last launch {[round(each['loss_d'], 4) for each in metrics][:4]}"
        print(f"{self.recipe} {self.size}, {steps} recorded, {game.steps} steps made (asked for {runs}), against "
              f"ours eager: {told}", flush=True)
        if game.steps != runs or not same:
            raise AssertionError("the recorded steps make something else")
        if stale and weights_apart(game, frozen)[1]:
            raise AssertionError("the noise is the same at each replay")

    def peer_is_equal(self, name, peer, make_step):
        """One step from our weights, our batch and our noise; make_step(x, z), both (1, N, ...), gives the step."""
        import torch
        from peers_cuda import begin_anew, distance
        game = self.game()
        z = game.latent.draw(self.size, game.seed, "noise", 0)
        z = torch.from_numpy(np.asarray(z)).cuda().reshape(1, self.size, *peer.rules.z_shape)
        start = self.game().networks
        run = make_step(self.on_torch(torch, 1), z)
        begin_anew(peer, start)
        run()
        game.step(self.images[0])
        torch.cuda.synchronize()
        apart = distance(peer, game.networks)
        print(f"{self.recipe} {self.size}, {name}: one step differs from ours by {worded(apart)}", flush=True)
        if not max(apart.values()) <= self.limit:
            raise AssertionError(f"more than {self.limit}")

    # -- the variants: name -> (make(n) makes n steps, n is a multiple of this) --------------------------------------

    def eager(self):
        game = self.game()
        return lambda n: [game.step(self.images[k % MANY]) for k in range(n)], 1

    def ours(self, CapturedStep, steps):
        _, captured = self.recorded(CapturedStep, steps)
        return captured.run, steps

    def torch_eager(self, torch):
        from peers_cuda import loaded
        peer, x = loaded(self.recipe, self.game().networks, "cuda"), self.on_torch(torch, MANY)
        shape = (self.size, *peer.rules.z_shape)
        return lambda n: [peer.step(x[k % MANY], torch.randn(shape, device="cuda")) for k in range(n)], 1

    def torch_graph(self, torch, steps):
        from peers_cuda import GraphedSteps, loaded
        networks = self.game().networks
        if steps == 1:
            peer = loaded(self.recipe, networks, "cuda", capturable=True)
            self.peer_is_equal("PyTorch's graph", peer, lambda x, z: GraphedSteps(peer, x, z).run)
        peer = loaded(self.recipe, networks, "cuda", capturable=True)
        graphed = GraphedSteps(peer, self.on_torch(torch, steps))
        drawn = []
        for _ in range(2):
            graphed.run()
            drawn.append(graphed.drawn.clone())
        if torch.equal(*drawn):
            raise AssertionError("PyTorch's noise is the same at each replay")
        return lambda n: [graphed.run() for _ in range(n // steps)], steps

    def torch_compiled(self, torch):
        from peers_cuda import CompiledPieces, loaded
        networks = self.game().networks
        peer = loaded(self.recipe, networks, "cuda")
        pieces = CompiledPieces(peer, system=self.recipe)
        start = time.perf_counter()

        def step_of(x, z):
            for _ in range(4):  # compiles, warms up, records
                pieces.step(x[0], z[0])
            return lambda: pieces.step(x[0], z[0])
        self.peer_is_equal(COMPILED, peer, step_of)
        print(f"compiled in {time.perf_counter() - start:.0f} s", flush=True)
        x, shape = self.on_torch(torch, MANY), (self.size, *peer.rules.z_shape)
        return lambda n: [pieces.step(x[k % MANY], torch.randn(shape, device="cuda")) for k in range(n)], 1


def weights_apart(one, other):
    """({network: relative difference, Euclidean}, whether all bits are the same)."""
    apart, same = {}, True
    for name, network in one.networks.items():
        a, b = (np.concatenate([np.ravel(value) for value in each.state_dict().values()])
                for each in (network, other.networks[name]))
        same = same and a.tobytes() == b.tobytes()
        apart[name] = float(np.linalg.norm(a - b) / np.linalg.norm(a)) if np.isfinite(b).all() else float("inf")
    return apart, same


def worded(apart):
    return ", ".join(f"{name} {value:.1e}" for name, value in apart.items())


def measure(title, makers, short):
    """Prints microseconds a step of each (make, multiple), blocks in turn, and their ratio to the last of ours."""
    counts, micros, ready = {}, {}, {}
    for name, (make, multiple) in makers.items():
        def one(make=make, multiple=multiple):
            return timed_steps(make, multiple)
        one()
        least = min(one(), one())
        counts[name] = multiple * (1 if short else max(1, int(min(60_000 / least, 400) / multiple)))
        ready[name], micros[name] = make, []
    start = time.perf_counter()
    for block in range(1 if short else BLOCKS):
        if block >= 3 and time.perf_counter() - start > SECONDS:
            break
        for name, make in ready.items():
            micros[name].append(timed_steps(make, counts[name]))
    ours = [name for name in ready if name.startswith("ours")]
    base = np.median(micros[ours[-1]]) if ours else float("nan")
    print(f"\n{title:<12} {'variant':<26} {'us a step':>10} {'least':>9} {'steps':>6}   "
          f"{ours[-1] if ours else 'ours'} / it")
    for name, values in micros.items():
        print(f"{title:<12} {name:<26} {np.median(values):>10.1f} {min(values):>9.1f} {counts[name] * len(values):>6}"
              f"   {base / np.median(values):.2f}", flush=True)


def timed_steps(make, n):
    """Microseconds a step."""
    synchronise()
    start = time.perf_counter()
    make(n)
    synchronise()
    return (time.perf_counter() - start) / n * 1e6


def case(kind, recipe, size, short):
    """One case in this process; whether nothing failed."""
    trying, torch, CapturedStep = Attempts(), torch_on_device(), captured_step()
    if torch is None:
        print("PyTorch does not see the device: left out", flush=True)
    this, makers = Case(recipe, size, short), {}

    def variant(name, function, *arguments):
        made = trying.make(f"{recipe} {size}, {name}", function, *arguments)
        if made:
            makers[name] = made
    if kind == "captured":
        variant("ours, eager", this.eager)
    if CapturedStep:
        for steps in (1, MANY) if kind == "captured" else (MANY,):
            runs = 6 if steps == 1 else 3 * steps
            eager = timed_steps(makers["ours, eager"][0], 2) if "ours, eager" in makers else float("inf")
            if kind == "captured" and (steps == 1 or 2 * runs * eager < TRY * 1e6):
                trying.make(f"{recipe} {size}, bits of {steps} recorded", this.same_bits, CapturedStep, steps, runs)
            variant(OURS.format(steps), this.ours, CapturedStep, steps)
    if torch and kind == "captured":
        variant("PyTorch, eager", this.torch_eager, torch)
        variant("PyTorch, graph of 1", this.torch_graph, torch, 1)
    if torch:
        variant(f"PyTorch, graph of {MANY}", this.torch_graph, torch, MANY)
    if torch and kind == "compile":
        variant(COMPILED, this.torch_compiled, torch)
    if kind == "jax":
        for steps in (1, MANY):
            variant(f"JAX, scan of {steps}", jax_variant, this, steps, trying)
    if makers:
        trying.make(f"{recipe} {size}, timing", measure, f"{recipe} {size}", makers, short)
    return not trying.failed


def jax_variant(this, steps, trying):
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import peers_jax
    if jax.devices()[0].platform == "cpu" and not this.short:
        raise RuntimeError("JAX sees no GPU")
    game = this.game()
    x = jax.numpy.asarray(this.host.reshape(MANY, this.size, -1)[:steps])
    state, key = peers_jax.state_of(game.networks), jax.random.key(0)
    if steps == 1:
        z = np.asarray(game.latent.draw(this.size, game.seed, "noise", 0))
        given = peers_jax.steps_given(state, x, jax.numpy.asarray(z[None]))
        game.step(this.images[0])
        apart = peers_jax.distance(given, game.networks)
        print(f"{this.recipe} {this.size}, JAX {jax.__version__}: one step differs from ours by {worded(apart)}",
              flush=True)
        if not max(apart.values()) <= this.limit:
            raise AssertionError(f"more than {this.limit}")
    holder = [state, key]

    def make(n):
        for _ in range(n // steps):
            holder[:] = peers_jax.steps_drawn(*holder, x)
        jax.block_until_ready(holder[0])
    return make, steps


# -- stages --------------------------------------------------------------------------------------------------------


def in_processes(kind, cases, seconds, short):
    """Each case in a process, within the seconds that are left for all; whether all are sound."""
    import cupy
    print(f"{cupy.cuda.runtime.getDeviceProperties(0)['name'].decode()}; CuPy {cupy.__version__}; float32, TF32 off, "
          "batches on the device, noise drawn in each step", flush=True)
    until, sound = time.monotonic() + seconds, True
    for recipe, size in cases:
        left = until - time.monotonic()
        words = [sys.executable, __file__, kind, recipe, str(size)] + ["--short"] * short
        if left < 5:
            print(f"{recipe} {size}: left out, no time", flush=True)
            sound = False
            continue
        print(f"\n== {recipe} {size}", flush=True)
        start = time.monotonic()
        try:
            done = subprocess.run(words, timeout=min(left, 60), check=False).returncode
        except subprocess.TimeoutExpired:
            done = "a time limit"
        print(f"{time.monotonic() - start:.0f} s" + (f", ended with {done}" if done else ""), flush=True)
        sound = sound and done == 0
    return sound


def captured_stage(short):
    first = [("mlp", 64), ("dcgan28", 64), ("dcgan64", 64)]
    return in_processes("captured", first + [each for each in CASES if each not in first], 140, short)


def recipes_stage(short):
    """Microseconds of a recorded step of recipes without a peer; of `stacked` with its penalties and without."""
    import cupy

    from scratchgan import recipes
    from scratchgan.captured import CapturedStep
    for name, size, settings in RECIPES:
        recipe = recipes.get(name)
        system = recipe.build(seed=0, device="cuda", **({**recipe.small, **settings} if short else settings))
        captured = CapturedStep(system, (2 if short else size, *system.sample_shape), FEW)
        images = np.random.default_rng(0).uniform(-1, 1, captured.batch.shape)
        captured.batch[...] = cupy.asarray(images.astype(np.float32))
        captured.run(2 * FEW)
        many = FEW if short else max(1, int(1e5 / timed_steps(captured.run, FEW)) // FEW) * FEW
        micros = [timed_steps(captured.run, many) for _ in range(1 if short else 5)]
        print(f"{name} {size} {settings or ''}: {np.median(micros):.1f} us a step, least {min(micros):.1f}", flush=True)
    return True


def compile_stage(short):
    return in_processes("compile", [("mlp", 64), ("dcgan28", 64)], 115, short)


def jax_stage(short):
    if not find_spec("jax"):
        print("JAX is not installed: left out")
        return True
    return in_processes("jax", [("mlp", 64), ("mlp", 512)], 55, short)


if __name__ == "__main__":
    sys.exit(0 if case(sys.argv[1], sys.argv[2], int(sys.argv[3]), "--short" in sys.argv) else 1)
