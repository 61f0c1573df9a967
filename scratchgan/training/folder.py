"""The folder of a run: everything that training writes.

    RUN/config.json                    what was trained, how, on which data, with which versions
    RUN/metrics.csv                    a row per log interval
    RUN/samples/step-00000600.png      pictures, written by callbacks
    RUN/checkpoints/step-00000600/     see `checkpoint`
"""

import csv
import io
import json
import os
from contextlib import suppress
from pathlib import Path

from scratchgan.errors import UserError
from scratchgan.files import PART, reason, replace_file, sync_folder, to_json, writing

FORMAT = 1
CONFIG, METRICS, SAMPLES, CHECKPOINTS = "config.json", "metrics.csv", "samples", "checkpoints"
REQUIRED = ("format", "recipe", "settings", "seed", "batch_size", "steps", "log_every", "checkpoint_every", "keep",
            "flip", "data", "device", "dtype", "threads", "versions", "blas")


class RunFolder:
    """A run's folder, made with `create` or found with `open`. Only one process at a time can train in it.

    config  the contents of config.json: "recipe" (a name, or None for networks of one's own), "settings" (of the
            recipe), "weights_seed", "seed" (of the order of the data), "batch_size", "steps", "log_every",
            "sample_every", "checkpoint_every", "keep", "flip", "data" {"name", "source", "sha256", "size",
            "shape"}, "device", "dtype", "threads" (of the BLAS), "versions", "blas"
    """

    def __init__(self, path, config):
        self.path, self.config = Path(path), config
        self.samples, self.checkpoints = self.path / SAMPLES, self.path / CHECKPOINTS
        self.metrics = self.path / METRICS
        self._lock = None

    @classmethod
    def create(cls, path, config):
        """A new run. `UserError` if one is there already or it cannot be written; then nothing is left behind."""
        check_free(path)
        folder = cls(path, {"format": FORMAT, **config})
        wanted = [*reversed(folder.path.parents), folder.path, folder.samples, folder.checkpoints]
        undo = []
        with writing("a run to", path):
            try:
                for each in wanted:
                    if not each.is_dir():
                        each.mkdir()
                        undo.append(each.rmdir)
                folder.lock()
                check_free(path)  # again: until the lock was ours another process may have begun a run
                undo.append((folder.path / CONFIG).unlink)
                folder.write_config()
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
            missing = [key for key in REQUIRED if key not in config]
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"There is no run in {path} (it has no {CONFIG}): give the folder that a training "
                            "wrote.") from None
        except OSError as error:
            raise UserError(f"Cannot read {file}: {reason(error)}.") from error
        except (ValueError, TypeError) as error:
            raise UserError(f"{file} is damaged ({error}): put the original back.") from error
        if missing:
            raise UserError(f"{file} is not the {CONFIG} of a run: it lacks {', '.join(missing)}.")
        if config["format"] != FORMAT:
            raise UserError(f"{file} has format {config['format']}, this version of scratchgan reads {FORMAT}: "
                            "use the version that wrote it.")
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
            raise UserError(f"Another process is training in {self.path}: wait for it or stop it.") from None
        except OSError:  # a file system without locks
            self.close()

    def clean(self):
        """Remove what a killed process left: files that were to take the place of others."""
        with writing("to", self.path):
            for place in (self.path, self.samples):
                for left in place.glob(f".*.{'[0-9a-f]' * 8}{PART}"):
                    if left.is_file():
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
        """Add a row; the first one of a file writes the names above it."""
        text = io.StringIO()
        with writing("the metrics to", self.metrics), open(self.metrics, "a+", newline="") as file:
            file.seek(0)
            header = file.readline().strip()
            names = header.split(",") if header else list(row)
            writer = csv.DictWriter(text, names, lineterminator="\n")
            if not header:
                writer.writeheader()
            elif set(names) != set(row):
                raise UserError(f"{self.metrics} has the columns {header}, but this system reports {','.join(row)}: "
                                "continue with the version that wrote it.")
            writer.writerow(row)
            file.write(text.getvalue())

    def sync_metrics(self):
        """Wait until the disk has the rows, so that no checkpoint is ahead of them."""
        if self.metrics.exists():
            with writing("the metrics to", self.metrics):
                with open(self.metrics, "ab") as file:
                    os.fsync(file.fileno())
                sync_folder(self.path)

    def rows(self):
        """The rows of metrics.csv up to the first that is not whole, as a killed process may leave the last one."""
        try:
            text = self.metrics.read_bytes().decode("ascii", "replace")
        except FileNotFoundError:
            return []
        lines = text.split("\n")[:-1]  # what follows the last line feed is torn
        if not lines:
            return []
        names, rows = lines[0].split(","), []
        for line in lines[1:]:
            cells = line.split(",")
            try:
                row = {name: int(cell) if name in ("step", "epoch") else float(cell)
                       for name, cell in zip(names, cells, strict=True)}
            except ValueError:
                break
            rows.append(row)
        return rows

    def cut(self, step, log_every):
        """Take away the rows after `step`, and one of an interval that was not over. Returns those that stay."""
        rows = [row for row in self.rows() if row["step"] <= step and row["step"] % log_every == 0]
        if self.metrics.exists():
            text = io.StringIO()
            if rows:
                writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            with writing("the metrics to", self.metrics):
                replace_file(self.metrics, text.getvalue().encode())
        return rows


def check_free(path):
    """`UserError` if `path` is a file or holds a run."""
    path = Path(path)
    try:
        for each in (path, *path.parents):
            if each.exists() and not each.is_dir():
                raise UserError(f"Cannot write a run to {path}: {each} is a file; choose another --out.")
        used = (path / CONFIG).exists() or (path / METRICS).exists() or any((path / CHECKPOINTS).glob("*"))
    except OSError as error:
        raise UserError(f"Cannot write a run to {path}: {reason(error)}; choose another --out.") from error
    if used:
        raise UserError(f"{path} already holds a run: choose another --out, or continue it with --resume {path}.")
