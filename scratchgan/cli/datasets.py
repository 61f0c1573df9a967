"""What a recipe is to learn from, and what a run was trained on, found again."""

import re
from pathlib import Path

from scratchgan import data
from scratchgan.errors import UserError
from scratchgan.system import is_image

NAMED = ("mnist", "digits", "stacked", *data.TOYS)


def of_recipe(recipe, name=None, data_dir=None, channels=None, announce=print, bars=True):
    """The data of this name, or those that the recipe names itself; `UserError` where they do not fit it."""
    name, shape = recipe.data if name in (None, "auto") else name, recipe.facts["shape"]
    if not is_image(shape):
        if name not in data.TOYS:
            raise UserError(f"recipe {recipe.name} learns points of the plane, which {name} are not: leave --data out, "
                            f"or give {', '.join(data.TOYS)}")
        return data.load(name)
    if name in data.TOYS:
        raise UserError(f"recipe {recipe.name} learns images, {name} are points of the plane: give other data, or "
                        f"train the recipe {name}")
    wanted = channels if len(recipe.channels) > 1 else recipe.channels[0]  # None: as many as the data have
    source = data.load(name, data_dir, size=shape[-1], channels=wanted, announce=announce, bars=bars,
                       split=recipe.split)
    if channels not in (None, source.sample_shape[0]):
        raise UserError(f"{name} has images of {source.sample_shape[0]} channels: leave --channels out")
    return source


def of_run(config, name=None, data_dir=None, announce=print, bars=True):
    """The data set that config.json of a run describes; `name` and `data_dir` where it is no longer where it was.

    `UserError` if it cannot be found.
    """
    recorded = config["data"]
    shape, source = recorded["shape"], recorded["source"]
    if (name or recorded["name"]) in data.TOYS:
        return data.load(name or recorded["name"])
    if not is_image(shape) or shape[1] != shape[2]:
        raise UserError(f"the run was trained on {recorded['name']} of shape {tuple(shape)}, which are no images that "
                        "a command can load")
    if name is None:
        if recorded["name"] in NAMED:
            name, data_dir = recorded["name"], data_dir or folder_of_mnist(source)
        else:
            name = path_of(source)
            if name is None:
                raise UserError(f"the data of the run ({recorded['name']}: {source}) are not where they were: say "
                                "with --data where they are")
    return data.load(name, data_dir, size=shape[1], channels=shape[0], announce=announce, bars=bars,
                     split=split_of_mnist(source))


def path_of(source):
    """The path at the beginning of a data set's source, "PATH (what is there)", if it exists."""
    ends = [match.start() for match in re.finditer(r" \(", source)]  # names may have brackets, too
    return next((source[:end] for end in reversed(ends) if Path(source[:end]).exists()), None)


def split_of_mnist(source):
    """Which split a data set is, "MNIST SPLIT set (...)"; of other data the usual one."""
    match = re.match(r"MNIST (\w+) set \(", source)
    return match[1] if match else "train"


def folder_of_mnist(source):
    """The folder that MNIST was read from, "MNIST ..., from FOLDER", if it exists."""
    match = re.search(r", from (.+?)(, \d+x\d+x\d+ made \d+x\d+x\d+)?$", source)
    return match[1] if match and Path(match[1]).is_dir() else None
