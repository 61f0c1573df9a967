"""Would the gradient checker notice a mistake in any line of mathematics?

    python benchmarks/mutants.py                               # every mutant: tens of minutes
    python benchmarks/mutants.py --sample 100 --seed 1         # a random sample
    python benchmarks/mutants.py --only layer_norm.py --list   # of one file; only list them

Changes the mathematics in `layers/`, `losses.py` and `gan/objectives.py` in one place at a time, in a copy of the
package, and runs those checks of `scratchgan gradcheck` that go through the changed line. A mutant is killed where a
check fails; the first tensor or property that it blames is printed. Those that only raise are counted apart; minus
something that is no number is not counted. What is changed, and where, says `mutation.py`; why one may survive,
`survivors.txt`: then it counts as explained. Ends with status 1 if one survived unexplained.
"""

import argparse
import compileall
import contextlib
import importlib
import json
import math
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutation import mutants_of, short

HERE = Path(__file__).resolve().parent.parent
FILES = ("layers/*.py", "losses.py", "gan/objectives.py")
SLACK, SECONDS = 5, 20  # a mutant's checks may take so many times as long as they should, and so much longer


# -- in processes of their own, with the mutated package -------------------------------------------------------------


def serve():
    """Answers each line of JSON, a call of a function below and a time limit, from a child process: the mutated package
    is imported there, what does not change is imported here."""
    warnings.simplefilter("ignore")
    for name in ("numpy", "threadpoolctl", "torch"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        name, argument, limit = json.loads(line)
        print(json.dumps(in_child(globals()[name], argument, limit)), flush=True)


def in_child(function, argument, limit=0):
    """What the function returns in a forked process, which ends after `limit` seconds."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        signal.alarm(math.ceil(limit))
        sys.stdout = sys.stderr
        try:
            result = function(argument)
        except BaseException as error:
            result = {"verdict": "raised", "by": type(error).__name__, "detail": str(error)}
        with os.fdopen(write, "w") as pipe:
            json.dump(result, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    if status:
        reason = "the time limit" if status == signal.SIGALRM else f"the process, which ended with {status}"
        return {"verdict": "raised", "by": reason, "detail": ""}
    return json.loads(text)


def checks_of(names):
    """{"Linear 0": function without arguments that returns a report}: what `scratchgan gradcheck` does for these."""
    from scratchgan.gradcheck import catalogue
    return {f"{name} {i}": check for name in names for i, check in enumerate(catalogue.checks(name))}


def work(names):
    """Make these checks until one names what is wrong; what came of it."""
    from scratchgan.gradcheck import catalogue
    catalogue.choices()  # raises where a table cannot be made
    checks, result = {}, {"verdict": "survived", "detail": ""}
    for name in names:
        kind = name.rpartition(" ")[0]
        if f"{kind} 0" not in checks:
            checks |= checks_of([kind])
        report = checks.get(name, checks[f"{kind} 0"])()  # a recipe whose step raises has one check only
        named = [row for row in report.failures if row.tensor != "the pass"]
        if (not report.ok and result["verdict"] == "survived") or named:
            row = (named or report.failures or [None])[0]
            result = {"verdict": "killed" if named else "raised", "detail": row.detail if row else "",
                      "by": f"{row.tensor}: {row.check}" if row else f"no row in {report.name}"}
        if named:
            break
    return result


def trace(folder_and_part):
    """For each check of a part (first, step), the seconds it takes and the lines of the files in the folder it runs.

    Each in a process of its own, so that caches of the one before hide no line.
    """
    from scratchgan.gradcheck import catalogue
    folder, (first, step) = folder_and_part
    checks = list(checks_of(catalogue.choices()).items())[first::step]
    return {name: in_child(lambda check: traced(check, folder), check) for name, check in checks}


def traced(check, folder):
    lines, start = set(), time.perf_counter()

    def line_of(frame, event, _):
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return line_of

    def begin(frame, event, _):
        return line_of if frame.f_code.co_filename.startswith(folder) else None
    threading.settrace(begin)
    sys.settrace(begin)
    try:
        check()
    finally:
        sys.settrace(None)
    files = {}
    for file, line in lines:
        files.setdefault(file.removeprefix(folder), []).append(line)
    return {"seconds": time.perf_counter() - start, "lines": files}


# -- the experiment ------------------------------------------------------------------------------------------------


class Copy:
    """A copy of the package to change, and a process that runs its checks."""

    def __init__(self, folder):
        self.package = Path(folder) / "scratchgan"
        shutil.copytree(HERE / "scratchgan", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        # By hashes, as a changed file may have the time and size of the one before.
        compileall.compile_dir(self.package, quiet=1,
                               invalidation_mode=compileall.py_compile.PycInvalidationMode.CHECKED_HASH)
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1",
                       "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).resolve()), "--serve"], env=environment,
                                        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, function, argument, limit=0):
        self.process.stdin.write(json.dumps([function, argument, limit]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def judge(self, mutant, checks, seconds):
        """What the checks say about a mutant."""
        path = self.package / mutant.file
        text = path.read_text(encoding="utf-8")
        path.write_text(mutant.source(text), encoding="utf-8")
        try:
            return self.call("work", checks, SLACK * seconds + SECONDS)
        finally:
            path.write_text(text, encoding="utf-8")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def concerned(mutant, traces):
    """The names of the checks that run a line of the mutant, the quickest first, and the seconds they take."""
    names = [name for name, seen in traces.items()
             if not set(range(mutant.line, mutant.last + 1)).isdisjoint(seen["lines"].get(mutant.file, ()))]
    names.sort(key=lambda name: traces[name]["seconds"])
    return names, sum(traces[name]["seconds"] for name in names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="FILE", action="append", help="a file by its name, layer_norm.py, or part")
    parser.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn at random (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2, help="at a time (default: 2)")
    parser.add_argument("--quiet", action="store_true", help="print survivors and the table only")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    mutants = chosen(options)
    if options.list:
        print("\n".join(map(str, mutants)), f"\n{len(mutants)} mutants")
        return 0
    return experiment(mutants, options)


def chosen(options):
    package = HERE / "scratchgan"
    paths = sorted(path for pattern in FILES for path in package.glob(pattern))
    names = [str(path.relative_to(package)) for path in paths]
    mutants = [mutant for path, name in zip(paths, names, strict=True)
               if not options.only or any(part in name for part in options.only)
               for mutant in mutants_of(path, name)]
    if options.sample is not None:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
        mutants.sort(key=lambda mutant: (mutant.file, mutant.start))
    return mutants


def traced_by(copies):
    """What `trace` tells of all checks, shared by the copies."""
    def part(i):
        return copies[i].call("trace", [f"{copies[i].package}/", [i, len(copies)]])
    with ThreadPoolExecutor(len(copies)) as pool:
        parts = list(pool.map(part, range(len(copies))))
    return {name: seen for part in parts for name, seen in part.items()}


def experiment(mutants, options):
    with tempfile.TemporaryDirectory() as folder:
        copies = [Copy(Path(folder, str(i))) for i in range(options.processes)]
        traces = traced_by(copies)
        wrong = [name for name, seen in traces.items() if "lines" not in seen]
        if wrong:
            raise SystemExit(f"the checks do not run: {wrong[0]}: {traces[wrong[0]]}")
        free = queue.Queue()
        for copy in copies:
            free.put(copy)

        def judged(mutant):
            names, seconds = concerned(mutant, traces)
            copy = free.get()
            try:
                result = copy.judge(mutant, names, seconds)  # without names: do the checks still begin?
            finally:
                free.put(copy)
            if result["verdict"] == "survived" and not names:
                result["detail"] = "no check runs this line"
            return result
        counts, kinds, told = {}, {}, reasons()
        with ThreadPoolExecutor(options.processes) as pool:
            for mutant, result in zip(mutants, pool.map(judged, mutants), strict=True):
                if result["verdict"] == "survived" and mutant.anywhere in told:
                    result = {"verdict": "explained", "detail": told[mutant.anywhere]}
                if not mutant.says_nothing(result["detail"]):
                    counts.setdefault(mutant.file, Counter())[result["verdict"]] += 1
                    kinds.setdefault(mutant.kind, Counter())[result["verdict"]] += 1
                    tell(mutant, result, options.quiet)
        for copy in copies:
            copy.close()
    summary("kind", kinds)
    return summary("file", counts)


def reasons():
    """{"file function: kind: before -> after": why it survives}."""
    told, reason = {}, ""
    for line in Path(__file__).with_name("survivors.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            reason = line.lstrip("# ")
        elif line:
            told[line] = reason
    return told


def tell(mutant, result, quiet):
    verdict, detail = result["verdict"], f"  ({short(result['detail'])})" if result["detail"] else ""
    if verdict in ("survived", "explained"):
        print(f"{verdict}  {mutant}{detail}", flush=True)
    elif not quiet:
        print(f"{verdict:9}  {mutant}  by {result['by']}{detail if verdict == 'raised' else ''}", flush=True)


VERDICTS = ("killed", "raised", "explained", "survived")


def summary(what, counts):
    """A table of the verdicts: caught are those killed and raised, of all tried."""
    print(f"\n{what:<26} {'tried':>6} {' '.join(f'{verdict:>9}' for verdict in VERDICTS)} {'caught':>7}")
    total = sum(counts.values(), Counter())
    for name, count in [*counts.items(), ("all", total)]:
        caught = (count["killed"] + count["raised"]) / count.total() if count else math.nan
        numbers = " ".join(f"{count[verdict]:>9}" for verdict in VERDICTS)
        print(f"{name:<26} {count.total():>6} {numbers} {caught:>7.1%}")
    return int(bool(total["survived"]))


if __name__ == "__main__":
    sys.exit(main())
