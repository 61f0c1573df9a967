"""From settings, as recipes and the command line have them, to the parts of a game."""

from scratchgan import settings
from scratchgan.errors import UserError
from scratchgan.gan import augmentation, objectives, penalties, updates
from scratchgan.gan.game import Game

N_CRITIC = settings.Setting("n_critic", 1, "steps of the discriminator for each one of the generator",
                            settings.whole(1))
SIMULTANEOUS = settings.Setting("simultaneous", False, "both gradients from one state, not G's after D's update",
                                settings.FLAG)
# The parts that settings can ask for, by the argument of `Game`: a new one has its class in its file, its name here.
PARTS = {
    "augmentation": (augmentation.InstanceNoise,),
    "penalties": (penalties.WeightDecay,),
    "updates_d": (updates.Clip,),
    "updates_g": (updates.Ema,),
}
# What every recipe of a game has; where its source has another default: dataclasses.replace(setting, default=...).
SETTINGS = (objectives.OBJECTIVE, N_CRITIC, SIMULTANEOUS,
            *(setting for kinds in PARTS.values() for kind in kinds for setting in kind.SETTINGS))


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
        return kind(generator, discriminator, objectives.get(chosen.objective, scale_d), optimizer_g, optimizer_d,
                    n_critic=chosen.n_critic, simultaneous=chosen.simultaneous,
                    augmentation=parts("augmentation", chosen), penalties=parts("penalties", chosen),
                    updates_d=parts("updates_d", chosen, discriminator),
                    updates_g=parts("updates_g", chosen, generator), **more)
    except ValueError as error:
        raise UserError(f"These settings do not fit: {error}.") from error
