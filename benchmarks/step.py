"""One training step, ours against PyTorch's, side by side in one run.

    pip install -e ".[torch]"
    python benchmarks/step.py                          # all cases: about half an hour
    python benchmarks/step.py mlp dcgan64:16           # mlp at batch 64, 128 and 512, dcgan64 at 16
    python benchmarks/step.py dcgan28 --compile        # torch.compile, too: minutes of compilation
    python benchmarks/step.py dcgan64:4 --quick        # does it run? its figures mean nothing

A case is SYSTEM or SYSTEM:BATCH. Before it is timed, ours and every variant of PyTorch's must make the same: in float64
the same weights, running statistics and gradients after some steps (relative error 1e-8), and in float32, as it is
timed, the same gradients of a step at learning rate 0, but for 2%: single inputs of ReLUs that are rounded to the other
side of 0 make 1% between two memory layouts of PyTorch itself, and Adam's first steps would amplify that.

Then every process starts all variants and times them in turn: blocks of steps, a pause before each block so that the
other library's spinning threads are asleep. A ratio is that of median times in one process; the figure is the median
over processes, with its range. "best" is PyTorch's fastest eager variant of each process. GFLOP/s counts the products
of the direct algorithm, also where ours needs fewer, and compares them with NumPy's SGEMM. `goodfellow` has a further
row, what NumPy's calls of its step take with no engine around them (`bare.py`), and the ratio of that to the best.

"peak MiB" is taken in a process of its own for each variant, which imports only its own library and trains a network of
one weight for a step, so that all code is loaded, then builds the game and makes 3 steps: the peak of its resident
memory less what it had before the game (Linux).
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")  # as scratchgan does, where it is imported before NumPy

import bare
import numpy as np

CASES = {"mlp": (64, 128, 512), "dcgan28": (64,), "dcgan64": (16, 64), "goodfellow": (100,)}
IMAGES = {"mlp": (1, 28, 28), "dcgan28": (1, 28, 28), "dcgan64": (3, 64, 64), "goodfellow": (1, 28, 28)}
OURS, COMPILED = "scratchgan", "torch.compile"
BARE = "NumPy's calls alone"  # of `goodfellow`: see bare.py
PAUSE = 0.25
EXACT, CLOSE = 1e-8, 0.02  # relative errors of a tensor in float64 (largest entry) and in float32 (Euclidean norm)


def plan(system, batch, quick):
    """(blocks, steps in a block, steps before them): at least 30 steps of each variant, but where one takes 0.8 s."""
    if quick:
        return 1, 2, 1
    if system == "mlp":
        return 6, 20, 5
    return (4, 10, 2) if system in ("dcgan28", "goodfellow") else (3, 10, 1) if batch <= 32 else (3, 4, 1)


# -- the variants --------------------------------------------------------------------------------------------------


def our_game(system, dtype="float32", **settings):
    from scratchgan import recipes
    if system == "dcgan64":
        settings["channels"] = 3
    game = recipes.get(system).build(seed=0, **settings)
    for network in game.networks.values():
        network.to(dtype=dtype)
    return game


def random_images(system, batch, dtype=np.float32):
    low = 0 if system == "goodfellow" else -1
    return np.random.default_rng(0).uniform(low, 1, (batch, *IMAGES[system])).astype(dtype)


def as_tensor(system, images):
    import torch
    return torch.from_numpy(images.reshape(len(images), -1) if system in ("mlp", "goodfellow") else images)


def steps_of(system, batch, compiled):
    """{variant: a function that makes one step}."""
    from peers import variants
    images = random_images(system, batch)
    x, game = as_tensor(system, images), our_game(system)
    steps = {name: step_of(make().load(game.networks), x) for name, make in variants(system, compiled).items()}
    if system == "goodfellow":
        steps[BARE] = step_of(bare.Goodfellow(our_game(system)), images)
    return {**steps, OURS: lambda: game.step(images)}


def step_of(peer, x):
    return lambda: peer.random_step(x)


# -- do they make the same? ----------------------------------------------------------------------------------------


def check_equal(system, batch, compiled, quick):
    """Raises if a variant makes something else than ours."""
    from peers import variants
    for name, make in variants(system, compiled).items():
        for dtype, tolerance, steps, lr in (("float64", EXACT, 1 if quick else 5 if system == "mlp" else 2, None),
                                            ("float32", CLOSE, 1, 0.0)):
            error, where = difference(system, batch, make, dtype, steps, lr)
            if not error <= tolerance:
                raise SystemExit(f"{system} at batch {batch}, {name}: {where} differs by {error:.1e} in {dtype}")
    if system == "goodfellow":
        for network, error in bare_difference(batch).items():
            if not error <= EXACT:
                raise SystemExit(f"{system} at batch {batch}, {BARE}: {network}'s weights differ by {error:.1e}")


def difference(system, batch, make, dtype, steps, lr):
    """(largest relative error, of what) of weights, running statistics and gradients after steps from one start."""
    import torch
    game = our_game(system, dtype)
    if lr is not None:
        for optimizer in game.optimizers.values():
            optimizer.schedules["lr"] = lr
    peer = make(dtype=getattr(torch, dtype), lr=lr).load(game.networks)
    images = random_images(system, batch, dtype)
    x = as_tensor(system, images)
    for _ in range(steps):
        z = game.latent.draw(batch, game.seed, "noise", game.steps, dtype=dtype)
        if system == "goodfellow":
            peer.give(dropout_masks(game, batch))
        game.step(images)
        peer.step(x, torch.from_numpy(z.reshape(batch, *peer.rules.z_shape)))
    errors = []
    for name, network in game.networks.items():
        theirs, ours = peer.networks[name], network.state_dict()
        pairs = {key: (ours[key], value) for key, value in theirs.state_dict().items()}
        if name == "generator" or peer.fused:  # as written, D's gradient holds G's step, too
            grads = {f"{prefix}{key}": grad for prefix, layer in network.named_layers()
                     for key, grad in layer.grads.items()}
            pairs |= {f"gradient of {key}": (grads[key], p.grad) for key, p in theirs.named_parameters()}
        order = np.inf if dtype == "float64" else 2
        errors += [(relative_error(a, b.detach().numpy(), order), f"{name}'s {key}") for key, (a, b) in pairs.items()]
    return max(errors)


def bare_difference(batch):
    """{network: the relative error of its weights after a step of `bare.Goodfellow` in float64}."""
    game, peer = our_game("goodfellow", "float64"), bare.Goodfellow(our_game("goodfellow", "float64"))
    images = random_images("goodfellow", batch, "float64")
    z = game.latent.draw(batch, game.seed, "noise", dtype="float64")
    peer.step(images, z.reshape(batch, -1), [mask.numpy() for mask in dropout_masks(game, batch)])
    game.step(images)
    return {name: relative_error(network.theta, peer.game.networks[name].theta, np.inf)
            for name, network in game.networks.items()}


def dropout_masks(game, batch):
    """Those that the game's next step draws for D: what a layer of dropout makes of ones."""
    import torch

    from scratchgan.layers import Dropout
    D = game.discriminator
    game.draw_from(game.steps)
    return [torch.from_numpy(layer.forward(np.ones((2 * batch, after.in_features), D.dtype)))
            for layer, after in itertools.pairwise(D) if isinstance(layer, Dropout)]


def relative_error(a, b, order):
    difference, size = (np.linalg.norm(np.ravel(x).astype(float), order) for x in (a - b, b))
    return difference / size if size else difference


# -- measurements, each in a process of its own --------------------------------------------------------------------


def measure(system, batch, compiled, quick):
    """{variant: [seconds of each step]}."""
    steps = steps_of(system, batch, compiled)
    blocks, count, warm_up = plan(system, batch, quick)
    times = {name: [] for name in steps}
    for _ in range(3 * compiled):
        steps[COMPILED]()
    for _ in range(blocks):
        for name, step in steps.items():
            time.sleep(PAUSE)
            for i in range(warm_up + count):
                start = time.perf_counter()
                step()
                if i >= warm_up:
                    times[name].append(time.perf_counter() - start)
    return times


def peak_memory(system, batch, variant, steps=3):
    """MiB above what the library itself takes."""
    if variant in (OURS, BARE):
        train_one_weight()
    else:
        import peers
        peers.train_one_weight()
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    images = random_images(system, batch)
    if variant in (OURS, BARE):
        step = our_game(system).step if variant == OURS else bare.Goodfellow(our_game(system)).random_step
        for _ in range(steps):
            step(images)
    else:
        game, x = peers.variants(system, variant == COMPILED)[variant](), as_tensor(system, images)
        for _ in range(steps):
            game.random_step(x)
    return resident("VmHWM") - before


def train_one_weight():
    from scratchgan.layers import Conv2d
    from scratchgan.optimizers import Adam
    network = Conv2d(1, 1, 1, bias=False)
    network.backward(network(np.ones((1, 1, 1, 1), np.float32)))
    Adam(network).step()


def resident(name):
    """A figure of this process's physical memory, in MiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(f"{name}:"))


def in_a_process(*arguments):
    """What a function of this file, called by name in a fresh process, returns."""
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no helpers that compute beside us
    done = subprocess.run([sys.executable, __file__, "--worker", json.dumps(arguments)], env=environment,
                          stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# -- the table -----------------------------------------------------------------------------------------------------


def peak_gflops(n=2048):
    """SGEMM peak of this machine as NumPy reaches it: the best of ten products."""
    a = np.random.default_rng(0).standard_normal((n, n), dtype=np.float32)
    best = min(timed(lambda: a @ a) for _ in range(10))
    return 2 * n**3 / best / 1e9


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def report(system, batch, compiled, peak, args):
    from scratchgan.profiling import step_flop
    check_equal(system, batch, compiled, args.quick)
    gflop = step_flop(our_game(system), random_images(system, batch)) / 1e9
    runs = [in_a_process("measure", system, batch, compiled, args.quick) for _ in range(args.processes)]
    medians = {name: [statistics.median(run[name]) for run in runs] for name in runs[0]}
    case = f"{system} {batch}"
    for name, times in medians.items():
        memory = in_a_process("peak_memory", system, batch, name)
        rate = gflop / statistics.median(times)
        print(f"{case:<11} {name:<25} {statistics.median(times) * 1e3:>9.2f} "
              f"{min(min(run[name]) for run in runs) * 1e3:>8.2f} {rate:>8.0f} {rate / peak:>8.0%} {memory:>9.0f} "
              f"{ratios(medians[OURS], times)}", flush=True)
    best = [min(times) for times in zip(*(medians[name] for name in medians if name not in (OURS, COMPILED, BARE)))]
    blocks, count, _ = plan(system, batch, args.quick)
    told = f"best; {gflop:.3g} GFLOP, {blocks * count} steps of each in a process"
    print(f"{case:<11} {told:<71} {ratios(medians[OURS], best)}", flush=True)
    if BARE in medians:
        print(f"{case:<11} {f'best; {BARE} / it':<71} {ratios(medians[BARE], best)}", flush=True)


def ratios(ours, theirs):
    values = [a / b for a, b in zip(ours, theirs)]
    return f"{statistics.median(values):>10.2f}   {min(values):.2f} to {max(values):.2f}"


def case(text):
    """SYSTEM or SYSTEM:BATCH as (system, batches)."""
    system, _, batch = text.partition(":")
    if system not in CASES or (batch and not (batch.isdigit() and int(batch))):
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(CASES)}, with :BATCH or without, not {text!r}")
    return system, (int(batch),) if batch else CASES[system]


def on_cuda(args):
    """The cases that there are peers for on a device; an exit status."""
    import gpu_common
    from gpu_captured import in_processes
    asked = [(system, batch) for system, batches in args.cases or CASES.items() for batch in batches]
    cases = [each for each in asked if each in gpu_common.CASES]
    if not cases or (args.cases and len(cases) < len(asked)):
        print(f"On CUDA there are peers for {', '.join(f'{system}:{batch}' for system, batch in gpu_common.CASES)}: "
              "give these.", file=sys.stderr)
        return 2
    return 0 if in_processes("compile" if args.compile else "captured", cases, 3600, args.quick) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", type=case, metavar="CASE", help="SYSTEM or SYSTEM:BATCH (default: all)")
    parser.add_argument("--processes", type=int, metavar="N", help="fresh processes for each case (default: 5)")
    parser.add_argument("--compile", action="store_true", help="time torch.compile as well")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu",
                        help="cuda: eager steps and CUDA graphs of both, as the stages of gpu_day.sh; --compile: the "
                             "compiled ones instead")
    parser.add_argument("--quick", action="store_true", help="one process, two steps of each variant")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        name, *arguments = json.loads(args.worker)
        print(json.dumps({"measure": measure, "peak_memory": peak_memory}[name](*arguments)))
        return
    if args.device == "cuda":
        sys.exit(on_cuda(args))
    import platform

    import torch
    from peers import compile_problem
    args.processes = args.processes or (1 if args.quick else 5)
    problem = compile_problem() if args.compile else None
    if problem:
        print(f"torch.compile is left out: {problem}")
    compiled = args.compile and not problem
    peak = peak_gflops()
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}, "
          f"{torch.get_num_threads()} threads, SGEMM peak {peak:.0f} GFLOP/s")
    print(f"{'step':<11} {'variant':<25} {'median ms':>9} {'min ms':>8} {'GFLOP/s':>8} {'of peak':>8} {'peak MiB':>9} "
          f"{'ours / it':>10}   range over {args.processes} process{'es' * (args.processes > 1)}")
    for system, batches in args.cases or CASES.items():
        for batch in batches:
            report(system, batch, compiled, peak, args)


if __name__ == "__main__":
    main()
