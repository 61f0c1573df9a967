"""Adversarial games: the alternating step, and the parts that a game is made of."""

from scratchgan.gan.game import Game
from scratchgan.gan.latent import Latent
from scratchgan.gan.objectives import Minimax, NonSaturating
from scratchgan.gan.points import PointGame
from scratchgan.system import Metrics

__all__ = ["Game", "Latent", "Metrics", "Minimax", "NonSaturating", "PointGame"]
