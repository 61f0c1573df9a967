"""One stage of `gpu_day.sh`: python benchmarks/gpu_day.py STAGE [--short]

--short only shows that a stage runs: few steps, small networks. Every stage ends with status 1 if it found a mistake.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

import numpy as np
from gpu_common import CASES, FULL, IMAGES, SMALL, batches, game_of, steps_within, synchronise, timed, torch_on_device

LOSSES_AT, WEIGHTS_AT = (1, 2, 5, 10, 20, 50, 100, 200), (1, 10, 20, 200)
EXACT, CLOSE = 1e-9, 1e-3  # relative difference of weights: a tensor's in float64, a network's in float32 after a step
PATIENCE = 25              # seconds for the 200 steps of a recipe on both devices
PEERS = {"best eager", "best eager, channels_last"}


# -- the machine ---------------------------------------------------------------------------------------------------


def machine(short):
    import cupy

    from scratchgan import backend
    print(f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    for command in (["nvidia-smi"], ["git", "log", "-1", "--oneline"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            print(f"{' '.join(command)}: {(done.stdout or done.stderr).strip() or 'said nothing'}")
        except OSError as error:
            print(f"{command[0]}: {error}")
    installed = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    print(", ".join(f"{name} {version}" for name, version in sorted(installed.items()) if name.lower().startswith(
        ("numpy", "cupy", "torch", "nvidia-c", "pytest", "hypothesis", "threadpoolctl"))))
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    print(f"device 0: {properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB, "
          f"CUDA runtime {cupy.cuda.runtime.runtimeGetVersion()}, driver {cupy.cuda.runtime.driverGetVersion()}")
    problem = backend.cuda_problem()
    print(f"can use it: scratchgan {problem or 'yes'}, PyTorch {'yes' if torch_on_device() else 'no'}")
    return not problem


# -- gradients -----------------------------------------------------------------------------------------------------


def gradients(short):
    """Each kind of layer that the recipes have, then networks and game of each recipe, small, all on the device."""
    from scratchgan import gradcheck, layers
    cases = [(layers.Linear(4, 3), (5, 4)), (layers.LeakyReLU(0.2), (4, 5)), (layers.ReLU(), (4, 5)),
             (layers.Tanh(), (4, 5)), (layers.Conv2d(3, 4, 4, 2, 1, bias=False), (2, 3, 8, 8)),
             (layers.Conv2d(4, 2, 3, padding="same", dilation=2, groups=2), (2, 4, 5, 5)),
             (layers.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), (2, 4, 4, 4)),
             (layers.BatchNorm2d(3), (2, 3, 2, 3)), (layers.LayerNorm(4), (3, 4)),
             (layers.spectral_norm(layers.Linear(4, 3)), (5, 4))]
    reports = []

    def add(check, *arguments, **more):
        start = time.perf_counter()
        reports.append(check(*arguments, **more))
        verdict = "ok" if reports[-1].ok else "WRONG"
        print(f"{reports[-1].name}: {verdict}, {time.perf_counter() - start:.1f} s", flush=True)

    for layer, shape in cases[:2] if short else cases:
        layer = layer.initialize(0).to("cuda")
        add(gradcheck.check_layer, layer, input_shape=shape, name=f"{type(layer).__name__} {shape}")
    for recipe in ["dcgan28"] if short else FULL:
        game = game_of(recipe, "cuda", SMALL[recipe])
        few = {"directions": 1, "entries": 2} if short else {"directions": 2, "entries": 10}  # of each tensor
        shapes = ((2, 4), (2, 784)) if recipe == "mlp" else ((2, 4, 1, 1), (2, *IMAGES[recipe]))  # of z, of images
        for (name, network), shape in zip(game.networks.items(), shapes, strict=True):
            add(gradcheck.check_network, network, input_shape=shape, name=f"{recipe}: {name}", **few)
        add(gradcheck.check_game, game, batches(recipe, 2)[0], name=f"{recipe}: game", **few)
    print(gradcheck.table(reports))
    return all(report.ok for report in reports)


# -- training on both devices --------------------------------------------------------------------------------------


def training(short):
    """The same seed and batches on CPU and CUDA: how far apart are losses and weights?"""
    full = [(recipe, 64 if recipe != "dcgan64" else 16, 200, FULL[recipe], "float32") for recipe in FULL]
    small = [(recipe, 4, 3, SMALL[recipe], dtype) for dtype in ("float64", "float32") for recipe in FULL]
    sound = [pair(*case) for case in (small if short else small[:3] + full)]
    return all(sound)


def pair(recipe, size, steps, settings, dtype):
    """Trains on both and prints a table; whether weights are finite and close."""
    images = batches(recipe, size, dtype=dtype)
    games = {device: game_of(recipe, device, settings, dtype) for device in ("cpu", "cuda")}
    seconds, start, close = Counter(), time.perf_counter(), True
    print(f"\n{recipe}, batches of {size}, {dtype}, {settings or 'as published'}\n{'step':>4}  {'':<6} {'cpu':>10} "
          f"{'cuda':>10} {'difference':>10}   relative difference of weights")
    for step in range(1, steps + 1):
        metrics = {}
        for device, game in games.items():
            before = time.perf_counter()
            metrics[device] = game.step(images[step % len(images)])
            synchronise()
            seconds[device] += time.perf_counter() - before
        last = step == steps or time.perf_counter() - start > PATIENCE
        note = ""
        if step in WEIGHTS_AT or last:
            networks, worst = apart(*games.values())
            note = ", ".join(f"{name} {error:.1e}" for name, error in networks.items())
            note += f"; worst tensor {worst[0]:.1e} ({worst[1]})"
            if dtype == "float64" or step == 1:
                close = close and (worst[0] <= EXACT if dtype == "float64" else max(networks.values()) <= CLOSE)
        for name in [name for name in metrics["cpu"] if "loss" in name] if step in LOSSES_AT or last else ():
            a, b = (float(metrics[device][name]) for device in games)
            print(f"{step:>4}  {name:<6} {a:>10.6f} {b:>10.6f} {abs(a - b):>10.1e}   {note}".rstrip(), flush=True)
            note = ""
        if last:
            break
    finite = all(np.isfinite(value).all() for game in games.values() for network in game.networks.values()
                 for value in network.state_dict().values())
    print(f"{step} of {steps} steps; milliseconds a step, compilation and copies of the batch included: "
          + ", ".join(f"{device} {seconds[device] / step * 1e3:.2f}" for device in games)
          + f"; weights {'finite' if finite else 'NOT FINITE'} and {'close' if close else 'WRONG, too far apart'}")
    return finite and close


def apart(one, other):
    """{network: relative difference of all its tensors together}, (that of the worst tensor, its name)."""
    per_network, tensors = {}, []
    for name, network in one.networks.items():
        a, b = network.state_dict(), other.networks[name].state_dict()
        pairs = {key: (np.ravel(a[key]).astype(float), np.ravel(b[key]).astype(float)) for key in a}
        per_network[name] = relative(*(np.concatenate(side) for side in zip(*pairs.values(), strict=True)))
        tensors += [(relative(*both), f"{name}.{key}") for key, both in pairs.items()]
    return per_network, max(tensors)


def relative(a, b):
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-300)) if np.isfinite(b).all() else float("inf")


# -- step times and launches ---------------------------------------------------------------------------------------


def steps_of(recipe, size, torch, short):
    """{variant: one step on a batch that is on the device}: ours and, where PyTorch sees the device, the best eager."""
    import cupy
    settings = SMALL[recipe] if short and torch is None else FULL[recipe]
    game, images = game_of(recipe, "cuda", settings), batches(recipe, size, 1)[0]
    ours = cupy.asarray(images)
    steps = {"scratchgan": lambda: game.step(ours)}
    if torch is None:
        return steps
    from peers import variants
    x = torch.from_numpy(images.reshape(size, -1) if recipe == "mlp" else images).cuda()
    for name in sorted(variants(recipe).keys() & PEERS):
        peer = variants(recipe)[name]().load(game.networks)
        for network in peer.networks.values():
            network.cuda()
        steps[name] = lambda peer=peer: peer.step(x, torch.randn(size, *peer.rules.z_shape, device="cuda"))
    return steps


def times(short):
    """Milliseconds of a step: each waited for, and a row of steps waited for once, in turn, block after block."""
    import cupy
    torch = torch_on_device()
    print(f"{cupy.cuda.runtime.getDeviceProperties(0)['name'].decode()}; CuPy {cupy.__version__}, PyTorch "
          f"{torch.__version__ + ', cuDNN searching' if torch else 'on cuda not available: left out'}; float32, TF32 "
          f"off in both, batches on the device\n{'step':<11} {'variant':<26} {'median ms':>9} {'least ms':>9} "
          f"{'in a row':>9}   ours / it: median, in a row")
    blocks = 1 if short else 8
    for recipe, size in CASES:
        size = 2 if short else size
        steps = steps_of(recipe, size, torch, short)
        single, row = ({name: [] for name in steps} for _ in range(2))
        counts = {name: steps_within(step, 0.1, short) for name, step in steps.items()}
        for _ in range(blocks):
            for name, step in steps.items():
                count = counts[name]
                timed(step, 1)
                single[name] += [timed(step, 1) for _ in range(count)]
                row[name].append(timed(step, count))
        ours = np.median(single["scratchgan"]), np.median(row["scratchgan"])
        for name in steps:
            median, in_row = np.median(single[name]), np.median(row[name])
            print(f"{recipe:<7} {size:<3} {name:<26} {median:>9.3f} {min(single[name]):>9.3f} {in_row:>9.3f}   "
                  f"{ours[0] / median:.2f}, {ours[1] / in_row:.2f}", flush=True)
    return True


def launches(short):
    """What the device does in a step, as CUPTI records it through PyTorch's profiler: CuPy's kernels, too."""
    torch = torch_on_device()
    if torch is None:
        print("PyTorch does not see the device, so that its profiler cannot record kernels: left out")
        return True
    seen = []
    for recipe, size in (("mlp", 64), ("dcgan28", 64), ("dcgan64", 16)):
        for name, step in steps_of(recipe, 2 if short else size, torch, short).items():
            count = steps_within(step, 0.2, short)
            wall = min(timed(step, count) for _ in range(3))
            record(torch, step, 1)
            seen.append(summary(f"{recipe} {size}, {name}", record(torch, step, count), count, wall))
    return all(seen)


def record(torch, step, count):
    """The profiler's events of some steps."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        timed(step, count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        return json.loads(path.read_text())["traceEvents"]


def summary(title, events, count, wall):
    """Prints what a step launches and how long it takes; whether any kernel was seen."""
    kinds = {"kernel": "kernels", "gpu_memcpy": "copies", "gpu_memset": "copies", "cuda_runtime": "calls",
             "cuda_driver": "calls"}
    seen, spent = {kind: Counter() for kind in kinds.values()}, Counter()
    for event in events:
        if event.get("cat") in kinds:
            kind, name = kinds[event["cat"]], event["name"]
            seen[kind][name] += 1
            spent[name] += event["dur"] if kind != "calls" else 0
    kernels, copies = (sum(seen[kind].values()) / count for kind in ("kernels", "copies"))
    busy = sum(spent.values()) / 1e3 / count
    print(f"\n{title}: {kernels:g} kernels and {copies:g} copies or fills a step; the device is busy for {busy:.3f} ms "
          f"of {wall:.3f} ms ({busy / wall:.0%})\n  calls a step: "
          + ", ".join(f"{name} {n / count:g}" for name, n in seen["calls"].most_common(8))
          + f"\n  {'us a step':>9} {'a step':>6}  kernel or copy")
    for name, microseconds in spent.most_common(12):
        times = (seen["kernels"] + seen["copies"])[name]
        if times:
            print(f"  {microseconds / count:>9.1f} {times / count:>6g}  {name[:90]}", flush=True)
    return kernels > 0


HERE = {stage.__name__: stage for stage in (machine, gradients, training, times, launches)}
ELSEWHERE = {"captured": "gpu_captured", "recipes": "gpu_captured", "compile": "gpu_captured", "jax": "gpu_captured",
             "epochs": "gpu_runs", "stacked": "gpu_runs", "sanitizer": "gpu_kernels", "gemm": "gpu_kernels"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=[*HERE, *ELSEWHERE])
    parser.add_argument("--short", action="store_true", help="does it run? its figures mean nothing")
    args = parser.parse_args()
    name = args.stage
    stage = HERE[name] if name in HERE else getattr(importlib.import_module(ELSEWHERE[name]), f"{name}_stage")
    return 0 if stage(args.short) else 1


if __name__ == "__main__":
    sys.exit(main())
