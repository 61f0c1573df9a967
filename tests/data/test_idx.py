import gzip

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from scratchgan.data.idx import TYPES, decompress, parse_idx, read_bytes
from scratchgan.errors import UserError

CONTENT = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])
ARRAY = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)

arrays = hnp.arrays(
    hnp.unsigned_integer_dtypes(endianness="=", sizes=[8]),
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=0),
)


def packed(content):
    """gzip without the time of day: the tests' names are the same in every process of pytest-xdist."""
    return gzip.compress(content, mtime=0)


def read_idx(path, shape=None):
    """A file as MNIST's are read."""
    return parse_idx(decompress(read_bytes(path), path), path, shape)


@pytest.mark.parametrize("pack", [bytes, packed], ids=["plain", "gzip"])
def test_reads_plain_and_compressed_whatever_the_name(tmp_path, pack):
    for name in ("data", "data.gz"):
        (tmp_path / name).write_bytes(pack(CONTENT))
        array = read_idx(tmp_path / name, shape=(2, 3))
        assert array.dtype == np.uint8 and np.array_equal(array, ARRAY)
        array[0, 0] = 9  # the caller's own


@given(array=arrays)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_round_trip(array):
    header = b"\0\0\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    read = parse_idx(header + array.tobytes(), "it")
    assert read.shape == array.shape and np.array_equal(read, array)


@pytest.mark.parametrize("code", TYPES)
def test_every_type_is_read_as_big_endian(code):
    values = np.array([1, -2 if code != 8 else 2, 3]).astype(TYPES[code])
    content = bytes([0, 0, code, 1, 0, 0, 0, 3]) + values.astype(values.dtype.newbyteorder(">")).tobytes()
    read = parse_idx(content, "it")
    assert read.dtype == values.dtype and read.dtype.isnative and np.array_equal(read, values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\0\0", "is not an IDX file"),
        (b"\x89PNG\r\n", "is not an IDX file: it begins with the bytes 89 50 4e 47"),
        (b"\0\0\x07" + CONTENT[3:], "is not an IDX file"),
        (CONTENT[:7], "cut off within its header"),
        (CONTENT[:-1], r"is cut off: its header tells of shape \(2, 3\), 18 bytes in all, and it has 17"),
        (CONTENT + b"\0", "is too long"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "is cut off"),
        (packed(CONTENT)[:-4], "damaged or incomplete gzip"),
        (packed(CONTENT)[:12], "damaged or incomplete gzip"),
        (b"\x1f\x8b", "damaged or incomplete gzip"),
        (b"\x1f\x8b" + b"junk" * 9, "damaged or incomplete gzip"),
        (packed(CONTENT)[:-8] + bytes(8), "damaged or incomplete gzip"),
        (packed(b""), "is empty"),
    ],
)
def test_refuses_and_names_the_file(tmp_path, content, message):
    path = tmp_path / "some-file.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_refuses_the_wrong_shape(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(CONTENT)
    with pytest.raises(UserError, match=r"shape \(2, 3\), where \(3, 2\) is wanted"):
        read_idx(path, shape=(3, 2))


def test_refuses_what_cannot_be_opened(tmp_path):
    with pytest.raises(UserError, match="nothing cannot be read: No such file"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read_idx(tmp_path)
