"""The settings of recipes as options: `scratchgan train mlp --z-dim 32`, and `scratchgan train mlp --help`."""

import argparse

from scratchgan.errors import UserError
from scratchgan.settings import FLAG, option

PLACE = "setting "  # before the name of a setting among the parsed options, where it is out of the way of others


def add_recipe(parser, help, optional=False):
    """RECIPE, the options of all recipes, and --help, which shows those of the recipe that stands before it."""
    from scratchgan import recipes
    parser.add_argument("-h", "--help", action=Help, help="show this help, after RECIPE with the settings of that "
                                                          "recipe, and exit")
    parser.add_argument("recipe", metavar="RECIPE", nargs="?" if optional else None, help=help)
    every = {}
    for name in recipes.names():
        for shared, settings in by_option(recipes.get(name)).items():
            every.setdefault(shared, settings[0].kind is FLAG)
    for name, flag in every.items():
        more = {"action": argparse.BooleanOptionalAction} if flag else {"metavar": "VALUE"}
        parser.add_argument(option(name), dest=PLACE + name, default=None, help=argparse.SUPPRESS, **more)


def by_option(recipe):
    """{name of an option without its dashes: the settings of the recipe that it sets}."""
    options = {}
    for setting in recipe.settings:
        for name in (setting.shared, setting.name):
            if name:
                options.setdefault(name, []).append(setting)
    return options


class Help(argparse.Action):
    """--help."""

    def __init__(self, *names, **settings):
        super().__init__(*names, nargs=0, **{**settings, "dest": argparse.SUPPRESS})

    def __call__(self, parser, options, *_):
        if options.recipe is not None:
            from scratchgan import recipes
            show_settings(parser, recipes.get(options.recipe))
        parser.print_help()
        parser.exit()


def show_settings(parser, recipe):
    from scratchgan.gan import assemble
    own = parser.add_argument_group(f"settings of {recipe.name}")
    game = parser.add_argument_group("objective and parts of the game, of any recipe of a game")
    of_games = {setting.name for setting in assemble.SETTINGS}
    hidden = {action.dest: action for action in parser._actions}
    for name, settings in by_option(recipe).items():
        action, setting = hidden[PLACE + name], settings[0]
        action.help = about(setting) if setting.name == name else "sets " + ", ".join(map(option_of, settings))
        action.metavar = setting.kind.metavar
        parser._optionals._group_actions.remove(action)
        (game if name in of_games else own)._group_actions.append(action)


def option_of(setting):
    return option(setting.name)


def about(setting):
    """What it does, and its default."""
    return f"{setting.help} (default: {as_text(setting.default)})"


def as_text(value):
    if isinstance(value, tuple | list):
        return ",".join(map(as_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def given(options):
    """{name: text or flag} of the settings that were given."""
    return {name.removeprefix(PLACE): value for name, value in vars(options).items()
            if name.startswith(PLACE) and value is not None}


def settings_of(recipe, options):
    """{name: value} for `Recipe.build` of the settings that were given; `UserError` for what the recipe has not."""
    known, values = by_option(recipe), {}
    if options.channels is not None and len(recipe.channels) < 2:
        makes = {(): "no images", (1,): "grey images only", (3,): "colour images only"}[recipe.channels]
        raise UserError(f"recipe {recipe.name} makes {makes}: leave --channels out")
    for name, value in given(options).items():
        if name not in known:
            names = ", ".join(option(each) for each in known) or "none"
            raise UserError(f"recipe {recipe.name} has no setting {option(name)}, its settings are {names}: leave "
                            f"{option(name)} out")
        values[name] = parsed(known[name][0].kind, option(name), value)
    refuse_without_effect(recipe, values)
    return values


def refuse_without_effect(recipe, values):
    """`UserError` for a setting that was given without the one that it needs, or a schedule of nothing."""
    every = {setting.name: values.get(setting.name, values.get(setting.shared, setting.default))
             for setting in recipe.settings}
    for setting in recipe.settings:
        for needed in setting.needs if every[setting.name] != setting.default else ():
            names = needed if isinstance(needed, tuple) else (needed,)
            if all(every[name] in (0, "constant") for name in names):
                so = " and ".join(f"{option(name)} is {as_text(every[name])}" for name in names)
                raise UserError(f"{option_of(setting)} has no effect while {so}: give "
                                f"{' or '.join(map(option, names))}, too, or leave {option_of(setting)} out")
    scheduled = [setting for setting in recipe.settings if "schedule" in setting.needs and setting.idle is not None]
    if ("schedule" in values and every["schedule"] != "constant" and scheduled
            and all(every[setting.name] == setting.idle for setting in scheduled)):
        idle = ", ".join(f"{option_of(setting)} {as_text(setting.idle)}" for setting in scheduled)
        raise UserError(f"--schedule {every['schedule']} has no effect while nothing changes ({idle}): give one of "
                        "these, too, or leave --schedule out")


def parsed(kind, name, text):
    """The value of an option; `UserError` where it is none."""
    if isinstance(text, bool):
        return text
    try:
        value = kind.parse(text)
    except (ValueError, KeyError):
        value = None
    if value is None or not kind.allows(value):
        raise UserError(f"{name} must be {kind.words}, not {text!r}")
    return value
