"""Sums over the rows of a matrix."""


def row_sums(dy, out=None):
    """CuPy's own sum: one kernel, where a product needs a vector of ones."""
    return dy.sum(axis=0, out=out)
