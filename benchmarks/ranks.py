"""How much faster two processes with a core each train than one process with a core, or with both, on the same batches.

    pip install -e ".[mpi]"
    python benchmarks/ranks.py                     # all cases: some minutes
    python benchmarks/ranks.py dcgan64:16 mlp:512  # SYSTEM:BATCH, the batch being that of all processes together
    python benchmarks/ranks.py --sync-bn dcgan64:16

Each process is bound to a core of its own, with one thread; "threads" is one process with as many threads, on as many
cores. All take turns, mpiexec starting each; a time is the median (or the least) of the steps of all turns, a ratio
that of two such times. Other work on the machine spoils the ratio: the least times suffer less, and "work", the ratio
of processor time outside the sums, least of all: it is what could be reached if sums took no time. "sums" is the share
of a step that goes into adding up gradients, waiting for the other process included.
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

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")  # as scratchgan does, where it is imported before NumPy

CASES = ("mlp:64", "mlp:512", "dcgan28:64", "dcgan64:16", "dcgan64:64")
TURNS, SECONDS = 3, 6.0


def child(case, sync_bn, threads):
    """Steps of one process; rank 0 prints their seconds, those of the sums in them, and the rest's processor time."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from scratchgan import ranks, recipes
    from scratchgan.training.sharing import shared
    name, size = case.split(":")
    each, size = ranks.joined(), int(size)
    cores = sorted(os.sched_getaffinity(0))[each.rank:each.rank + threads]
    for thread in os.listdir("/proc/self/task"):  # the BLAS has begun some
        os.sched_setaffinity(int(thread), cores)
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
    with threadpool_limits(threads):
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


def measured(case, size, threads, sync_bn):
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    command = [mpiexec, "-n", str(size), sys.executable, __file__, "--child", str(threads), case]
    command += ["--sync-bn"] * sync_bn
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
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
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.cases[0], options.sync_bn, options.child)
    print(f"{processor()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
          f"{', sync-bn' if options.sync_bn else ''}")
    several = options.ranks
    print(f"{'batch':12s}  {'1 process, ms':>16s}  {f'{several} threads, ms':>16s}  {f'{several} processes, ms':>16s}  "
          f"{'ratio':>12s}  work  sums")
    print(f"{'':12s}" + 3 * f"  {'median     least':>16s}" + f"  {'median least':>12s}")
    ways = {"one": (1, 1), "threads": (1, several), "processes": (several, 1)}  # processes, threads
    for case in options.cases:
        seconds, waits, works = ({way: [] for way in ways} for _ in range(3))
        for _ in range(TURNS):
            for way, (size, threads) in ways.items():
                for all_, more in zip((seconds, waits, works), measured(case, size, threads, options.sync_bn)):
                    all_[way] += more
        middle, least = ({way: 1e3 * of(all_) for way, all_ in seconds.items()} for of in (statistics.median, min))
        work = {way: statistics.median(all_) for way, all_ in works.items()}
        print(f"{case:12s}" + "".join(f"  {middle[way]:7.1f}  {least[way]:7.1f}" for way in ways) +
              f"  {middle['one'] / middle['processes']:6.2f} {least['one'] / least['processes']:5.2f}  "
              f"{work['one'] / work['processes']:4.2f}  {sum(waits['processes']) / sum(seconds['processes']):4.0%}",
              flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
