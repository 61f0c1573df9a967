"""IDX files for the tests of data."""


def idx_bytes(array):
    """An IDX file of unsigned bytes, written independently of the reader under test."""
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + b"".join(n.to_bytes(4, "big") for n in array.shape)
        + array.tobytes()
    )
