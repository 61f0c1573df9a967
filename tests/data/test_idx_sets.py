"""Data sets in MNIST's format that are not MNIST: Fashion-MNIST, KMNIST, EMNIST, one's own."""

import gzip

import numpy as np
import pytest
from idx_files import idx_bytes
from PIL import Image

import scratchgan
from scratchgan import data, recipes
from scratchgan.data import mnist
from scratchgan.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 28, 28), np.uint8)
LABELS = (np.arange(12) % 5).astype(np.uint8)

NAMES = [("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
         ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
         ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"),
         ("emnist-letters-train-images-idx3-ubyte.gz", "emnist-letters-train-labels-idx1-ubyte.gz"),
         ("my-images.idx", "my-labels.idx"), ("PICTURES.IDX", "KINDS.IDX"), ("x.idx3", "x.idx1"),
         ("digits-images-idx3-ubyte", None)]


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(idx_bytes(array)) if path.suffix == ".gz" else idx_bytes(array))
    return path


@pytest.mark.parametrize("images, labels", NAMES, ids=str)
def test_a_folder_or_the_file_of_its_images(tmp_path, images, labels):
    folder = tmp_path / "set"
    write(folder / images, IMAGES)
    if labels:
        write(folder / labels, LABELS)
    for path in (folder, str(folder / images)):
        found = data.load(path, announce=pytest.fail)
        assert np.array_equal(found.images[:, 0], IMAGES)
        assert found.labels is None if labels is None else found.labels.tolist() == LABELS.tolist()
        assert str(path) in found.origin and images in found.origin and (labels or "no labels") in found.origin
        assert found.sha256 == data.content_sha256(found.images, found.labels)
    if labels:
        with pytest.raises(UserError, match=r"holds an array of shape \(12,\), no images: name the file of the images"):
            data.load(folder / labels)


def test_a_file_that_says_what_it_is_by_its_content_alone(tmp_path):
    assert np.array_equal(data.load(write(tmp_path / "images.bin", IMAGES)).images[:, 0], IMAGES)
    assert np.array_equal(data.load(write(tmp_path / "images.gz", IMAGES)).images[:, 0], IMAGES)


def test_training_and_test_set_in_one_folder(tmp_path):
    for prefix, part in (("t10k", slice(0, 4)), ("train", slice(4, 12))):
        write(tmp_path / f"{prefix}-images-idx3-ubyte.gz", IMAGES[part])
        write(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", LABELS[part])
    train = data.load(tmp_path)
    assert np.array_equal(train.images[:, 0], IMAGES[4:]) and train.labels.tolist() == LABELS[4:].tolist()
    assert data.load(tmp_path / "t10k-images-idx3-ubyte.gz").labels.tolist() == LABELS[:4].tolist()
    write(tmp_path / "train-images-idx3-ubyte", IMAGES[4:])  # decompressed beside it: still one set
    assert len(data.load(tmp_path)) == 8
    write(tmp_path / "other-train-images-idx3-ubyte", IMAGES)
    with pytest.raises(UserError, match=r"several sets of images \(.*\): name the file of one"):
        data.load(tmp_path)


def test_sizes_channels_and_colours(tmp_path):
    write(tmp_path / "grey" / "images.idx", RNG.integers(0, 256, (3, 20, 30), np.uint8))
    write(tmp_path / "colour" / "images.idx", RNG.integers(0, 256, (3, 3, 9, 9), np.uint8))
    write(tmp_path / "last" / "images.idx", RNG.integers(0, 256, (3, 9, 9, 3), np.uint8))
    for name, channels in (("grey", 1), ("colour", 3), ("last", 3)):
        said = []
        assert data.load(tmp_path / name, size=16, channels=None, announce=said.append).images.shape == (
            3, channels, 16, 16)
        assert data.load(tmp_path / name, size=9, channels=4 - channels, announce=said.append).images.shape == (
            3, 4 - channels, 9, 9)
        assert len(said) == 1


def test_a_recipe_trains_on_it(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte.gz", IMAGES)
    game = recipes.get("mlp").build(seed=0)
    scratchgan.fit(game, data.load(tmp_path), steps=2, batch_size=4, announce=pytest.fail)
    assert game.steps == 2


@pytest.mark.parametrize("content, words", [
    (gzip.compress(idx_bytes(IMAGES), mtime=0)[:300], "is a damaged or incomplete gzip file"),
    (idx_bytes(IMAGES)[:300], "is cut off"), (idx_bytes(IMAGES) + b"\0", "is too long"), (b"", "is empty"),
    (b"\1\2\3\4junk", "is not an IDX file"),
    (b"\0\0\x0c\3" + b"\0\0\0\1" * 3 + bytes(4), "int32 images"), (idx_bytes(IMAGES[:0]), r"shape \(0, 28, 28\)")])
def test_damaged_files_are_named(tmp_path, content, words):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    for given in (tmp_path, path):
        with pytest.raises(UserError, match=words) as caught:
            data.load(given)
        assert str(path) in str(caught.value) and "delete" not in str(caught.value)


def test_pictures_beside_a_file_that_is_no_set_of_images(tmp_path):
    Image.new("L", (9, 9), 7).save(tmp_path / "a.png")
    write(tmp_path / "labels-idx1-ubyte", LABELS)
    (tmp_path / "junk.idx").write_bytes(b"junk")
    assert (data.load(tmp_path, announce=None).images == 7).all()
    write(tmp_path / "images-idx3-ubyte", IMAGES)
    assert len(data.load(tmp_path, announce=None)) == 12


def test_labels_that_do_not_fit(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", IMAGES)
    write(tmp_path / "train-labels-idx1-ubyte", LABELS[:5])
    with pytest.raises(UserError, match="5 labels do not fit 12 images"):
        data.load(tmp_path)


# -- under MNIST's names -----------------------------------------------------------------------------------------------


@pytest.fixture
def fashion(tmp_path):
    """Whole files of other images under MNIST's names."""
    for file, (shape, _) in mnist.FILES.items():
        write(tmp_path / "fashion" / f"{file}.gz", np.zeros((len(LABELS), *shape[1:]), np.uint8))
    return tmp_path / "fashion"


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_another_set_in_mnists_place_is_said_to_be_one(fashion, name, compressed):
    if not compressed:
        for path in fashion.iterdir():
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    for attempt in (lambda: data.load(name, fashion), lambda: data.fetch(fashion),
                    lambda: data.load_mnist("test", fashion)):
        with pytest.raises(UserError, match=r"is not MNIST \(its SHA-256 is another: perhaps Fashion-MNIST") as caught:
            attempt()
        words = str(caught.value)
        assert f"give {fashion} as the data" in words and "--data-dir" in words and "delete" not in words
    assert data.load(fashion).images.shape == (12, 1, 28, 28)  # as it was told


def test_sets_of_any_size_are_recognised(tmp_path, monkeypatch):
    """Also those much larger than MNIST, as EMNIST's."""
    monkeypatch.setattr(mnist, "FILES", {file: ((2, *shape[1:]), sha256) for file, (shape, sha256)
                                         in mnist.FILES.items()})
    for file, (shape, _) in mnist.FILES.items():
        write(tmp_path / file, np.zeros((500, *shape[1:]), np.uint8))
    with pytest.raises(UserError, match="is not MNIST"):
        data.load("mnist", tmp_path)


def test_mnists_own_files_with_a_dot_in_their_names(tmp_path, tiny):
    for file, content in tiny.content.items():
        (tmp_path / file.replace("-idx", ".idx")).write_bytes(content)
    found = data.load_mnist("train", tmp_path, download=False)
    assert np.array_equal(found.images[:, 0], tiny.arrays["train-images-idx3-ubyte"])
    assert dict(data.find(tmp_path))["mnist"] == str(tmp_path)
    for path in tmp_path.iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert len(data.load_mnist("test", tmp_path, download=False)) == 3
