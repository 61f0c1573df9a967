"""The folder of a run: everything that training writes.

    RUN/config.json                    what was trained, how, on which data, with which versions
    RUN/metrics.csv                    a row per log interval
    RUN/evaluations.jsonl              a line per evaluation, where there are any, see `evaluation`
    RUN/samples/step-00000600.png      pictures, written by callbacks
    RUN/checkpoints/step-00000600/     see `checkpoint`
"""

import csv
import io
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from scratchgan.errors import UserError
from scratchgan.files import PART, reason, replace_file, sync_folder, to_json, writing
from scratchgan.training.checkpoint import entries
from scratchgan.training.config import FORMAT, check

CONFIG, METRICS, SAMPLES, CHECKPOINTS = "config.json", "metrics.csv", "samples", "checkpoints"
EVALUATIONS = "evaluations.jsonl"
OWN_COLUMNS = "step", "epoch", "images_per_second", "seconds"  # of metrics.csv, which every run has


class Taken(UserError):
    """The folder for a new run holds one already."""


class RunFolder:
    """A run's folder, made with `create` or found with `open`. Only one process at a time can train in it.

    config  the contents of config.json: "recipe" (a name, or None for networks of one's own), "settings" (of the
            recipe), "weights_seed", "seed" (of the order of the data), "batch_size", "steps", "log_every",
            "sample_every", "checkpoint_every", "keep", "flip", "drop_last", "facts" (of the data, that the recipe
            learned), "panels" (the charts), "data" {"name", "source", "sha256", "size", "shape"}, "device", "dtype",
            "threads" (of the BLAS), "ranks" (how many), "sync_bn", "tf32", "versions", "blas",
            "evaluation" (`Evaluation.record`, or None); see `config`
    """

    def __init__(self, path, config):
        self.path, self.config = Path(path), config
        self.samples, self.checkpoints = self.path / SAMPLES, self.path / CHECKPOINTS
        self.metrics, self.evaluated = self.path / METRICS, self.path / EVALUATIONS
        self._lock = None

    @classmethod
    def create(cls, path, config):
        """A new run. `UserError` if one is there already or it cannot be written; then nothing is left behind."""
        check_free(path)
        folder = cls(path, {"format": FORMAT, **config})
        undo = []

        def make(each):
            if not each.is_dir():
                with suppress(FileExistsError):  # another process makes it just now
                    each.mkdir()
                    undo.append(each.rmdir)
        with writing("a run to", path):
            try:
                for each in (*reversed(folder.path.parents), folder.path):
                    make(each)
                folder.lock()
                check_free(path)  # again: until the lock was ours another process may have begun a run
                make(folder.samples)
                make(folder.checkpoints)
                undo.append((folder.path / CONFIG).unlink)
                folder.write_config()
            except Taken:  # what we have made so far, the other one uses
                folder.close()
                raise
            except BaseException:
                folder.close()
                for remove in reversed(undo):
                    with suppress(OSError):
                        remove()
                raise
        return folder

    @classmethod
    def open(cls, path, lock=True):
        """The run in a folder. With `lock`, to train: `UserError` if a process is training in it now."""
        file = Path(path) / CONFIG
        try:
            config = json.loads(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"There is no run in {path} (it has no {CONFIG}): give the folder that a training "
                            "wrote.") from None
        except OSError as error:
            raise UserError(f"Cannot read {file}: {reason(error)}.") from error
        except ValueError as error:
            raise UserError(f"{file} is damaged ({error}): put the original back.") from error
        config = check(config, file)
        folder = cls(path, config)
        if lock:
            folder.lock()
        return folder

    def lock(self):
        """Keep other processes from training here; the system ends the lock with the process, however it ends."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise Taken(f"Another process is training in {self.path}: wait for it or stop it.") from None
        except OSError:  # a file system without locks
            self.close()

    def make(self):
        """The folders inside that are missing."""
        with writing("a run to", self.path):
            for each in (self.samples, self.checkpoints):
                each.mkdir(exist_ok=True)

    def clean(self):
        """Remove what a killed process left: files that were to take the place of others."""
        with writing("to", self.path):
            for place in (self.path, self.samples):
                for left in entries(place):
                    if re.fullmatch(rf"\..*\.[0-9a-f]{{8}}{re.escape(PART)}", left.name) and left.is_file():
                        left.unlink(missing_ok=True)

    def close(self):
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_config(self):
        with writing("a run to", self.path):
            replace_file(self.path / CONFIG, to_json(self.config))

    # -- metrics.csv -----------------------------------------------------------------------------------------

    def append(self, row):
        """Add a row. The first one of a file writes the names above it; a name that comes later adds a column."""
        with writing("the metrics to", self.metrics), open(self.metrics, "a+", newline="") as file:
            file.seek(0)
            names = file.readline().strip().split(",")
            if set(row) <= set(names):
                file.write(table([row], names, header=False))
                return
        self.write_metrics([*self.rows(), row])

    def write_metrics(self, rows):
        with writing("the metrics to", self.metrics):
            replace_file(self.metrics, table(rows, columns(rows)).encode() if rows else b"")

    def sync_metrics(self):
        """Wait until the disk has the rows, so that no checkpoint is ahead of them."""
        if self.metrics.exists():
            with writing("the metrics to", self.metrics):
                with open(self.metrics, "ab") as file:
                    os.fsync(file.fileno())
                sync_folder(self.path)

    def rows(self):
        """The rows of metrics.csv up to the first that is not whole, as a killed process may leave the last one.

        `UserError` if its columns are not those of a run, as where a spreadsheet has put other separators.
        """
        try:
            text = self.metrics.read_bytes().decode("utf-8-sig", "replace")  # a spreadsheet may put a mark before it
        except FileNotFoundError:
            return []
        lines = [line.rstrip("\r") for line in text.split("\n")[:-1]]  # what follows the last line feed is torn
        if not lines:
            return []
        names, rows = lines[0].split(","), []
        if names[0] != "step":
            raise UserError(f"{self.metrics} is not as a run writes it, its first line is {lines[0][:60]!r}: put the "
                            "original back.")
        for line in lines[1:]:
            cells = line.split(",")
            try:
                row = {name: int(cell) if name in ("step", "epoch") or cell.isdecimal() else float(cell)
                       for name, cell in zip(names, cells, strict=True) if cell}
            except ValueError:
                break
            if "step" not in row:
                break
            rows.append(row)
        return rows

    def cut(self, step, log_every):
        """Take away the rows after `step`, and one of an interval that was not over. Returns those that stay."""
        rows = [row for row in self.rows() if row["step"] <= step and row["step"] % log_every == 0]
        if self.metrics.exists():
            self.write_metrics(rows)
        return rows

    # -- evaluations.jsonl -----------------------------------------------------------------------------------

    def write_evaluations(self, rows):
        with writing("the evaluations to", self.evaluated):
            replace_file(self.evaluated, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def evaluations(self):
        """The rows of evaluations.jsonl up to the first that is not whole; `UserError` if it cannot be read."""
        try:
            lines = self.evaluated.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"Cannot read {self.evaluated}: {reason(error)}.") from error
        rows = []
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                break
            rows.append(row)
        return rows


def columns(rows):
    """The names in all rows; one that not all have stands behind the one that it follows where it is."""
    names = []
    for row in rows:
        place = 0
        for name in row:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    return names


def table(rows, names, header=True):
    """Rows as the text of metrics.csv; a cell stays empty where a row has no such number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def check_free(path):
    """`UserError` if `path` is a file or holds a run."""
    path = Path(path)
    try:
        for each in (path, *path.parents):
            if each.exists() and not each.is_dir():
                raise UserError(f"Cannot write a run to {path}: {each} is a file; choose another --out.")
        used = (path / CONFIG).exists() or (path / METRICS).exists() or entries(path / CHECKPOINTS)
    except OSError as error:
        raise UserError(f"Cannot write a run to {path}: {reason(error)}; choose another --out.") from error
    if used:
        raise Taken(f"{path} already holds a run: choose another --out, or continue it with --resume {path} "
                    "(`fit` with resume=True).")
