"""What a check found: rows, a report of them, and the table of many reports."""

import math
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass, field

from scratchgan.gradcheck.oracles import relative_error

COMPLEX_STEP = "complex step"
CENTRAL = "central differences"
ADJOINT = "adjoint"
PYTORCH = "PyTorch"
FLOAT32 = "float32"
ORACLES = (COMPLEX_STEP, CENTRAL, ADJOINT, PYTORCH, FLOAT32)  # a column each
ZERO = "gradient is zero up to rounding: nothing was checked"
NAME_WIDTH = 52  # of a table


class GradientCheckError(AssertionError):
    """A gradient, or a property that every gradient must have, is wrong."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    tensor     what was compared: "x", "y", "dy", a parameter such as "0.weight"
    check      against what: an oracle, or the property that must hold
    error      max|a - b| / max|b|, for networks |a - b| over the norms of gradient and direction; None where the
               check has no number
    where      the index of the worst entry
    skipped    entries whose branch changes within the central-difference step, which no difference can judge
    detail     what was found, in words
    case       which pass: "" for the ordinary one, "eval", "batch of 1"
    """

    tensor: str
    check: str
    ok: bool
    error: float | None = None
    tolerance: float | None = None
    where: tuple | None = None
    skipped: int = 0
    detail: str = ""
    case: str = ""

    def __str__(self):
        if self.error is None:
            numbers = ""
        else:
            numbers = f"{self.error:.1e} (at most {self.tolerance:.0e})"
        at = f"worst at {self.where}" if self.where is not None else ""
        skipped = f"{self.skipped} entries at a kink skipped" if self.skipped else ""
        notes = "; ".join(note for note in (numbers, at, skipped, self.detail) if note)
        case = f" ({self.case})" if self.case else ""
        return f"{'ok   ' if self.ok else 'WRONG'}  {self.tensor}: {self.check}{case}  {notes}".rstrip()


@dataclass
class Report:
    """All rows of one check, and what reproduces it: the seed and the arrays.

    name       what was checked
    seed       of the random inputs, cotangents and masks
    inputs     name -> host array, as they went in ("x", "dy"; "input", "target"; ...)
    case       which pass the next rows are about
    """

    name: str
    seed: int = 0
    inputs: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    case: str = ""

    @property
    def ok(self):
        """Whether something was checked and all of it was right."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def failures(self):
        return [row for row in self.rows if not row.ok]

    @property
    def wrong(self):
        """The names of what is wrong, in order: tensors, such as "weight", each once."""
        return list(dict.fromkeys(row.tensor for row in self.failures))

    def worst(self, check):
        """The largest error against one oracle, or None if it was not asked."""
        errors = [row.error for row in self.rows if row.check == check and row.error is not None]
        return max(errors, key=lambda error: math.inf if math.isnan(error) else error, default=None)

    def add(self, tensor, check, ok, detail="", **numbers):
        """A row. `detail` says what is wrong, so it is kept only where `ok` is false."""
        self.rows.append(Row(tensor, check, bool(ok), detail="" if ok else detail, case=self.case, **numbers))
        return bool(ok)

    def compare(self, tensor, check, a, b, tolerance, detail="", floor=0.0):
        """A row that holds if max|a - b| / max|b| <= tolerance. `floor`: see `relative_error`."""
        error, where = relative_error(a, b, floor)
        return self.add(tensor, check, error <= tolerance, detail, error=error, tolerance=tolerance, where=where)

    @contextmanager
    def guard(self, check):
        """Turns an exception inside into a failing row "the pass", so that the other checks still run."""
        try:
            yield
        except Exception as error:  # whatever a user's layer raises is a finding
            message = " ".join(str(error).split())
            self.add("the pass", check, False, f"raised {type(error).__name__}: {message}")

    def raise_if_failed(self):
        """`GradientCheckError` with the readable report, unless everything was right. Returns self."""
        if not self.ok:
            raise GradientCheckError(f"\n{self}")
        return self

    def __str__(self):
        shapes = ", ".join(f"{name} {tuple(array.shape)} {array.dtype}" for name, array in self.inputs.items())
        head = f"{self.name}: {'ok' if self.ok else 'WRONG: ' + ', '.join(self.wrong)}"
        oracles = [row for row in self.rows if row.check in (COMPLEX_STEP, CENTRAL, FLOAT32, ZERO) and row.ok]
        held = len(self.rows) - len(oracles) - len(self.failures)
        lines = [head, f"  seed {self.seed}; {shapes}", *(f"  {row}" for row in self.failures),
                 *(f"  {row}" for row in oracles)]
        if held:
            lines.append(f"  ok     and {held} other properties")
        return "\n".join(lines)


def _number(error):
    return "-" if error is None else f"{error:.1e}"


def table(reports):
    """The reports as one table: a line each, the failing rows below it."""
    head = ("checked", "tensors", *ORACLES, "checks", "verdict")
    lines = []
    for report in reports:
        tensors = dict.fromkeys(row.tensor for row in report.rows if row.check == COMPLEX_STEP)
        lines.append((textwrap.shorten(report.name, NAME_WIDTH, placeholder=" ..."),
                      ", ".join(tensors) if len(tensors) <= 4 else f"{len(tensors)} tensors",
                      *(_number(report.worst(check)) for check in ORACLES),
                      str(len(report.rows)), "ok" if report.ok else "WRONG"))
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    def show(line):
        return "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
    out = [show(head), show(tuple("-" * width for width in widths))]
    for line, report in zip(lines, reports, strict=True):
        out += [show(line), *(f"    {row}" for row in report.failures)]
    wrong = sum(not report.ok for report in reports)
    checks = sum(len(report.rows) for report in reports)
    out.append(f"{len(reports)} checked, {checks} comparisons: " + (f"{wrong} WRONG" if wrong else "all right"))
    return "\n".join(out)
