"""From settings, as recipes and the command line have them, to the parts of a game."""

from dataclasses import replace

from scratchgan.errors import UserError
from scratchgan.gan import augmentation, generator_penalties, objectives, penalties, unrolled, updates
from scratchgan.gan.game import Game
from scratchgan.settings import FLAG, Setting, whole

N_CRITIC = Setting("n_critic", 1, "steps of the discriminator for each one of the generator", whole(1))
SIMULTANEOUS = Setting("simultaneous", False, "both gradients from one state, not G's after D's update", FLAG)
# The parts that settings can ask for, by the argument of `Game`: a new one has its class in its file, its name here.
PARTS = {
    "augmentation": (augmentation.Pack, augmentation.InstanceNoise),
    "penalties": (penalties.WeightDecay, penalties.ZeroCentred, penalties.GradientPenalty),
    "penalties_g": (generator_penalties.Diversity, generator_penalties.PullAway),
    "unrolled": (unrolled.Unrolled,),
    "updates_d": (updates.Clip,),
    "updates_g": (updates.GradientScaling, updates.Ema),
}
# What every recipe of a game has; where its source has another default: `settings(name=default)`.
SETTINGS = (objectives.OBJECTIVE, objectives.SMOOTHING, objectives.DRIFT, N_CRITIC, SIMULTANEOUS,
            *(setting for kinds in PARTS.values() for kind in kinds for setting in kind.SETTINGS))


def settings(**defaults):
    """SETTINGS with other defaults for some."""
    unknown = set(defaults) - {setting.name for setting in SETTINGS}
    if unknown:
        raise ValueError(f"no setting of games is called {', '.join(sorted(unknown))}")
    return tuple(replace(setting, default=defaults.get(setting.name, setting.default)) for setting in SETTINGS)


def parts(argument, chosen, network=None):
    """The parts of one kind that the settings ask for; `network` is the player whose updates they follow."""
    made = [kind.of(chosen, network) for kind in PARTS[argument]]
    return tuple(part for part in made if part is not None)


def seen_shape(chosen, sample_shape):
    """The shape of a sample as the discriminator sees it, which its network must take."""
    return augmentation.seen_shape(parts("augmentation", chosen), sample_shape)


def game(generator, discriminator, optimizer_g, optimizer_d, chosen, *, scale_d=1.0, kind=Game, **more):
    """The `Game` of these networks with the parts that the settings ask for; `UserError` where they do not fit.

    chosen   a namespace that has at least the names in SETTINGS
    scale_d  of the objective
    kind     `Game`, or a class that derives from it
    more     further arguments of that
    """
    try:
        objective = objectives.get(chosen.objective, scale_d, chosen.label_smoothing, chosen.drift)
        return kind(generator, discriminator, objective, optimizer_g, optimizer_d,
                    n_critic=chosen.n_critic, simultaneous=chosen.simultaneous,
                    augmentation=parts("augmentation", chosen), penalties=parts("penalties", chosen),
                    penalties_g=parts("penalties_g", chosen), unrolled=next(iter(parts("unrolled", chosen)), None),
                    updates_d=parts("updates_d", chosen, discriminator),
                    updates_g=parts("updates_g", chosen, generator), **more)
    except ValueError as error:
        raise UserError(f"These settings do not fit: {error}.{in_effect(chosen)}") from error


def in_effect(chosen):
    """In words, the options that are above what leaves them out, whether the user or the recipe has asked for them."""
    used = [f"{setting.option} {getattr(chosen, setting.name):g}" for setting in SETTINGS
            if isinstance(setting.default, int | float) and getattr(chosen, setting.name) > setting.default]
    return f" In effect, by the recipe or as asked for: {', '.join(used)}." if used else ""
