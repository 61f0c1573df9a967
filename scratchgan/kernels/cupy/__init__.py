"""Faster functions for CuPy arrays: none yet, so that the formulas run there."""

from scratchgan.kernels.formulas import Functions

FASTER = Functions()
