"""Recipes: each a published system, one short file, built by one word.

    game = scratchgan.recipes.get("mlp").build(seed=0, device="cpu")
"""

import difflib
import importlib

from scratchgan.errors import UserError
from scratchgan.recipes.recipe import Recipe

# The files of this folder that have RECIPES, in the order in which they are listed.
FAMILIES = ("mlp", "goodfellow", "dcgan", "wasserstein", "ebgan", "cgan", "progressive", "r3gan", "vae", "classifier",
            "toys")
_RECIPES = {recipe.name: recipe for family in FAMILIES
            for recipe in importlib.import_module(f"scratchgan.recipes.{family}").RECIPES}


def names():
    return list(_RECIPES)


def get(name):
    """The recipe of this name; `UserError` listing the names if there is none."""
    if name not in _RECIPES:
        near = difflib.get_close_matches(str(name), _RECIPES, 1)
        meant = f"did you mean {near[0]}? It is" if near else "choose"
        raise UserError(f"Unknown recipe {name!r}: {meant} one of {', '.join(_RECIPES)}.")
    return _RECIPES[name]


__all__ = ["Recipe", "get", "names"]
