"""Does this checkout train to the same bits as an older revision, and as fast?

    python benchmarks/same_bits.py efacfc9                    # every case: some minutes
    python benchmarks/same_bits.py HEAD~3 mlp:64 --no-times   # one case, bits only
    python benchmarks/same_bits.py HEAD~3 stacked:64 ebgan:64 # other recipes of images without labels

The older revision is checked out beside this one (`git worktree`), and each of the two trees runs in a process of its
own. A case is RECIPE:BATCH, at full size, or RECIPE:small, with the recipe's small networks. Both processes build the
recipe from seed 0 and train it for 20 steps on the same random images; then every parameter and buffer is compared, bit
for bit. Where some differ, the largest relative error of a tensor is shown: rounding is about 1e-6, a mistake more.

Then both are timed in turn: blocks of steps, a pause before each so that the other's waiting threads are asleep.
"least", "tenth" and "median" are ratios of the new tree's times to the old one's, at that rank of all their steps;
"mean of cases" is geometric, over full-size cases. Ends with status 1 if bits differ.
"""

import argparse
import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")  # as scratchgan does, where it is imported before NumPy

import numpy as np

CASES = ("mlp:64", "mlp:512", "dcgan28:64", "dcgan64:16", "dcgan64:64", "mlp:small", "dcgan28:small", "dcgan64:small")
SMALL_BATCH = 8
STEPS = 20     # before bits are compared
PAUSE = 0.25   # seconds
HERE = Path(__file__).resolve().parent.parent


# -- in a process of its own, with the package of one of the trees -------------------------------------------------


class Worker:
    """Makes what the parent asks for, one line of JSON after the other."""

    def build(self, name, batch):
        from scratchgan import recipes
        recipe = recipes.get(name)
        small = dict(recipe.small) if batch == "small" else {}
        if name == "dcgan64":
            small["channels"] = 3
        self.game = recipe.build(seed=0, **small)
        shape = (SMALL_BATCH if batch == "small" else int(batch), *self.game.sample_shape)
        self.images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)

    def train(self, steps, path):
        """Train, and leave all tensors in a file."""
        for _ in range(steps):
            self.game.step(self.images)
        state = {f"{name}.{key}": value for name, network in self.game.networks.items()
                 for key, value in network.state_dict().items()}
        with open(path, "wb") as file:
            pickle.dump(state, file)

    def times(self, steps):
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            self.game.step(self.images)
            seconds.append(time.perf_counter() - start)
        return seconds


    def memory(self, way):
        """Where NumPy's memory comes from: see memory.py."""
        from scratchgan.memory import Pool
        Pool.works = way == "pool"
        if way == "glibc keeps":
            import ctypes
            for parameter, value in ((-3, 1 << 30), (-1, (1 << 31) - 1), (-2, 64 << 20)):
                if not ctypes.CDLL(None).mallopt(parameter, value):
                    raise SystemExit("mallopt refused")

    def peak(self):
        """MiB, of physical memory."""
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))


def serve():
    worker = Worker()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(worker, name)(*arguments)), flush=True)


class Tree:
    """The process of one tree; a call is made there and waited for."""

    def __init__(self, root):
        environment = {**os.environ, "PYTHONPATH": str(root)}
        self.process = subprocess.Popen([sys.executable, __file__, "--serve"], env=environment, cwd=root, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, *call):
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{call[0]} failed in {self.process.args}, which ended with {self.process.wait()}")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# -- the comparison ------------------------------------------------------------------------------------------------


def compare(case, old, new, folder, steps):
    """(number of tensors whose bits differ, of how many, largest relative error, of which)."""
    name, _, batch = case.partition(":")
    states = []
    for tree, word in ((old, "old"), (new, "new")):
        path = Path(folder, f"{word}.pickle")
        tree("build", name, batch)
        tree("train", steps, str(path))
        states.append(pickle.loads(path.read_bytes()))
    before, after = states
    if before.keys() != after.keys():
        raise SystemExit(f"{case}: the tensors have other names: {sorted(before.keys() ^ after.keys())}")
    errors = {key: relative_error(after[key], before[key]) for key in before
              if after[key].tobytes() != before[key].tobytes()}
    worst = max(errors, key=errors.get, default=None)
    return len(errors), len(before), errors.get(worst, 0.0), worst


def relative_error(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-300))


def plan(case):
    """(blocks, steps in a block)."""
    name, _, batch = case.partition(":")
    if batch == "small" or name == "mlp":
        return 12, 20
    return (8, 8) if name != "dcgan64" else (6, 4) if int(batch) <= 32 else (5, 2)


def timed(case, old, new):
    """{"least", "tenth", "median": ratio of the new tree's times to the old one's}, and the old one's median."""
    blocks, count = plan(case)
    times = {old: [], new: []}
    for block in range(blocks):
        for tree in (old, new) if block % 2 else (new, old):
            time.sleep(PAUSE)
            times[tree] += tree("times", count + 1)[1:]
    ranks = {"least": 0, "tenth": 0.1, "median": 0.5}
    a, b = (np.sort(times[tree]) for tree in (new, old))
    at = {word: int(rank * (len(a) - 1)) for word, rank in ranks.items()}
    return {word: a[i] / b[i] for word, i in at.items()}, float(np.median(b))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", metavar="OLD_REV", nargs="?", help="what git calls the older revision")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="RECIPE:BATCH or RECIPE:small (default: all)")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help="before bits are compared (default: 20)")
    parser.add_argument("--no-times", action="store_true", help="compare bits only")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve()
    if args.revision is None:
        parser.error("name the older revision")
    from scratchgan import recipes
    unknown = [case for case in args.cases
               if case.partition(":")[0] not in recipes.names() or not case.partition(":")[2]]
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}: write RECIPE:BATCH or RECIPE:small, as {', '.join(CASES)}")
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder, "old")
        git = ["git", "-C", str(HERE), "worktree"]
        if subprocess.run([*git, "add", "--detach", "--quiet", str(old), args.revision]).returncode:
            raise SystemExit(2)
        try:
            return judge(args, old, folder)
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)


def judge(args, old_root, folder):
    print(f"this checkout against {args.revision}, bits after {args.steps} steps, {processor()}")
    print(f"{'case':<14} {'bits':<26} {'old, ms':>8} {'least':>6} {'tenth':>6} {'median':>6}")
    ratios, failed = {"least": [], "tenth": [], "median": []}, False
    for case in args.cases or CASES:
        old, new = Tree(old_root), Tree(HERE)
        differ, of, error, worst = compare(case, old, new, folder, args.steps)
        failed = failed or bool(differ)
        told = f"{differ} of {of} differ, {error:.0e}" if differ else f"the same ({of} tensors)"
        line = f"{case:<14} {told:<26}"
        if not args.no_times:
            measured, seconds = timed(case, old, new)
            line += f" {seconds * 1e3:>8.2f} " + " ".join(f"{measured[word]:>6.2f}" for word in ratios)
            if not case.endswith(":small"):
                for word, values in ratios.items():
                    values.append(measured[word])
        print(line + (f"   worst: {worst}" if worst else ""), flush=True)
        old.close()
        new.close()
    if ratios["least"]:
        means = " ".join(f"{math.exp(np.mean(np.log(values))):>6.2f}" for values in ratios.values())
        print(f"{'mean of cases':<14} {'':<26} {'':>8} {means}")
    return int(failed)


def processor():
    """What the processor calls itself, where Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "an unknown processor"


if __name__ == "__main__":
    sys.exit(main())
