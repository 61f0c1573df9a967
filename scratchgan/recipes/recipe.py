"""What a recipe is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

from scratchgan import backend
from scratchgan.errors import UserError
from scratchgan.schedules import settled
from scratchgan.settings import Setting, checked, plain, whole, wholes
from scratchgan.system import is_image

SEED = Setting("seed", 0, "of all random numbers", whole())
# What facts may be; others, of a source of one's own, may be anything.
FACTS = {"shape": wholes(), "classes": whole(0)}


@dataclass(frozen=True)
class Recipe:
    """A system with its published sizes, rates and schedule, each of which can be overridden.

    make         (settings, facts) -> the system, on the CPU; both have the values as attributes. `build` has it draw
                 its weights and move (`System.initialize`)
    settings     a tuple of `Setting`, the published values as defaults
    facts        name -> value without data, of what `make` knows of the data: see `Source.facts`. "shape", that of
                 one example, is among them
    channels     of the images it can make: 1 (grey), 3 (colour); () where it makes none
    value_range  of the system
    epochs       how long the source trains; short data sets are trained for at least `min_steps`
    steps        the published number of steps, where the source counts these, in place of epochs
    grows        whether the system itself, not only its rates, depends on the share of `decay_steps` that is done
    data         what it learns from where nothing else is asked for: a name for `scratchgan.data.load`
    split        of MNIST, where that is what it learns from: see `scratchgan.data.load_mnist`
    source       who published it
    small        settings of small networks of the same layers, whose gradients `scratchgan gradcheck` checks in seconds
    """

    name: str
    summary: str
    source: str
    make: Callable
    settings: tuple
    batch_size: int
    epochs: int = 0
    min_steps: int = 25_000
    steps: int | None = None
    facts: Mapping = field(default_factory=lambda: {"shape": (1, 28, 28)})
    channels: tuple = (1,)
    value_range: tuple | None = (-1, 1)
    data: str = "auto"
    split: str = "train"
    grows: bool = False
    small: Mapping = field(default_factory=dict)

    def __repr__(self):
        return f"Recipe {self.name}: {self.summary}"

    def build(self, seed=0, device="cpu", facts=None, *, channels=None, steps=None, **settings):
        """The system, its weights drawn from `seed`, on "cpu", "cuda" or "auto".

        facts      of the data, by name; those left out are the recipe's own
        channels   of its images, in place of that of the fact "shape"
        steps      of the run that it is built for, over which decays what has no decay_steps of its own; by default
                   the source's `steps`, or else `min_steps`
        settings   by name; `UserError` for one that the recipe does not have
        """
        seed, of = SEED.checked(seed, f"Recipe {self.name}"), f"Recipe {self.name}"
        settings = settled(checked(self.settings, settings, of), steps or self.default_steps(),
                           self.grows)
        facts = self.checked_facts(facts or {}, channels)
        device = backend.device(device)
        system = self.make(SimpleNamespace(**settings), SimpleNamespace(**facts)).initialize(seed, device)
        system.record = {"name": self.name, "seed": seed, "settings": settings, "facts": facts}
        return system

    def default_steps(self, steps_per_epoch=None):
        """The source's `steps`, or its epochs, or `min_steps` if that is more or the data (None) have no end."""
        return self.steps or max(self.epochs * (steps_per_epoch or 0), self.min_steps)

    def examples(self, settings):
        """How many examples a step takes: `batch_size` is what D judges, and a pack of m is judged as one."""
        return self.batch_size * (settings or {}).get("pack", 1)

    def checked_facts(self, facts, channels=None):
        for name, value in facts.items():
            if name not in self.facts:
                raise UserError(f"Recipe {self.name} asks for no fact {name!r}: it knows {', '.join(self.facts)}.")
            if name in FACTS and not FACTS[name].allows(value):
                raise UserError(f"Recipe {self.name}: the fact {name} must be {FACTS[name].words}, not {value!r}.")
        facts = {name: plain(value) for name, value in {**self.facts, **facts}.items()}
        usual, shape = tuple(self.facts["shape"]), facts["shape"]
        if channels is not None and is_image(usual):
            shape = facts["shape"] = (plain(channels), *shape[1:])
        free = 1 if is_image(usual) else 0  # the channels, of which below
        if shape[free:] != usual[free:] or len(shape) != len(usual):
            hint = ("load the data in that shape (data.load has size= and channels=)" if free
                    else f"give it such data, as data.load({self.data!r}) does")
            raise UserError(f"Recipe {self.name} takes examples of shape {usual}, not {shape}: {hint}.")
        if is_image(usual) and shape[0] not in self.channels:
            allowed = " or ".join({1: "1 (grey)", 3: "3 (colour)"}[count] for count in self.channels)
            raise UserError(f"Recipe {self.name}: channels must be {allowed}, not {shape[0]!r}.")
        return facts

    def learn(self, source):
        """What it asks of the data."""
        known = source.facts()
        missing = [name for name in self.facts if name not in known]
        if missing:
            raise UserError(f"Recipe {self.name} needs {missing[0]} of the data, which {source.name} does not tell: "
                            "give it other data.")
        return {name: plain(known[name]) for name in self.facts}

    def as_recorded(self, config):
        """(facts, settings) of a run's config.json; before there were facts, the shape was the data's."""
        settings = {name: value for name, value in config["settings"].items() if name != "channels"}
        facts = config.get("facts") or {"shape": config["data"]["shape"]}
        return self.checked_facts(facts), settings
