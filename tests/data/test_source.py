"""Sources and their batches: what they give, and that it depends on the seed and the step alone."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgan import backend, random
from scratchgan.data import Dataset
from scratchgan.data.batches import share
from scratchgan.data.dataset import FloatArray, as_source
from scratchgan.data.source import Facts, Pair, Sampler, Source
from scratchgan.errors import UserError
from scratchgan.system import scaled


def images(n, shape=(1, 2, 3), labels=True, seed=0):
    """n different images."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (n, *shape), np.uint8)
    values[:, 0, 0, 0] = np.arange(n)
    return Dataset.of("mine", values, np.arange(n) % 4 if labels else None, "made up")


class Points(Sampler):
    """Points about the origin."""

    name, description, sample_shape, classes = "points", "points: N(0, 1) in the plane", (2,), 2

    def draw(self, n, seed, first):
        points = random.normal((n, 2), seed, "points", first=first)
        return points, (points[:, 0] > 0).astype(np.int64)


class Strokes(Sampler):
    """Images of noise."""

    name, description, sample_shape = "strokes", "uint8 noise", (1, 4, 4)

    def draw(self, n, seed, first):
        return (random.uniform((n, 1, 4, 4), seed, "strokes", first=first) * 256).astype(np.uint8), None


SOURCES = {"images": images(23), "unlabelled": images(23, labels=False), "points": Points(), "strokes": Strokes(),
           "floats": as_source(np.linspace(-1, 1, 46).reshape(23, 2)), "pair": Pair(images(23), images(9, (3, 5, 5))),
           "with a sampler": Pair(images(9), Strokes())}


def arrays(batch):
    """All arrays of a batch, in a tuple."""
    examples, labels = batch
    return (*examples,) if isinstance(examples, tuple) else (examples, *([] if labels is None else [labels]))


@given(name=st.sampled_from(list(SOURCES)), batch_size=st.integers(1, 9), step=st.integers(0, 60),
       seed=st.integers(0, 9), ranks=st.integers(1, 5), drop_last=st.booleans())
def test_the_parts_of_all_ranks_are_the_batch_of_one(name, batch_size, step, seed, ranks, drop_last):
    source = SOURCES[name]
    flip = name not in ("points", "floats")
    def batches():
        return source.batches(batch_size, seed, flip, drop_last)
    whole = arrays(batches().batch(step))
    parts = [arrays(batches().batch(step, rank, ranks)) for rank in range(ranks)]
    for i, array in enumerate(whole):
        joined = np.concatenate([part[i] for part in parts])
        assert joined.dtype == array.dtype and np.array_equal(joined, array)
    sizes = [len(part[0]) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(batch_size=st.integers(1, 30), seed=st.integers(0, 3), epoch=st.integers(0, 5), drop_last=st.booleans())
def test_an_epoch_visits_every_image_once(batch_size, seed, epoch, drop_last):
    data = images(23)
    if drop_last and batch_size > 23:
        with pytest.raises(UserError, match=f"mine has 23 examples, fewer than the batch size {batch_size}"):
            data.batches(batch_size, seed, drop_last=True)
        return
    batches = data.batches(batch_size, seed, drop_last=drop_last)
    count = batches.steps_per_epoch
    assert count == data.steps_per_epoch(batch_size, drop_last) == (23 // batch_size if drop_last
                                                                    else -(-23 // batch_size))
    found = [batches.batch(epoch * count + i) for i in range(count)]
    sizes = [len(examples) for examples, _ in found]
    assert sizes[:-1] == [batch_size] * (count - 1) and sum(sizes) == (count * batch_size if drop_last else 23)
    seen = np.concatenate([examples for examples, _ in found])
    numbers = seen[:, 0, 0, 0]
    assert len(set(numbers)) == len(numbers)
    assert np.array_equal(seen, data.images[numbers])
    assert np.array_equal(np.concatenate([labels for _, labels in found]), data.labels[numbers])


def test_batches_come_in_any_order_and_without_memory():
    batches = images(23).batches(5, 1)
    forwards = [batches.batch(step)[0] for step in range(12)]
    assert all(np.array_equal(batches.batch(step)[0], forwards[step]) for step in (11, 3, 0, 7, 7))
    orders = [forwards[i][:, 0, 0, 0].tolist() for i in (0, 5)]
    assert orders[0] != orders[1]  # of two epochs
    assert not np.array_equal(forwards[0], images(23).batches(5, 2).batch(0)[0])


def test_half_of_the_images_are_mirrored():
    data = images(400)
    plain, flipped = (data.batches(400, 3, flip).batch(0)[0] for flip in (False, True))
    mirrored = (flipped == plain[..., ::-1]).all(axis=(1, 2, 3))
    same = (flipped == plain).all(axis=(1, 2, 3))
    assert (mirrored | same).all() and 150 < mirrored.sum() < 250
    assert np.array_equal(data.images, images(400).images)  # the source is as it was
    for source in (Points(), SOURCES["floats"]):
        with pytest.raises(UserError, match="only images can be mirrored, not examples of shape"):
            source.batches(4, flip=True)


def test_a_sampler_gives_each_number_its_example_whatever_the_batch():
    points = Points()
    assert points.batches(5).steps_per_epoch is points.size is None
    first = np.concatenate([points.batches(5, 7).batch(step)[0] for step in range(6)])
    assert np.array_equal(first, np.concatenate([points.batches(6, 7).batch(step)[0] for step in range(5)]))
    assert np.array_equal(first[12:17], points.take(range(12, 17), 7)[0])
    assert len(np.unique(first, axis=0)) == 30
    assert not np.array_equal(first[:5], points.batches(5, 8).batch(0)[0])
    examples, labels = points.examples(9, 7)
    assert np.array_equal(examples, first[:9]) and labels.tolist() == (first[:9, 0] > 0).tolist()
    assert points.record() == {"name": "points", "source": "points: N(0, 1) in the plane", "size": None, "shape": [2],
                               "sha256": points.sha256}
    assert len(points.sha256) == 64 and points.sha256 != Strokes().sha256
    assert dict(points.facts()) == {"name": "points", "shape": [2], "classes": 2, "size": None, "modes": None}


def test_a_pair_is_two_sets_without_a_common_order():
    """Also where both have one size, and where they are one set."""
    one = images(40)
    pair = Pair(one, one)
    batches = pair.batches(8, 2)
    assert batches.steps_per_epoch == pair.steps_per_epoch(8) == 5
    (a, b), labels = batches.batch(0)
    assert labels is None and a.shape == b.shape == (8, 1, 2, 3) and not np.array_equal(a, b)
    assert np.array_equal(a, one.batches(8, 2).batch(0)[0])
    unequal = Pair(images(23), images(9, (3, 5, 5), seed=1))
    batches = unequal.batches(4)
    assert batches.steps_per_epoch == 5
    for step in range(11):  # the shorter begins again, and both are whole
        a, b = batches.batch(step)[0]
        assert len(a) == len(b) == 4
    assert unequal.sample_shape == ((1, 2, 3), (3, 5, 5)) and unequal.size == 23
    assert unequal.sha256 not in (pair.sha256, Pair(unequal.second, unequal.first).sha256)
    assert [len(each) for each in unequal.examples(5)[0]] == [5, 5]
    with pytest.raises(UserError, match="mine has 9 examples, fewer than the batch size 10"):
        unequal.batches(10)


def test_examples_are_drawn_at_random_and_always_the_same():
    data = images(50)
    some, labels = data.examples(20)
    numbers = some[:, 0, 0, 0]
    assert len(set(numbers)) == 20 and list(numbers) != sorted(numbers)
    assert np.array_equal(labels, data.labels[numbers])
    assert np.array_equal(some, data.examples(20)[0]) and not np.array_equal(some, data.examples(20, 1)[0])
    assert len(data.examples(80)[0]) == 50


def test_facts_are_computed_when_they_are_asked_for_and_recorded_as_json():
    data = images(6, (3, 4, 4))
    facts = data.facts()
    assert set(facts) == {"name", "shape", "classes", "size", "modes", "pixel_means"} and len(facts) == 6
    assert {name: facts[name] for name in ("shape", "classes", "size")} == {"shape": [3, 4, 4], "classes": 4, "size": 6}
    np.testing.assert_allclose(facts["pixel_means"], (data.images / 255).mean(axis=0), rtol=1e-14)
    again = Facts(json.loads(json.dumps(dict(facts))))
    assert dict(again) == dict(facts)
    calls = []
    lazy = Facts({"slow": lambda: calls.append(1) or 3})
    assert calls == [] and lazy["slow"] == lazy["slow"] == 3 and calls == [1]
    assert images(6, labels=False).facts()["classes"] == 0
    assert np.allclose(SOURCES["floats"].facts()["pixel_means"], 0, atol=0.05)


def test_arrays_are_sources():
    pixels = images(5).images
    assert as_source(images(5)).name == "mine" and isinstance(as_source(pixels), Dataset)
    floats = as_source(pixels / 255, (0, 1))
    assert isinstance(floats, FloatArray) and floats.images.dtype == np.float32 and floats.classes == 0
    assert isinstance(as_source((pixels, floats)), Pair)
    assert as_source(np.array([[3e5, -7]]), None).sample_shape == (2,)
    for array, value_range, words in (
            (pixels / 127.5 - 1, (0, 1), "values from 0 to 1: scale it"),
            (pixels / 200, (0, 1), "values from 0 to 1: scale it"),
            (pixels * np.nan, (0, 1), "NaN or infinite"), (pixels + np.inf, None, "NaN or infinite"),
            (pixels.astype(int), (-1, 1), "from -1 to 1, not int64 of shape"),
            (np.zeros(3), None, "not float64 of shape"),
            ([1, 2], (-1, 1), "must be a data set, another Source or a NumPy array, not list"),
            ((pixels, None), (-1, 1), "not NoneType")):
        with pytest.raises(UserError, match=words):
            as_source(array, value_range)


@pytest.mark.parametrize("whole", [np.int64, np.int32, np.uint8, np.uint64])
def test_whole_numbers_of_any_type(whole):
    for source in (images(23), Points()):
        expected = source.batches(5, 3).batch(4, 1, 2)
        got = source.batches(whole(5), whole(3)).batch(whole(4), whole(1), whole(2))
        assert all(map(np.array_equal, got, expected))
        assert source.batches(whole(5)).steps_per_epoch == source.batches(5).steps_per_epoch
    json.dumps(images(23).batches(whole(5)).steps_per_epoch)
    batches = Points().batches(whole(200))  # more than a byte holds
    assert np.array_equal(batches.batch(whole(100))[0], Points().take(range(20000, 20200))[0])


@pytest.mark.parametrize("bad", [0, -1, 2.5, "3", None, True])
def test_batch_sizes_that_are_none(bad):
    with pytest.raises(UserError, match="batch_size must be a whole number, 1 or more"):
        images(3).batches(bad)


@pytest.mark.parametrize("rank, ranks", [(1, 1), (-1, 2), (2, 2), (0, 0)])
def test_ranks_that_are_none(rank, ranks):
    with pytest.raises(ValueError, match="rank must be"):
        images(3).batches(2).batch(0, rank, ranks)
    with pytest.raises(ValueError, match="rank must be"):
        share(10, rank, ranks)


def test_what_is_not_defined_says_so():
    for kind, words in ((Source, "Mine does not define take"), (Sampler, "Mine does not define draw")):
        mine = type("Mine", (kind,), {"sample_shape": (2,)})()
        with pytest.raises(NotImplementedError, match=words):
            mine.batches(3).batch(0)
    with pytest.raises(TypeError, match="take them from its first and its second"):
        SOURCES["pair"].take(range(3))


@pytest.mark.parametrize("value_range", [(-1, 1), (0, 1), (-0.5, 2)])
def test_scaled(value_range, device):
    low, high = value_range
    x = backend.to_device(np.arange(256, dtype=np.uint8), device)
    y = scaled(x, value_range)
    assert backend.device_of(y) == device and scaled(y, value_range) is y and scaled(x, None) is x
    x, y = map(backend.to_host, (x, y))
    assert y.dtype == np.float32 and y[0] == low and y[-1] == pytest.approx(high, abs=1e-6)
    np.testing.assert_allclose(y, low + x / 255 * (high - low), atol=1e-6)
    if value_range == (-1, 1):
        assert np.array_equal(y, np.multiply(x, np.float32(2 / 255), dtype=np.float32) - 1)
