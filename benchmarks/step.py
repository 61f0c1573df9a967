"""One training step, ours against PyTorch's, side by side in one run.

    pip install -e ".[torch]"
    python benchmarks/step.py                      # mlp at batch 64, 128 and 512; about two minutes
    python benchmarks/step.py --batch 64 --processes 5

Every process starts the variants from the same weights, checks that ours and PyTorch's take the same steps (float64,
same noise), then times them in turn: blocks of steps, a pause before each block so that the other library's spinning
threads are asleep. The figure is the median over processes of the ratio of median times, with its range.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np

NAMES = ("as written", "best eager", "scratchgan")
BATCHES = (64, 128, 512)
BLOCKS, STEPS, WARM_UP, PAUSE = 6, 20, 5, 0.25


def check_equal(batch, steps=5):
    """Both engines take the same steps in float64, to 1e-9; raises otherwise."""
    import torch
    from peers import PEERS
    images = np.random.default_rng(0).uniform(-1, 1, (batch, 1, 28, 28))
    for name, peer in PEERS.items():
        game = build("float64")
        torch_game = peer(game)
        for _ in range(steps):
            z = game.noise(batch, game.seed, "noise", game.steps)
            game.step(images)
            torch_game.step(torch.from_numpy(images.reshape(batch, -1)), torch.from_numpy(z))
        for mine, theirs in ((game.generator, torch_game.G), (game.discriminator, torch_game.D)):
            error = np.abs(mine.theta - torch_game.vector(theirs)).max()
            if error > 1e-9:
                raise SystemExit(f"{name}: the parameters differ by {error:.1e} after {steps} steps")


def build(dtype="float32"):
    from scratchgan import recipes
    game = recipes.get("mlp").build(seed=0)
    for network in game.networks.values():
        network.to(dtype=dtype)
    return game


def torch_step(peer, flat, z_dim):
    import torch
    return lambda: peer.step(flat, torch.randn(len(flat), z_dim))


def measure(batch):
    """{variant: [seconds of each step]} in this process."""
    import torch
    from peers import PEERS
    images = np.random.default_rng(0).uniform(-1, 1, (batch, 1, 28, 28)).astype(np.float32)
    flat = torch.from_numpy(images.reshape(batch, -1))
    game = build()
    steps = {"scratchgan": lambda: game.step(images)}
    for name, peer in PEERS.items():
        steps[name] = torch_step(peer(build()), flat, game.z_dim)
    times = {name: [] for name in steps}
    for _ in range(BLOCKS):
        for name, step in steps.items():
            time.sleep(PAUSE)
            for i in range(WARM_UP + STEPS):
                start = time.perf_counter()
                step()
                if i >= WARM_UP:
                    times[name].append(time.perf_counter() - start)
    return times


def peak_gflops(n=2048):
    """SGEMM peak of this machine as NumPy reaches it: the best of ten products."""
    a = np.random.default_rng(0).standard_normal((n, n), dtype=np.float32)
    best = min(timed(lambda: a @ a) for _ in range(10))
    return 2 * n**3 / best / 1e9


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def step_gflop(batch):
    """Multiplications and additions of one `mlp` step's matrix products, in 1e9."""
    g = (64 * 256, 256 * 512, 512 * 784)
    d = (784 * 256, 256 * 128, 128)
    forward, d_step = sum(g) + 2 * sum(d), 2 * sum(d) + 2 * sum(d[1:])
    g_step = sum(d) + sum(d) + sum(g) + sum(g[1:])
    return 2 * batch * (forward + d_step + g_step) / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, action="append", help="batch size (may be repeated)")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args.worker)))
        return
    import platform

    import torch
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}, "
          f"{torch.get_num_threads()} threads, SGEMM peak {peak_gflops():.0f} GFLOP/s")
    print(f"{'mlp step':<9} {'variant':<12} {'median ms':>10} {'min ms':>8} {'GFLOP/s':>8} "
          f"{'ours / it':>10}   range over {args.processes} processes")
    for batch in args.batch or BATCHES:
        check_equal(batch)
        runs = []
        for _ in range(args.processes):
            out = subprocess.run([sys.executable, __file__, "--worker", str(batch)], check=True,
                                 capture_output=True, text=True).stdout
            runs.append(json.loads(out))
        for name in NAMES:
            medians = [statistics.median(run[name]) for run in runs]
            ratios = [statistics.median(run["scratchgan"]) / m for run, m in zip(runs, medians)]
            print(f"{batch:<9} {name:<12} {statistics.median(medians) * 1e3:>10.2f} "
                  f"{min(min(run[name]) for run in runs) * 1e3:>8.2f} "
                  f"{step_gflop(batch) / statistics.median(medians):>8.0f} {statistics.median(ratios):>10.2f}   "
                  f"{min(ratios):.2f} to {max(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
