"""What a recipe is."""

from collections.abc import Callable
from dataclasses import dataclass, field

from scratchgan import backend
from scratchgan.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """A system with its published sizes, rates and schedule, each of which can be overridden.

    make      (seed, device, **settings) -> the system
    settings  name -> published value, what `make` takes; a recipe that can make grey images and colour ones has
              "channels" (1 or 3) among them, any other makes grey ones
    epochs    how long the source trains; short data sets are trained for at least `min_steps`
    source    who published it
    small     settings of small networks of the same layers, whose gradients `scratchgan gradcheck` checks in seconds
    """

    name: str
    summary: str
    source: str
    make: Callable
    settings: dict
    batch_size: int
    epochs: int
    min_steps: int = 25_000
    image_size: int = 28
    small: dict = field(default_factory=dict)

    def build(self, seed=0, device="cpu", **overrides):
        """The system, its weights drawn from `seed`, on "cpu", "cuda" or "auto".

        `UserError` for a setting the recipe does not have.
        """
        for key in overrides:
            if key not in self.settings:
                raise UserError(f"Recipe {self.name} has no setting {key!r}: it has {', '.join(self.settings)}.")
        settings = {**self.settings, **overrides}
        if settings.get("channels", 1) not in (1, 3):
            raise UserError(f"Recipe {self.name}: channels must be 1 (grey) or 3 (colour), not "
                            f"{settings['channels']!r}.")
        device = backend.device(device)
        system = self.make(seed=seed, device=device, **settings)
        system.record = {"name": self.name, "seed": seed, "settings": settings}
        return system
