"""From settings, as recipes and the command line have them, to the parts of a game."""

from scratchgan import settings
from scratchgan.errors import UserError
from scratchgan.gan import augmentation, objectives
from scratchgan.gan.augmentation import InstanceNoise
from scratchgan.gan.game import Game
from scratchgan.gan.penalties import WeightDecay
from scratchgan.gan.updates import Clip, Ema

N_CRITIC = settings.Setting("n_critic", 1, "steps of the discriminator for each one of the generator",
                            settings.whole(1))
SIMULTANEOUS = settings.Setting("simultaneous", False, "both gradients from one state, not G's after D's update",
                                settings.FLAG)
# What every recipe of a game has; where its source has another default: dataclasses.replace(setting, default=...).
SETTINGS = (objectives.OBJECTIVE, N_CRITIC, SIMULTANEOUS, *InstanceNoise.SETTINGS, *WeightDecay.SETTINGS,
            *Clip.SETTINGS, *Ema.SETTINGS)


def augmentations(chosen):
    return (InstanceNoise(chosen.instance_noise, chosen.instance_noise_steps),) if chosen.instance_noise else ()


def seen_shape(chosen, sample_shape):
    """The shape of a sample as the discriminator sees it, which its network must take."""
    return augmentation.seen_shape(augmentations(chosen), sample_shape)


def game(generator, discriminator, optimizer_g, optimizer_d, chosen, *, scale_d=1.0, **more):
    """The `Game` of these networks with the parts that the settings ask for.

    chosen   a namespace that has at least the names in SETTINGS
    scale_d  of the objective
    more     further arguments of `Game`
    """
    return Game(generator, discriminator, objective(chosen, discriminator, scale_d), optimizer_g, optimizer_d,
                n_critic=chosen.n_critic, simultaneous=chosen.simultaneous, augmentation=augmentations(chosen),
                penalties=[WeightDecay(chosen.weight_decay_d)] if chosen.weight_decay_d else (),
                updates_d=[Clip(chosen.clip)] if chosen.clip else (),
                updates_g=[Ema(generator, chosen.ema)] if chosen.ema else (), **more)


def objective(chosen, discriminator, scale_d=1.0):
    """The row of the table; `UserError` if it is for another kind of scores than the discriminator's."""
    row = objectives.get(chosen.objective, scale_d)
    gives = getattr(discriminator, "score", None)
    if (row.score == "energy") != (gives == "energy"):
        needs = "an energy" if row.score == "energy" else "a score, not an energy"
        raise UserError(f"objective {row.name} needs a discriminator that gives {needs}: choose another one.")
    return row
