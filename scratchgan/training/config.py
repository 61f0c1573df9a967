"""What config.json holds, and whether it holds it."""

import numbers

from scratchgan.errors import UserError
from scratchgan.settings import FLAG, Kind, Setting, choice, whole
from scratchgan.training.evaluation import RECORD

FORMAT = 1  # of config.json and of state.json
STEPS = whole(1)
SEED = whole()
TEXT = Kind(str, lambda value: isinstance(value, str), "text")
TABLE = Kind(None, lambda value: isinstance(value, dict), "a table of names")
SECONDS = Kind(float, lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool) and value >= 0,
               "a number, 0 or more")


def _is_shape(value):
    """Of an example; of a pair a list of two shapes."""
    return isinstance(value, list) and all(whole(0).allows(size) or _is_shape(size) for size in value)


SIZES = Kind(None, _is_shape, "a list of sizes")


def optional(kind):
    return Kind(kind.parse, lambda value: value is None or kind.allows(value), f"{kind.words}, or null")


def _is_panel(value):
    if not isinstance(value, dict) or value.keys() != {"title", "metrics", "scale"}:
        return False
    texts = value["title"], value["scale"], *(value["metrics"].values() if TABLE.allows(value["metrics"]) else [None])
    return all(map(TEXT.allows, texts))


PANELS = Kind(None, lambda value: isinstance(value, list) and all(map(_is_panel, value)), "a list of charts")
REQUIRED = {
    "format": whole(), "recipe": optional(TEXT), "settings": TABLE, "seed": SEED, "batch_size": STEPS, "steps": STEPS,
    "log_every": STEPS, "checkpoint_every": STEPS, "keep": STEPS, "flip": FLAG, "data": TABLE, "device": TEXT,
    "dtype": choice("float32", "float64"), "threads": optional(STEPS), "versions": TABLE, "blas": TEXT}
# What came later, or is not in every run.
LATER = {"sample_every": STEPS, "weights_seed": optional(SEED), "facts": TABLE, "panels": PANELS, "drop_last": FLAG,
         "evaluation": RECORD, "sync_bn": FLAG, "tf32": FLAG, "ranks": STEPS}
# What a run has unless something else is asked for; an older config.json lacks some.
DEFAULTS = {"batch_size": 64, "seed": 0, "flip": False, "drop_last": False, "log_every": 100, "sample_every": 1000,
            "checkpoint_every": 1000, "keep": 3, "evaluation": None, "sync_bn": False, "tf32": False, "ranks": 1}
DATA = {"name": TEXT, "source": TEXT, "sha256": TEXT, "size": optional(STEPS), "shape": SIZES}


def check(config, file):
    """The contents of a config.json, with what came later; `UserError` naming what is wrong in the file."""
    if not isinstance(config, dict) or not config.keys() >= REQUIRED.keys():
        missing = [name for name in REQUIRED if not isinstance(config, dict) or name not in config]
        raise UserError(f"{file} is not the config.json of a run: it lacks {', '.join(missing)}.")
    check_format(config, file)
    wrong = first_wrong(config, {**REQUIRED, **LATER}) or first_wrong(config["data"], DATA, of="data.", required=True)
    if wrong:
        raise UserError(f"{file} is damaged: {wrong}; put the original back.")
    return {**config, **{name: value for name, value in DEFAULTS.items() if name not in config}}


def check_format(values, where):
    """`UserError` if the version that wrote this is newer."""
    if values.get("format") != FORMAT and whole().allows(values.get("format")):
        raise UserError(f"{where} has format {values['format']}, this version of scratchgan reads {FORMAT}: use the "
                        "version that wrote it.")


def first_wrong(values, kinds, of="", required=False):
    """"steps is 'many', not a whole number": of the first value that is not of its kind, or None."""
    for name, kind in kinds.items():
        if name not in values:
            if required:
                return f"{of}{name} is missing"
        elif not kind.allows(values[name]):
            return f"{of}{name} is {values[name]!r}, not {kind.words}"
    return None


def steps_per_epoch(config):
    """How many batches an epoch has; None where the data have no end."""
    size, batch_size = config["data"]["size"], config["batch_size"]
    if size is None:
        return None
    return size // batch_size if config["drop_last"] else -(-size // batch_size)


def checked(name, value):
    """What a caller gave, as plain Python; `UserError` if the config cannot hold it under this name."""
    return Setting(name, None, "", {**REQUIRED, **LATER}[name]).checked(value)
