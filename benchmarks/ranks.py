"""How much faster two processes with a core each train than one process with a core, on the same batches.

    pip install -e ".[mpi]"
    python benchmarks/ranks.py                     # all cases: some minutes
    python benchmarks/ranks.py dcgan64:16 mlp:512  # SYSTEM:BATCH, the batch being that of all processes together
    python benchmarks/ranks.py --sync-bn dcgan64:16

Each process is bound to a core of its own, with one thread. One process and several take turns, mpiexec starting both;
a time is the median (or the least) of the steps of all turns, a ratio that of two such times. Other work on the machine
spoils the ratio: the least times suffer less, and "work", the ratio of processor time outside the sums, least of all:
it is what could be reached if sums took no time. "sums" is the share of a step that goes into adding up gradients,
waiting for the other process included.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

CASES = ("mlp:64", "mlp:512", "dcgan28:64", "dcgan64:16", "dcgan64:64")
TURNS, SECONDS = 3, 6.0


def child(case, sync_bn):
    """Steps of one process; rank 0 prints their seconds, those of the sums in them, and the rest's processor time."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from scratchgan import ranks, recipes
    from scratchgan.training.sharing import shared
    name, size = case.split(":")
    each, size = ranks.joined(), int(size)
    os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[each.rank]])
    system, sums = recipes.get(name).build(0, "cpu"), [0.0, 0.0]
    share = shared(system, size, each, sync_bn)
    images = np.random.default_rng(0).integers(0, 256, (size, *system.sample_shape), np.uint8)
    images = images[share.first:share.first + share.count] if each.size > 1 else images
    add_up = each.sum

    def timed(array):
        start, work = time.perf_counter(), time.process_time()
        total = add_up(array)
        sums[0] += time.perf_counter() - start
        sums[1] += time.process_time() - work
        return total
    each.sum = timed
    seconds, waits, works, end = [], [], [], None
    with threadpool_limits(1):
        while each.largest(int(end is None or time.perf_counter() < end or len(seconds) < 5)):
            start, work, sums[:] = time.perf_counter(), time.process_time(), (0.0, 0.0)
            with ranks.learning(share):
                system.step(images)
            seconds.append(time.perf_counter() - start)
            waits.append(sums[0])
            works.append(time.process_time() - work - sums[1])
            if len(seconds) == 2 and end is None:  # the first steps are slower
                seconds, waits, works, end = [], [], [], time.perf_counter() + SECONDS
    if each.rank == 0:
        print(json.dumps([seconds, waits, works]))


def measured(case, size, sync_bn):
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    command = [mpiexec, "-n", str(size), sys.executable, __file__, "--child", case, *["--sync-bn"] * sync_bn]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=CASES, metavar="SYSTEM:BATCH")
    parser.add_argument("--ranks", type=int, default=2, help="how many processes (default: 2)")
    parser.add_argument("--sync-bn", action="store_true", help="statistics of the whole batch")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.cases[0], options.sync_bn)
    print(f"{processor()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; one thread a process"
          f"{', sync-bn' if options.sync_bn else ''}")
    print(f"{'batch':12s}  {'1 process, ms':>16s}  {f'{options.ranks} processes, ms':>16s}  {'ratio':>12s}  work  sums")
    print(f"{'':12s}  {'median     least':>16s}  {'median     least':>16s}  {'median least':>12s}")
    for case in options.cases:
        times, works, waits = {1: [], options.ranks: []}, {1: [], options.ranks: []}, []
        for _ in range(TURNS):
            for size in times:
                seconds, wait, work = measured(case, size, options.sync_bn)
                times[size] += seconds
                works[size] += work
                waits += wait if size > 1 else []
        middle, least = ({size: 1e3 * of(all_) for size, all_ in times.items()} for of in (statistics.median, min))
        several, work = options.ranks, {size: statistics.median(all_) for size, all_ in works.items()}
        print(f"{case:12s}  {middle[1]:7.1f}  {least[1]:7.1f}  {middle[several]:7.1f}  {least[several]:7.1f}  "
              f"{middle[1] / middle[several]:6.2f} {least[1] / least[several]:5.2f}  "
              f"{work[1] / work[several]:4.2f}  {sum(waits) / sum(times[several]):4.0%}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
