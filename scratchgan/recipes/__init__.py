"""Recipes: each a published system, one short file, built by one word.

    game = scratchgan.recipes.get("mlp").build(seed=0, device="cpu")
"""

from scratchgan.errors import UserError
from scratchgan.recipes import dcgan, mlp
from scratchgan.recipes.recipe import Recipe

_RECIPES = {recipe.name: recipe for recipe in (mlp.RECIPE, dcgan.RECIPE28, dcgan.RECIPE64)}


def names():
    return list(_RECIPES)


def get(name):
    """The recipe of this name; `UserError` listing the names if there is none."""
    if name not in _RECIPES:
        raise UserError(f"Unknown recipe {name!r}: choose one of {', '.join(_RECIPES)}.")
    return _RECIPES[name]


__all__ = ["Recipe", "get", "names"]
