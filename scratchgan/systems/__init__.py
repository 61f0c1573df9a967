"""Systems that are no game of two players, trained, saved and drawn by the same commands."""

from scratchgan.systems.classifier import Classifier
from scratchgan.systems.vae import VAE

__all__ = ["VAE", "Classifier"]
