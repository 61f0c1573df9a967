"""The samplers by name: points of the plane, and stacked digits."""

import numpy as np
import pytest

from scratchgan import data, recipes
from scratchgan.cli import datasets
from scratchgan.data.toys import BLOCK, TOYS


@pytest.mark.parametrize("name", TOYS)
def test_points_are_a_function_of_seed_and_number(name):
    source, again = data.load(name), data.load(name)
    assert source.name == name and source.size is None and source.sample_shape == (2,) and source.classes == 0
    first, labels = source.take(range(3 * BLOCK), 7)
    assert first.dtype == np.float32 and labels is None and len(np.unique(first, axis=0)) == len(first)
    for start, stop in ((BLOCK - 3, 2 * BLOCK + 5), (0, 1), (BLOCK, BLOCK), (17, 81)):
        assert np.array_equal(again.take(range(start, stop), 7)[0], first[start:stop])
    assert not np.array_equal(again.take(range(64), 8)[0], first[:64])
    batch = source.batches(64, 7).batch(0)[0]
    batch[...] = 0  # a new array: the block that it came from stays as it is
    assert np.array_equal(source.batches(64, 7).batch(0)[0], first[:64])
    assert source.sha256 == again.sha256 and source.record()["source"] == source.description


def test_the_sets_differ():
    assert len({TOYS[name]().sha256 for name in TOYS}) == len(TOYS)


@pytest.mark.parametrize("name, k, radius", [("ring8", 8, 1), ("grid25", 25, 4)])
def test_mixtures_have_even_modes_of_their_sigma(name, k, radius):
    source = data.load(name)
    centres, sigma = np.array(source.modes["centres"]), source.modes["sigma"]
    assert centres.shape == (k, 2) and source.facts()["modes"] == source.modes
    assert np.abs(centres).max() == radius
    points = source.take(range(20_000))[0]
    off = points[:, None] - centres
    nearest = (off**2).sum(axis=-1).argmin(axis=1)
    assert np.abs(np.bincount(nearest) - 20_000 / k).max() < 5 * np.sqrt(20_000 / k)
    noise = off[np.arange(len(off)), nearest] / sigma
    assert np.abs(noise.mean(axis=0)).max() < 0.03 and np.abs(np.cov(noise.T) - np.eye(2)).max() < 0.05


def test_the_spiral_lies_about_its_arm():
    source = data.load("spiral")
    assert source.modes is None
    points = source.take(range(5000))[0]
    radius, angle = np.hypot(*points.T), np.arctan2(points[:, 1], points[:, 0]) % (2 * np.pi)
    arms = 4 * (angle[:, None] + 2 * np.pi * np.arange(3)) / (4 * np.pi)  # r on each turn, and past the end
    assert (np.abs(radius[:, None] - arms).min(axis=1) < 0.4).mean() > 0.99 and 3.5 < radius.max() < 4.5


def test_stacked_digits(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("SCRATCHGAN_DATA", str(tiny.write(tmp_path / "data")))
    source = data.load("stacked")
    digits = tiny.arrays["train-images-idx3-ubyte"]
    labels = tiny.arrays["train-labels-idx1-ubyte"].astype(int)
    assert source.sample_shape == (3, 5, 5) and source.size is None and source.classes == 1000
    images, numbers = source.take(range(200), 3)
    assert images.dtype == np.uint8 and images.flags.c_contiguous and numbers.dtype == np.int64
    rows = np.array([[(digits == channel).all(axis=(1, 2)).argmax() for channel in image] for image in images])
    assert np.array_equal(digits[rows], images) and np.array_equal(numbers, labels[rows] @ [100, 10, 1])
    assert len(np.unique(rows, axis=0)) > 120  # of 216
    for channel in rows.T:
        assert set(channel) == set(range(6))
    part, of_part = source.take(range(50, 60), 3)
    assert np.array_equal(part, images[50:60]) and np.array_equal(of_part, numbers[50:60])
    assert source.origin.endswith(f"from {tmp_path / 'data'}") and source.sha256 != data.load("mnist", size=5).sha256
    assert ("stacked", f"three digits of MNIST, in {tmp_path / 'data'}") in data.find()


def test_stacked_without_mnist_says_how_to_get_it(tmp_path):
    with pytest.raises(data.mnist.DownloadError, match="MNIST was not found"):
        data.load("stacked", tmp_path, timeout=0.1)


def test_a_run_s_samplers_are_found_again(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("SCRATCHGAN_DATA", str(tiny.write(tmp_path / "data")))
    sources = [data.load(name) for name in ("stacked", *TOYS)]
    monkeypatch.delenv("SCRATCHGAN_DATA")
    for source in sources:
        found = datasets.of_run({"data": source.record()})
        assert found.record() == source.record()
    with pytest.raises(data.UserError, match="stacked has images of 3 channels: leave --channels out"):
        datasets.of_recipe(recipes.get("dcgan28"), "stacked", tmp_path / "data", channels=1)
