"""Does memory stay flat? Resident memory over 10,000 steps of `mlp` at batch 64; about a minute.

    python benchmarks/memory.py
"""

import argparse

import numpy as np

from scratchgan import recipes


def resident_mib():
    """What the process holds of physical memory (Linux)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    args = parser.parse_args()
    game = recipes.get("mlp").build(seed=0)
    images = np.random.default_rng(0).uniform(-1, 1, (64, 1, 28, 28)).astype(np.float32)
    print(f"{'step':>8} {'resident MiB':>13}")
    for step in range(1, args.steps + 1):
        game.step(images)
        if step == 10 or step % (args.steps // 5) == 0:
            print(f"{step:>8,} {resident_mib():>13.1f}", flush=True)


if __name__ == "__main__":
    main()
