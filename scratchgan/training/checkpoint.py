"""Checkpoints: folders that hold a system at one step, whole or not at all.

    step-00000600/generator.safetensors        a file per network: exactly its state dict, PyTorch's keys and layouts
    step-00000600/discriminator.safetensors
    step-00000600/optimizers.safetensors       keys "<optimizer>.<vector>" and "<optimizer>.steps"
    step-00000600/state.json                   {"format", "step", "recipe" (its name or null), "optimizers" {name:
                                               class}, "system" (its state dict), "sha256" {file: digest}, and what
                                               the run adds: "pending" metrics, "seconds"}

A folder is written under a name that starts with a dot, every file and then the folder are synced, the folder is
renamed, and the folder above is synced. So a name `step-...` never holds half a checkpoint, whenever the process or
the machine dies. Reading checks every file against its SHA-256. Nothing is unpickled: JSON and safetensors only.
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scratchgan.errors import UserError
from scratchgan.files import reason, sync, sync_folder, to_json, writing
from scratchgan.settings import Kind, number, whole
from scratchgan.training.config import FORMAT, SECONDS, TABLE, TEXT, check_format, first_wrong, optional
from scratchgan.training.snapshot import Snapshot

METRICS = Kind(None, lambda value: isinstance(value, list) and all(
    isinstance(each, dict) and all(map(number().allows, each.values())) for each in value), "a list of metrics")
STATE_KINDS = {"format": whole(), "step": whole(0), "recipe": optional(TEXT), "optimizers": TABLE, "system": TABLE,
               "sha256": TABLE, "pending": METRICS, "seconds": SECONDS}
STATE, OPTIMIZERS, SUFFIX = "state.json", "optimizers", ".safetensors"


class Damaged(UserError):
    """A checkpoint of which something is missing or changed."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read: `state` is state.json, `arrays` file stem -> {key: array}."""

    path: Path
    state: dict
    arrays: dict = field(repr=False)

    @property
    def step(self):
        return self.state["step"]


def name_of(step):
    return f"step-{step:08d}"


def found(folder):
    """[(step, path), ...] of the checkpoints in a folder, the oldest first; not verified."""
    names = [(re.fullmatch(r"step-(\d{8,})", path.name), path) for path in entries(folder)]
    return sorted((int(match[1]), path) for match, path in names if match and path.is_dir())


def entries(folder):
    """What is in a folder, nothing if there is none; `UserError` if it cannot be read (`Path.glob` would hide that)."""
    try:
        return sorted(Path(folder).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"Cannot read {folder}: {reason(error)}.") from error


# -- writing -------------------------------------------------------------------------------------------------------


def save(folder, system, step, pending=(), seconds=0.0):
    """Write the checkpoint of `step` into `folder`, whole, and return its path.

    `pending` metrics and `seconds` are the run's. `UserError` if it cannot be written: then the folder is as it was.
    """
    target = Path(folder) / name_of(step)
    temporary = target.with_name(f".{target.name}.tmp")
    with writing("the checkpoint", target):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            digests = {}
            for name, data in contents(system):
                (temporary / name).write_bytes(data)
                digests[name] = hashlib.sha256(data).hexdigest()
            state = {"format": FORMAT, "step": step, "recipe": recipe_name(system),
                     "optimizers": kinds(system), "system": system.state_dict(), "sha256": digests,
                     "pending": list(pending), "seconds": seconds}
            (temporary / STATE).write_bytes(to_json(state))
            for name in (*digests, STATE):  # the disk writes them together: faster than one after the other
                sync(temporary / name)
            sync_folder(temporary)
            os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(folder)
    return target


def contents(system):
    """(file name, bytes) of each array file, one after the other so that one at a time is in memory."""
    from safetensors.numpy import save as packed
    for name, network in system.networks.items():
        yield name + SUFFIX, packed({key: in_order(value) for key, value in network.state_dict().items()})
    vectors = {f"{name}.{key}": in_order(value) for name, optimizer in system.optimizers.items()
               for key, value in optimizer.state_dict().items()}
    yield OPTIMIZERS + SUFFIX, packed(vectors)


def in_order(value):
    """Rows one after the other, as safetensors stores them (np.ascontiguousarray would make 0-d arrays 1-d)."""
    return np.array(value, order="C", copy=None)


def recipe_name(system):
    return (system.record or {}).get("name")


def kinds(system):
    return {name: type(optimizer).__name__ for name, optimizer in system.optimizers.items()}


def prune(folder, keep, spared=None):
    """Remove all but the newest `keep` checkpoints and the one of the step `spared`."""
    with writing("to", folder):
        for path in [path for step, path in found(folder)[:-keep] if step != spared]:
            away = path.with_name(f".{path.name}.old")  # renamed first, so that none is ever half there
            os.rename(path, away)
            shutil.rmtree(away)


def clean(folder):
    """Remove what a killed process left in a run's folder of checkpoints: unfinished and half removed ones."""
    with writing("to", folder):
        for path in entries(folder):
            if path.name.startswith(".step-"):
                shutil.rmtree(path)


# -- reading -------------------------------------------------------------------------------------------------------


def read(path):
    """The checkpoint in the folder `path`, every file checked; `Damaged` names what is wrong with it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpacked
    path = Path(path)
    try:
        state = json.loads(content(path, STATE))
    except ValueError as error:
        raise Damaged(f"{path / STATE} is damaged ({error})") from error
    if not isinstance(state, dict):
        raise Damaged(f"{path / STATE} is damaged: it is no table of names")
    check_format(state, path)
    wrong = first_wrong(state, STATE_KINDS, required=True)
    if wrong:
        raise Damaged(f"{path / STATE} is damaged: {wrong}")
    arrays = {}
    for name, digest in state["sha256"].items():
        data = content(path, Path(name).name)
        actual = hashlib.sha256(data).hexdigest()
        if actual != digest:
            raise Damaged(f"{path / name} is damaged: its SHA-256 is {actual[:12]}..., not {str(digest)[:12]}... as "
                          "recorded")
        try:
            arrays[name.removesuffix(SUFFIX)] = unpacked(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise Damaged(f"{path / name} is damaged: {error}") from error
    return Checkpoint(path, state, arrays)


def content(path, name):
    try:
        return (path / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Damaged(f"{path / name} is missing") from None
    except OSError as error:
        raise UserError(f"Cannot read {path / name}: {reason(error)}.") from error


def newest(folder, announce):
    """The newest checkpoint that is whole, and the paths of damaged ones that are newer; (None, []) if there is none.

    Says so in one line if it is not the newest; `UserError` if all are damaged.
    """
    damaged, first = [], None
    for _, path in reversed(found(folder)):
        try:
            checkpoint = read(path)
        except Damaged as error:
            if not path.exists():  # a training that goes on removed it meanwhile, and has written a newer one
                return newest(folder, announce)
            damaged.append(path)
            first = first or error
            continue
        if damaged:
            announce(f"{first}; using the checkpoint of step {checkpoint.step} instead.")
        return checkpoint, damaged
    if damaged:
        raise UserError(f"{first}, and there is no older checkpoint that is whole: start the run again.")
    return None, []


def set_aside(paths):
    """Rename damaged checkpoints, so that they do not count and the run can write these steps again."""
    for path in paths:
        with writing("to", path.parent):
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(path, aside)


def restore(checkpoint, system):
    """Put a checkpoint into a system, on the system's device; `UserError`, and no change, if it does not fit."""
    here, there = recipe_name(system), checkpoint.state["recipe"]
    if here != there:
        raise UserError(f"{checkpoint.path} is a checkpoint of {named(there)}, not of {named(here)}: build the "
                        "system that wrote it.")
    before = Snapshot().take(system)
    try:
        load_into(checkpoint, system)
    except (ValueError, TypeError, KeyError) as error:
        before.restore(system)
        raise UserError(f"{checkpoint.path} does not fit this system ({error}): build the system that wrote "
                        "it.") from error


def named(recipe):
    return f"recipe {recipe}" if recipe else "networks without a recipe"


def load_into(checkpoint, system):
    arrays = dict(checkpoint.arrays)
    vectors = arrays.pop(OPTIMIZERS, {})
    for what, here, there in (("networks", sorted(system.networks), sorted(arrays)),
                              ("optimizers", kinds(system), checkpoint.state["optimizers"])):
        if here != there:
            raise ValueError(f"its {what} are {there}, the system's are {here}")
    for name, network in system.networks.items():
        for key, value in network.state_dict().items():
            if key in arrays[name] and arrays[name][key].dtype != value.dtype:
                raise ValueError(f"{name}: {key!r} is {arrays[name][key].dtype}, expected {value.dtype}")
        network.load_state_dict(arrays[name])
    for name, optimizer in system.optimizers.items():
        own = {key.removeprefix(f"{name}."): value for key, value in vectors.items() if key.startswith(f"{name}.")}
        optimizer.load_state_dict(own)
    system.load_state_dict(checkpoint.state["system"])
