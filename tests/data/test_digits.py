from importlib import resources

import numpy as np
import pytest

from scratchgan.data import load_digits
from scratchgan.data.digits import build, enlarge
from scratchgan.errors import UserError

SHA256 = "4d9ee91119b3e718b572759fae3b16f4b97cd1bb2afba6a2ef5c9207dc964092"


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def stored():
    bundled = resources.files("scratchgan.data").joinpath("digits.npz")
    with bundled.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"]


def test_is_the_published_test_set(digits):
    assert len(digits) == 1797 and digits.images.shape == (1797, 1, 28, 28)
    # optdigits.names, "No of examples in testing set", for 0 to 9
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert "Alpaydin" in digits.origin and "10.24432/C50P49" in digits.origin and "CC BY 4.0" in digits.origin


def test_stored_values_are_the_published_ones():
    images, labels = stored()
    assert images.shape == (1797, 8, 8) and images.dtype == labels.dtype == np.uint8
    assert images.min() == 0 and images.max() == 16
    first = "0,0,5,13,9,1,0,0,0,0,13,15,10,15,5,0,0,3,15,2,0,11,8,0,0,4,12,0,0,8,8,0,"
    first += "0,5,8,0,0,9,8,0,0,4,11,0,1,12,7,0,0,2,14,5,10,12,0,0,0,0,6,13,10,0,0,0"
    assert images[0].reshape(-1).tolist() == [int(value) for value in first.split(",")] and labels[0] == 0
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797


def test_is_the_same_on_every_machine(digits):
    assert digits.sha256 == SHA256
    assert load_digits().sha256 == SHA256


def test_looks_like_digits(digits):
    images = digits.images[:, 0].astype(float) / 255
    assert 0.15 < images.mean() < 0.25  # mostly background
    assert (images < 0.02).mean() > 0.6 and (images > 0.98).mean() > 0.05  # black and white are reached
    margin = np.ones((28, 28), bool)
    margin[2:-2, 2:-2] = False
    assert images[:, margin].max() < 0.2 and images[:, :, :1].max() == 0
    assert np.abs(np.diff(images, axis=2)).max() < 0.8  # smooth: blocks would step from 0 to 1


def test_means_of_the_classes_tell_the_digits_apart(digits):
    x, y = digits.images.reshape(1797, -1).astype(float), digits.labels
    means = np.stack([x[:1000][y[:1000] == k].mean(0) for k in range(10)])
    nearest = ((x[1000:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == y[1000:]).mean() > 0.85  # the labels belong to these images


def test_enlarging_keeps_black_white_and_symmetry():
    flat = np.zeros((3, 8, 8), np.uint8)
    flat[1] = 16
    flat[2, 3:5, 3:5] = 16
    black, white, dot = enlarge(flat)[:, 0]
    assert black.max() == 0
    assert (white[6:-6, 6:-6] == 255).all()
    assert np.array_equal(dot, dot.T) and np.array_equal(dot, dot[::-1]) and dot[14, 14] == 255
    assert dot[:8].max() == 0  # no rings


def test_sizes_and_channels():
    coloured = load_digits(size=32, channels=3).images
    assert coloured.shape == (1797, 3, 32, 32)
    assert np.array_equal(coloured[:, 0], coloured[:, 1]) and np.array_equal(coloured[:, 0], coloured[:, 2])
    assert np.array_equal(coloured[:, :1], load_digits(size=32).images)
    for size, channels in ((0, 1), (28.0, 1), (True, 1), (28, 2), (10**6, 1)):
        with pytest.raises(UserError, match="not "):
            load_digits(size, channels)


def test_build_packs_the_text_file_exactly(tmp_path):
    images, labels = stored()
    rows = [",".join(map(str, [*image.reshape(-1), label])) for image, label in zip(images[:50], labels)]
    (tmp_path / "optdigits.tes").write_text("\n".join(rows) + "\n")
    for name in ("one.npz", "two.npz"):
        build(tmp_path / "optdigits.tes", tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as arrays:
        assert np.array_equal(arrays["images"], images[:50]) and np.array_equal(arrays["labels"], labels[:50])
