"""Measures of samples: pure functions of arrays on the host."""
