"""Mode collapse and its cures on ring8 and grid25: every remedy at its settings, several seeds.

    python benchmarks/modes.py                    # all: about half an hour on two cores
    python benchmarks/modes.py ring8              # the ring alone
    python benchmarks/modes.py --only unroll      # one remedy
    python benchmarks/modes.py --short            # does it run? its figures mean nothing

Modes covered and fairly covered (of 8 or 25), share of high quality, KL to the data: `scratchgan.metrics.modes`, of
10,000 samples after the last step. "all" counts the seeds that cover every mode. Seconds are those of one run on
one core, while the other core is at another run. Published and prototype figures: see benchmarks/README.md.
"""

import argparse
import multiprocessing
import os
import statistics
import time

from same_bits import processor

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # runs go side by side, one on each core

PENALISED = {"objective": "relativistic", "beta1": 0.0, "beta2": 0.9, "beta2_final": 0.99, "ema": 200.0}
CASES = (  # recipe, remedy, settings, steps
    ("ring8", "plain", {}, 10_000),
    ("ring8", "pack 2", {"pack": 2}, 10_000),
    ("ring8", "unroll 5", {"unroll": 5}, 5_000),
    ("ring8", "relativistic, R1, R2, EMA", {**PENALISED, "r1": 0.1, "r2": 0.1, "gamma_final": 0.02}, 10_000),
    ("grid25", "plain", {}, 20_000),
    ("grid25", "pack 2", {"pack": 2}, 20_000),
    ("grid25", "relativistic, R1, R2, EMA", {**PENALISED, "r1": 0.05, "r2": 0.05, "gamma_final": 0.025}, 20_000),
)
SEEDS = {"ring8": 6, "grid25": 5}
MODES = {"ring8": 8, "grid25": 25}


def trained(case, seed, steps):
    """The measures of one run, and its seconds."""
    from scratchgan import data, training
    recipe, _, settings, _ = case
    begun = time.perf_counter()
    run = training.start(recipe, data.load(recipe), None, settings, seed=seed, device="cpu", steps=steps,
                         log_every=steps, threads=1, announce=lambda line: None)
    seconds = time.perf_counter() - begun
    return {**run.system.measure(), "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="ring8, grid25 (default: both)")
    parser.add_argument("--only", metavar="WORD", help="remedies that have this word")
    parser.add_argument("--short", action="store_true", help="two seeds of 100 steps")
    options = parser.parse_args()
    unknown = set(options.recipes) - set(SEEDS)
    if unknown:
        parser.error(f"unknown recipe {unknown.pop()!r}: choose from {', '.join(SEEDS)}")
    cases = [case for case in CASES if (not options.recipes or case[0] in options.recipes)
             and (options.only is None or options.only in case[1])]
    if not cases:
        parser.error(f"no remedy has the word {options.only!r}: there are "
                     f"{', '.join(dict.fromkeys(case[1] for case in CASES))}")
    print(f"{processor()}, {os.cpu_count()} processors, one for each run")
    print(f"{'recipe':<8} {'remedy':<26} {'steps':>6} {'seeds':>5} {'all':>4} {'modes':>5} {'least':>5} {'fair':>5} "
          f"{'hq':>5} {'KL':>6} {'seconds':>7}")
    with multiprocessing.get_context("spawn").Pool() as pool:
        for case in cases:
            recipe, remedy, _, steps = case
            seeds, steps = (2, 100) if options.short else (SEEDS[recipe], steps)
            rows = pool.starmap(trained, [(case, seed, steps) for seed in range(seeds)], chunksize=1)
            mean = {name: statistics.mean(row[name] for row in rows) for name in rows[0]}
            covered = [row["modes"] for row in rows]
            every = sum(n == MODES[recipe] for n in covered)
            print(f"{recipe:<8} {remedy:<26} {steps:>6} {seeds:>5} {every:>4} {mean['modes']:>5.1f} "
                  f"{min(covered):>5.0f} {mean['fair']:>5.1f} {mean['hq']:>5.3f} {mean['kl']:>6.3f} "
                  f"{mean['seconds']:>7.1f}", flush=True)


if __name__ == "__main__":
    main()
