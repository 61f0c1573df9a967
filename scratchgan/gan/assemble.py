"""From settings, as the command line and recipes have them, to the parts of a game."""

from scratchgan import settings
from scratchgan.errors import UserError
from scratchgan.gan import objectives
from scratchgan.gan.augmentation import InstanceNoise
from scratchgan.gan.penalties import WeightDecay
from scratchgan.gan.updates import Clip, Ema

N_CRITIC = settings.Setting("n_critic", 1, "D's steps for each one of G's", settings.whole(1))
SIMULTANEOUS = settings.Setting("simultaneous", False, "both gradients from one state, instead of G after D",
                                settings.FLAG)
# Every recipe of a game has these; where its source has another default: dataclasses.replace(setting, default=...).
SETTINGS = (objectives.OBJECTIVE, N_CRITIC, SIMULTANEOUS, *InstanceNoise.SETTINGS, *WeightDecay.SETTINGS,
            *Clip.SETTINGS, *Ema.SETTINGS)
DEFAULTS = {setting.name: setting.default for setting in SETTINGS}


def augmentation(values):
    """What D sees, by the settings: the networks are built for `seen_shape(augmentation(values), sample_shape)`."""
    chosen = DEFAULTS | values
    sigma = chosen["instance_noise"]
    return (InstanceNoise(sigma, chosen["instance_noise_steps"]),) if sigma else ()


def parts(values, generator, discriminator, scale_d=1.0):
    """Keyword arguments of `Game` for settings, {name: value}; what is not there is as by default.

    `UserError` where parts do not fit each other or the networks.
    """
    chosen = DEFAULTS | values
    objective = objectives.get(chosen["objective"], scale_d)
    gives = getattr(discriminator, "score", None)
    if (objective.score == "energy") != (gives == "energy"):
        needs = "an energy" if objective.score == "energy" else "a score, not an energy"
        raise UserError(f"objective {objective.name} needs a discriminator that gives {needs}: choose another one.")
    if chosen["instance_noise_steps"] and not chosen["instance_noise"]:
        raise UserError("instance_noise_steps says how fast instance_noise falls, which is 0: give that, too.")
    return {
        "objective": objective,
        "n_critic": chosen["n_critic"],
        "simultaneous": chosen["simultaneous"],
        "augmentation": augmentation(chosen),
        "penalties": (WeightDecay(chosen["weight_decay_d"]),) if chosen["weight_decay_d"] else (),
        "updates_d": (Clip(chosen["clip"]),) if chosen["clip"] else (),
        "updates_g": (Ema(generator, chosen["ema"]),) if chosen["ema"] else (),
    }
