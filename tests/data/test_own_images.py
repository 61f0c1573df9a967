"""Fashion-MNIST's files and a folder of photos, from the command line through three recipes as they are."""

import gzip
import json

import numpy as np
import pytest
from command_line import call
from idx_files import idx_bytes
from PIL import Image

NARROW = {"dcgan28": ["--ngf", "2", "--ndf", "2"], "dcgan64": ["--ngf", "2", "--ndf", "2"], "r3gan28": ["--width", "2"]}
SIZES = {"dcgan28": 28, "dcgan64": 64, "r3gan28": 28}


@pytest.fixture
def fashion(tmp_path, rng):
    """The four files of Fashion-MNIST, with fewer images: (folder, how many are for training, channels)."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    for name, n in {"train": 20, "t10k": 6}.items():
        for kind, array in (("images-idx3", rng.integers(0, 256, (n, 28, 28), np.uint8)),
                            ("labels-idx1", rng.integers(0, 10, n, np.uint8))):
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return folder, 20, 1


@pytest.fixture
def photos(tmp_path, rng):
    """Photos as they come: wide and tall ones, JPEG and PNG, a grey one, some half transparent, and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, (height, width) in enumerate([(90, 120), (120, 90), (64, 64), (30, 200)]):
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        picture.save(folder / f"IMG {i}.JPG")
        picture.putalpha(128)
        picture.save(folder / f"{i}.png")
    Image.fromarray(rng.integers(0, 256, (70, 50), np.uint8)).save(folder / "grey.png")
    (folder / "notes.txt").write_text("at the sea")
    return folder, 9, 3


@pytest.mark.parametrize("recipe", NARROW)
@pytest.mark.parametrize("kind", ["fashion", "photos"])
def test_files_and_folders_as_they_are(kind, recipe, request, tmp_path, capsys):
    folder, n, channels = request.getfixturevalue(kind)
    run, size = tmp_path / "run", SIZES[recipe]
    told = call(capsys, "train", recipe, "--data", folder, "--out", run, "--steps", 2, "--batch-size", 4,
                "--device", "cpu", *NARROW[recipe])
    assert f"training {recipe} on {kind}: {n} images {channels}x{size}x{size}" in told
    assert (f"{kind}: passing over 1 of 10 files" in told) == (kind == "photos")
    assert json.loads((run / "config.json").read_text())["data"]["shape"] == [channels, size, size]
    call(capsys, "sample", run, "-n", 3, "--out", tmp_path / "samples.npy")
    samples = np.load(tmp_path / "samples.npy")
    assert samples.shape == (3, channels, size, size) and np.isfinite(samples).all()
    assert channels == 1 or not np.allclose(samples[:, 0], samples[:, 1])
    assert "done: 3 steps" in call(capsys, "train", "--resume", run, "--steps", 3)
