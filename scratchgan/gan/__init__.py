"""The adversarial part: objectives and the game."""

from scratchgan.gan.game import Game, Metrics
from scratchgan.gan.objectives import Minimax, NonSaturating

__all__ = ["Game", "Metrics", "Minimax", "NonSaturating"]
