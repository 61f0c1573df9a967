"""Arrays in .npy and .npz files."""

import pickle

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchgan.data import load_path
from scratchgan.data.arrays import load_array, to_nchw, to_uint8
from scratchgan.errors import UserError

RNG = np.random.default_rng(1)
GREY = RNG.integers(0, 256, (5, 28, 28), np.uint8)
COLOUR = RNG.integers(0, 256, (5, 28, 28, 3), np.uint8)


@pytest.mark.parametrize(
    ("array", "channels"),
    [
        (GREY, 1),
        (GREY[..., None], 1),
        (GREY[:, None], 1),
        (COLOUR, 3),
        (COLOUR.transpose(0, 3, 1, 2), 3),
        (np.asfortranarray(COLOUR), 3),
    ],
)
def test_layouts(tmp_path, array, channels):
    np.save(tmp_path / "mine.npy", array)
    data = load_array(tmp_path / "mine.npy", channels=channels)
    assert np.array_equal(data.images, GREY[:, None] if channels == 1 else COLOUR.transpose(0, 3, 1, 2))
    assert data.labels is None and data.name == "mine.npy" and str(tmp_path.resolve()) in data.origin


@pytest.mark.parametrize("image_key", ["images", "x_train", "x", "data", "anything"])
@pytest.mark.parametrize("label_key", ["labels", "y_train", "y", None])
def test_keys(tmp_path, image_key, label_key):
    arrays = {image_key: GREY}
    if label_key:
        arrays[label_key] = np.arange(5, dtype=np.uint8)[:, None]
    if image_key == "anything" and label_key:
        arrays = {"images": GREY, label_key: arrays[label_key], "x_test": GREY[:2], image_key: GREY}
    np.savez(tmp_path / "mine.npz", **arrays)
    data = load_path(tmp_path / "mine.npz")
    assert np.array_equal(data.images[:, 0], GREY)
    assert data.labels is None if label_key is None else data.labels.tolist() == [0, 1, 2, 3, 4]


@given(
    images=hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, ">f4"]),
    symmetric=st.booleans(),
)
@settings(max_examples=100)
def test_floats_give_the_bytes_they_came_from(images, dtype, symmetric):
    values = images / 127.5 - 1 if symmetric else images / 255
    images[0, 0, 0], values[0, 0, 0] = (0, -1.0) if symmetric else (0, 0.0)  # the range shows in the data
    read, told = to_uint8(values.astype(dtype), "it")
    assert np.array_equal(read, images) and told == f", values in {'[-1, 1]' if symmetric else '[0, 1]'}"


def test_the_range_is_told_and_rounding_beyond_it_forgiven(tmp_path):
    np.save(tmp_path / "a.npy", (GREY / 255).astype(np.float32) * np.float32(1.0000002))
    np.save(tmp_path / "b.npy", GREY / 127.5 - 1)
    for name, told in (
        ("a.npy", "float32 of shape (5, 28, 28), values in [0, 1]"),
        ("b.npy", "values in [-1, 1]"),
    ):
        data = load_array(tmp_path / name)
        assert np.array_equal(data.images[:, 0], GREY) and told in data.origin


def test_arrays_are_fitted(tmp_path):
    np.save(tmp_path / "flat.npy", np.full((2, 40, 60, 3), 77, np.uint8))
    for channels in (1, 3):
        images = load_array(tmp_path / "flat.npy", size=32, channels=channels).images
        assert images.shape == (2, channels, 32, 32) and (images == 77).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 4, 4), np.nan), "NaN or infinite"),
        (np.full((2, 4, 4), np.inf), "NaN or infinite"),
        (GREY.astype(np.float32), "floats from 0 to 255"),
        (np.linspace(-1.1, 1, 32).reshape(2, 4, 4), "floats from -1.1 to 1"),
        (GREY.astype(np.int64), "int64 images"),
        (GREY > 9, "bool images"),
        (GREY.astype(complex), "complex128 images"),
        (np.full((2, 4, 4), "a"), "<U1 images"),
        (GREY[0], r"shape \(28, 28\)"),
        (GREY.reshape(5, 784), r"shape \(5, 784\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"shape \(2, 4, 4, 4\)"),
        (np.zeros((0, 4, 4), np.uint8), r"shape \(0, 4, 4\)"),
        (np.zeros((2, 0, 4), np.uint8), r"shape \(2, 0, 4\)"),
        (np.uint8(3), r"shape \(\)"),
    ],
)
def test_refuses_arrays(tmp_path, array, message):
    np.save(tmp_path / "mine.npy", array)
    with pytest.raises(UserError, match=message) as caught:
        load_array(tmp_path / "mine.npy")
    assert str(tmp_path / "mine.npy") in str(caught.value)


def test_both_layouts_at_once_are_read_as_channels_first():
    assert to_nchw(np.zeros((2, 1, 5, 3), np.uint8), "it").shape == (2, 1, 5, 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(4), "4 labels do not fit 5 images"),
        (np.arange(5.0), "labels of float64"),
        (np.eye(5, dtype=int), r"labels of int64 of shape \(5, 5\)"),
        (-np.arange(5), "0 or more"),
    ],
)
def test_refuses_labels(tmp_path, labels, message):
    np.savez(tmp_path / "mine.npz", images=GREY, labels=labels)
    with pytest.raises(UserError, match=message):
        load_array(tmp_path / "mine.npz")


class Trap:
    """Unpickling this leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


def test_nothing_is_ever_unpickled(tmp_path):
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung)], object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=trap)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(trap))
    for name in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(UserError, match="not a NumPy file of plain numbers"):
            load_array(tmp_path / name)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works


def test_files_that_are_no_arrays(tmp_path):
    np.save(tmp_path / "good.npy", GREY)
    np.savez(tmp_path / "good.npz", images=GREY)
    for suffix in (".npy", ".npz"):
        whole = (tmp_path / f"good{suffix}").read_bytes()
        path = tmp_path / f"bad{suffix}"
        for content in (b"", b"junk", whole[: len(whole) // 2], whole[:7], whole[:-1]):
            path.write_bytes(content)
            with pytest.raises(UserError, match=r"not a NumPy file|cannot be read") as caught:
                load_array(path)
            assert str(path) in str(caught.value) and "allow_pickle" not in str(caught.value)
    with pytest.raises(UserError, match=r"none\.npy cannot be read: No such file"):
        load_array(tmp_path / "none.npy")
    np.savez(tmp_path / "keys.npz", a=GREY, b=GREY)
    with pytest.raises(UserError, match="holds a, b: call the images one of images, x_train, x, data"):
        load_array(tmp_path / "keys.npz")
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(UserError, match="holds nothing"):
        load_array(tmp_path / "empty.npz")


def test_a_damaged_zip_member_is_told(tmp_path):
    np.savez_compressed(tmp_path / "mine.npz", images=GREY)
    content = bytearray((tmp_path / "mine.npz").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(UserError, match="not a NumPy file of plain numbers"):
        load_array(tmp_path / "mine.npz")
