"""scratchgan: generative adversarial networks from scratch, on NumPy and CuPy."""
