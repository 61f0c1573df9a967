"""Memory: does it stay flat over a long run, and what do ways to get it cost?

    python benchmarks/memory.py             # resident memory of mlp at steps 10, 1,000 and 10,000: a minute
    python benchmarks/memory.py --ways      # a step with memory from the pool, from the system, from glibc told to
                                            # keep what is freed, in turn, each in a process of its own

"pool" is `scratchgan.memory`; "system" is NumPy's own memory; "glibc keeps" is that, too, with M_MMAP_THRESHOLD 1 GiB,
M_TRIM_THRESHOLD as large as can be and M_TOP_PAD 64 MiB (mallopt; Linux). Ratios are those of least, tenth and median
step times to the pool's.
"""

import argparse
import time

import numpy as np
from same_bits import HERE, PAUSE, Tree, plan
from step import resident

CASES = ("mlp:64", "mlp:512", "dcgan28:64", "dcgan64:16", "dcgan64:64")
WAYS = ("pool", "system", "glibc keeps")


def flat(steps=(10, 1000, 10_000)):
    from scratchgan import recipes
    game = recipes.get("mlp").build(seed=0)
    batch = np.random.default_rng(0).uniform(-1, 1, (64, 1, 28, 28)).astype(np.float32)
    print("step    resident, MiB")
    for step in range(1, steps[-1] + 1):
        game.step(batch)
        if step in steps:
            print(f"{step:>6}  {resident('VmRSS'):.1f}", flush=True)


def ways():
    print(f"{'case':<12} {'memory':<12} {'median ms':>9} {'least':>6} {'tenth':>6} {'median':>6} {'peak MiB':>9}")
    for case in CASES:
        trees = {way: Tree(HERE) for way in WAYS}
        for way, tree in trees.items():
            tree("memory", way)
            tree("build", *case.split(":"))
            tree("times", 2)
        times, (blocks, count) = {way: [] for way in WAYS}, plan(case)
        for block in range(blocks):
            for way in WAYS[block % 3:] + WAYS[:block % 3]:
                time.sleep(PAUSE)
                times[way] += trees[way]("times", count + 1)[1:]
        for way, tree in trees.items():
            ours, pool = np.sort(times[way]), np.sort(times["pool"])
            ratios = [ours[i] / pool[i] for i in (0, len(pool) // 10, len(pool) // 2)]
            print(f"{case:<12} {way:<12} {np.median(ours) * 1e3:>9.2f} "
                  + " ".join(f"{ratio:>6.2f}" for ratio in ratios) + f" {tree('peak'):>9.0f}", flush=True)
            tree.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", action="store_true", help="compare ways to get memory")
    ways() if parser.parse_args().ways else flat()


if __name__ == "__main__":
    main()
