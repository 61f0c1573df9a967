"""Would the gradient checker notice a mistake in any line of mathematics?

    python benchmarks/mutants.py                               # every mutant: tens of minutes
    python benchmarks/mutants.py --sample 100 --seed 1         # a random sample
    python benchmarks/mutants.py --only layer_norm.py --list   # of one file; only list them

Changes the mathematics in `layers/`, `losses.py` and `gan/objectives.py` in one place at a time, in a copy of the
package, and runs those checks of `scratchgan gradcheck` that go through the changed line. A mutant is killed where a
check fails; the first tensor or property that it blames is printed. Those that only raise are counted apart.

What counts as mathematics: every function that a pass can reach inside its file (`ROOTS`, and what is decorated as a
formula), lambdas at the top of a file, and all functions of the objectives; but not what only leads to a `raise`, nor
checks of arguments, constructors, defaults and annotations. What is changed:

    sign       + and - exchanged, a unary minus dropped, a whole result, assigned value or argument negated
    operator   * and /, // and *, % and //, ** and *; sum and mean, maximum and minimum, ... (`TWINS`)
    compare    > into <=, == into !=, in, is, `and` into `or`, `not` dropped
    constant   n into n + 1 (axes and slices too), True into False
    drop       a statement: accumulate(...), y += ..., y[...] = ...
    order      the operands of @ exchanged, a .T dropped

A mutant that cannot run at all (minus a tuple, say) is left out. Ends with status 1 if one survived.
"""

import argparse
import ast
import compileall
import json
import math
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
FILES = ("layers/*.py", "losses.py", "gan/objectives.py")
OF_FORMULAS = ("gan/objectives.py",)  # every function in these files is mathematics
ROOTS = ("forward", "backward", "tangent", "accumulate", "elements", "elements_grad")
CHECKS = ("check", "_check")  # functions that only look at their arguments
SLACK, SECONDS = 5, 20  # a mutant's checks may take so many times as long as they should, and so much longer

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
             ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult}
COMPARISONS = {ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq,
               ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
TWINS = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "argmax": "argmin", "maximum": "minimum",
         "minimum": "maximum", "multiply": "divide", "divide": "multiply", "add": "subtract", "subtract": "add",
         "zeros": "ones", "ones": "zeros", "zeros_like": "ones_like", "ones_like": "zeros_like", "floor": "ceil"}
NO_NUMBER = "bad operand type for unary -", "boolean negative, the `-` operator"
SIGNS = (ast.Add, ast.Sub)


# -- mutants of one file -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """One change of one file: the source from `start` to `end` (bytes) becomes `after`."""

    file: str
    line: int
    last: int       # of the lines that the changed node stands on
    start: int
    end: int
    kind: str
    before: str
    after: str
    function: str

    def __str__(self):
        return f"{self.file}:{self.line} {self.function}: {self.kind}: {short(self.before)} -> {short(self.after)}"

    def source(self, text):
        data = text.encode()
        return (data[:self.start] + self.after.encode() + data[self.end:]).decode()


def called(call):
    """The name of the function that is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def short(text, width=70):
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[:width - 4]} ..."


def mutants_of(path, name):
    """All mutants of the file at `path`, in the order of its lines."""
    text = path.read_text(encoding="utf-8")
    finder = Finder(text, name)
    for function, node in mathematics(ast.parse(text), name in OF_FORMULAS):
        finder.function = function
        body = node.body if isinstance(node.body, list) else [node.body]
        for child in body:
            finder.visit(child)
    unique = {(mutant.start, mutant.end, mutant.after): mutant for mutant in finder.found}
    return sorted(unique.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.after))


def mathematics(tree, all_of_it):
    """(name, node) of the functions and lambdas to change."""
    functions, reached, roots = {}, set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            functions.setdefault(node.name, []).append(node)
    for name, nodes in functions.items():
        decorators = " ".join(ast.unparse(decorator) for node in nodes for decorator in node.decorator_list)
        if all_of_it or name.startswith(ROOTS) or "formula" in decorators:
            roots.append(name)
    while roots:
        name = roots.pop()
        if name in reached or name.startswith(("__", *CHECKS)):
            continue
        reached.add(name)
        for node in functions[name]:
            words = {getattr(child, "id", getattr(child, "attr", None)) for child in ast.walk(node)}
            roots += [word for word in words if word in functions]
    inner = {id(child) for name in reached for node in functions[name] for child in ast.walk(node) if child is not node}
    chosen = [(name, node) for name in reached for node in functions[name] if id(node) not in inner]
    lambdas = [node for top in tree.body if not isinstance(top, ast.FunctionDef | ast.ClassDef)
               for node in ast.walk(top) if isinstance(node, ast.Lambda)]
    return chosen + [("lambda", node) for node in lambdas]


class Finder(ast.NodeVisitor):
    """Collects the mutants of what it visits in `found`."""

    def __init__(self, text, name):
        self.name, self.found, self.function = name, [], ""
        self.starts = [0]
        self.data = text.encode()
        for line in self.data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def add(self, node, kind, after):
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[node.end_lineno - 1] + node.end_col_offset
        before = self.data[start:end].decode()
        self.found.append(Mutant(self.name, node.lineno, node.end_lineno, start, end, kind, before, after,
                                 self.function))

    def replace(self, node, kind, **fields):
        """The expression `node` with other fields."""
        changed = type(node)(**{**dict(ast.iter_fields(node)), **fields})
        self.add(node, kind, f"({ast.unparse(changed)})")

    def negate(self, node):
        """Where it may hold a number; what does not is found when it runs."""
        is_memory = isinstance(node, ast.Call) and called(node).startswith("empty")  # whose values do not matter
        if isinstance(node, ast.BinOp | ast.Call | ast.Name | ast.Attribute | ast.Subscript) and not is_memory:
            self.add(node, "sign", f"(-({ast.unparse(node)}))")

    # -- statements

    def visit_FunctionDef(self, node):
        for statement in node.body:
            self.visit(statement)

    def visit_Raise(self, node):
        pass

    visit_Assert = visit_JoinedStr = visit_Raise

    def visit_Lambda(self, node):
        self.visit(node.body)

    def visit_If(self, node):
        if isinstance(node.body[-1], ast.Raise) and not node.orelse:
            return
        self.generic_visit(node)

    def visit_Return(self, node):
        if node.value is not None:
            for value in node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]:
                self.negate(value)
            self.visit(node.value)

    def visit_Assign(self, node):
        if isinstance(node.targets[0], ast.Subscript):
            self.add(node, "drop", "pass")
        self.negate(node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        self.add(node, "drop", "pass")
        if type(node.op) in OPERATORS:
            other = ast.unparse(ast.BinOp(node.target, OPERATORS[type(node.op)](), node.target))
            symbol = other.removeprefix(ast.unparse(node.target)).removesuffix(ast.unparse(node.target)).strip()
            self.add(node, "sign" if isinstance(node.op, SIGNS) else "operator",
                     f"{ast.unparse(node.target)} {symbol}= {ast.unparse(node.value)}")
        self.generic_visit(node)

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Constant) or (isinstance(node.value, ast.Call)
                                                    and called(node.value).startswith(CHECKS)):
            return  # a docstring, or a check
        self.add(node, "drop", "pass")
        if isinstance(node.value, ast.Call):
            for argument in node.value.args:
                self.negate(argument)
        self.generic_visit(node)

    # -- expressions

    def visit_BinOp(self, node):
        if type(node.op) in OPERATORS:
            self.replace(node, "sign" if isinstance(node.op, SIGNS) else "operator", op=OPERATORS[type(node.op)]())
        if isinstance(node.op, ast.MatMult):
            self.replace(node, "order", left=node.right, right=node.left)
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.USub):
            self.add(node, "sign", f"({ast.unparse(node.operand)})")
        elif isinstance(node.op, ast.Not):
            self.add(node, "compare", f"(bool({ast.unparse(node.operand)}))")
        if not isinstance(node.operand, ast.Constant):
            self.generic_visit(node)

    def visit_Compare(self, node):
        for i, op in enumerate(node.ops):
            self.replace(node, "compare", ops=[*node.ops[:i], COMPARISONS[type(op)](), *node.ops[i + 1:]])
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        self.replace(node, "compare", op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
        self.generic_visit(node)

    def visit_Attribute(self, node):
        if node.attr == "T":
            self.add(node, "order", ast.unparse(node.value))
        self.generic_visit(node)

    def visit_Call(self, node):
        word = called(node)
        if word in TWINS and isinstance(node.func, ast.Attribute):
            self.replace(node.func, "operator", attr=TWINS[word])
        if word.startswith((*CHECKS, "isinstance", "super", "type", "hasattr", "getattr")):
            return
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.add(node, "constant", str(not node.value))
        elif isinstance(node.value, int | float):
            self.add(node, "constant", repr(node.value + 1))


# -- in a process of its own, with the mutated package ---------------------------------------------------------------


def all_checks():
    """{"Linear 0": function without arguments that returns a report}, everything that `scratchgan gradcheck` makes."""
    from scratchgan.gradcheck import catalogue
    return {f"{name} {i}": check for name in catalogue.choices() for i, check in enumerate(catalogue.checks(name))}


def work(names):
    """Make these checks until one fails; print what came of it as JSON."""
    result = {"verdict": "survived"}
    try:
        checks = all_checks()
        for name in names:
            report = checks[name]()
            if not report.ok:
                row = report.failures[0] if report.failures else None
                named = [row for row in report.failures if row.tensor != "the pass"]
                row = named[0] if named else row
                raises = bool(report.failures) and not named
                result = {"verdict": "raised" if raises else "killed", "check": report.name,
                          "by": f"{row.tensor}: {row.check}" if row else "an empty report",
                          "detail": row.detail if row else ""}
                break
    except Exception as error:
        result = {"verdict": "raised", "check": "", "by": type(error).__name__, "detail": str(error)}
    print(json.dumps(result))


def trace(folder):
    """For each check, the seconds it takes and the lines of the files in `folder` that it runs, as JSON.

    Each in a forked process, so that caches of the one before hide no line.
    """
    checks, result = all_checks(), {}
    for name, check in checks.items():
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            with os.fdopen(write, "w") as pipe:
                json.dump(traced(check, folder), pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            result[name] = json.load(pipe)
        os.waitpid(child, 0)
    print(json.dumps(result))


def traced(check, folder):
    lines = set()

    def line_of(frame, event, _):
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return line_of

    def start(frame, event, _):
        return line_of if frame.f_code.co_filename.startswith(folder) else None
    threading.settrace(start)
    sys.settrace(start)
    try:
        check()
    finally:
        sys.settrace(None)
    start = time.perf_counter()
    check()
    files = {}
    for file, line in lines:
        files.setdefault(file.removeprefix(folder), []).append(line)
    return {"seconds": time.perf_counter() - start, "lines": files}


# -- the experiment ------------------------------------------------------------------------------------------------


class Copy:
    """A copy of the package to change, and processes that import it."""

    def __init__(self, folder):
        self.root = Path(folder)
        self.package = self.root / "scratchgan"
        shutil.copytree(HERE / "scratchgan", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        # By hashes, as a changed file may have the time and size of the one before.
        compileall.compile_dir(self.package, quiet=1,
                               invalidation_mode=compileall.py_compile.PycInvalidationMode.CHECKED_HASH)
        self.environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1",
                            "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def run(self, *arguments, text="", timeout=None):
        done = subprocess.run([sys.executable, "-W", "ignore", str(Path(__file__).resolve()), *arguments],
                              env=self.environment, cwd=self.root, input=text, capture_output=True, text=True,
                              timeout=timeout, check=False)
        lines = done.stdout.splitlines()
        if done.returncode or not lines:
            words = done.stderr.strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
            return {"verdict": "raised", "check": "", "by": "the process", "detail": words[0]}
        return json.loads(lines[-1])

    def judge(self, mutant, checks, seconds):
        """What the checks say about a mutant."""
        path = self.package / mutant.file
        text = path.read_text(encoding="utf-8")
        path.write_text(mutant.source(text), encoding="utf-8")
        try:
            return self.run("--work", text=json.dumps(checks), timeout=SLACK * seconds + SECONDS)
        except subprocess.TimeoutExpired:
            return {"verdict": "raised", "check": "", "by": "the time limit", "detail": ""}
        finally:
            path.write_text(text, encoding="utf-8")


def pointless(mutant, result):
    """Whether it says nothing: minus something that is no number."""
    return mutant.kind == "sign" and any(words in result.get("detail", "") for words in NO_NUMBER)


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
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--trace", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(json.load(sys.stdin))
    if options.trace:
        return trace(options.trace)
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
               if not options.only or any(part in name for part in options.only) for mutant in mutants_of(path, name)]
    if options.sample is not None:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
        mutants.sort(key=lambda mutant: (mutant.file, mutant.start))
    return mutants


def experiment(mutants, options):
    with tempfile.TemporaryDirectory() as folder:
        copies = queue.Queue()
        for i in range(options.processes):
            copies.put(Copy(Path(folder, str(i))))
        copy = copies.get()
        traces = copy.run("--trace", f"{copy.package}/")
        copies.put(copy)
        if "verdict" in traces:
            raise SystemExit(f"the checks do not run: {traces['detail']}")

        def judged(mutant):
            names, seconds = concerned(mutant, traces)
            if not names:
                return {"verdict": "survived", "detail": "no check runs this line"}
            copy = copies.get()
            try:
                return copy.judge(mutant, names, seconds)
            finally:
                copies.put(copy)
        counts, survivors = {}, []
        with ThreadPoolExecutor(options.processes) as pool:
            for mutant, result in zip(mutants, pool.map(judged, mutants), strict=True):
                if pointless(mutant, result):
                    continue
                counts.setdefault(mutant.file, Counter())[result["verdict"]] += 1
                if result["verdict"] == "survived":
                    survivors.append((mutant, result.get("detail", "")))
                    print(f"survived  {mutant}" + (f"  ({survivors[-1][1]})" if survivors[-1][1] else ""), flush=True)
                elif not options.quiet:
                    detail = f" ({short(result['detail'])})" if result["verdict"] == "raised" else ""
                    print(f"{result['verdict']:8}  {mutant}  by {result['by']}{detail}", flush=True)
    return summary(counts, survivors)


def summary(counts, survivors):
    print(f"\n{'file':<26} {'tried':>6} {'killed':>7} {'raised':>7} {'survived':>9} {'caught':>7}")
    for file, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        tried = count.total()
        share = 1 - count["survived"] / tried if tried else math.nan
        print(f"{file:<26} {tried:>6} {count['killed']:>7} {count['raised']:>7} {count['survived']:>9} {share:>7.1%}")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
