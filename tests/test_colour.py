"""Grey and colour: recipes that can make both, from the data to the samples."""

import json
from math import prod
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import scratchgan
from scratchgan import data, training
from scratchgan.cli import main
from scratchgan.data.pixels import is_colour
from scratchgan.errors import UserError
from scratchgan.gan import Game, Latent, NonSaturating
from scratchgan.layers import Linear, Reshape, Sequential, Tanh
from scratchgan.optimizers import SGD
from scratchgan.recipes import Recipe

pytestmark = pytest.mark.usefixtures("alone", "tint")

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 3, 9, 9), np.uint8)
SIZE = 8
QUIET = ["--steps", "2", "--device", "cpu", "--threads", "1", "--quiet"]


def make(settings, facts):
    size = prod(facts.shape)
    G = Sequential(Linear(4, size), Tanh(), Reshape(*facts.shape))
    D = Sequential(Reshape(-1), Linear(size, 1))
    return Game(G, D, NonSaturating(), SGD(G, 0.1), SGD(D, 0.1), latent=Latent(4), sample_shape=facts.shape)


@pytest.fixture
def tint(monkeypatch):
    """The recipe "tint", which makes 3 channels unless told otherwise."""
    recipe = Recipe(name="tint", summary="for tests", source="none", make=make, settings=(), batch_size=4, epochs=1,
                    min_steps=1, facts={"shape": (3, SIZE, SIZE)}, channels=(1, 3))
    monkeypatch.setitem(scratchgan.recipes._RECIPES, "tint", recipe)
    return recipe


def picture(name, mode="RGB", value=None):
    pixels = COLOUR[0].transpose(1, 2, 0) if value is None else np.full((9, 9, 3), value, np.uint8)
    Path(name).parent.mkdir(exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert("L").convert(mode) if mode not in ("RGB", "RGBA", "P") else image.convert(mode)).save(name)


def made():
    """The shape of what the run of "tint" was trained on, after looking at all that tells it."""
    config = training.RunFolder.open("runs/tint", lock=False).config
    shape = tuple(config["data"]["shape"])
    system = scratchgan.load("runs/tint")
    assert tuple(config["facts"]["shape"]) == shape == system.sample_shape
    assert system.sample(2).shape[1:] == shape
    return shape


@pytest.mark.parametrize("channels", [1, 3])
def test_build_takes_channels(tint, channels):
    system = tint.build(channels=channels)
    assert system.sample_shape == (channels, SIZE, SIZE) and system.record["facts"] == {"shape": (channels, SIZE, SIZE)}
    assert tint.build(facts={"shape": [channels, SIZE, SIZE]}).sample_shape == system.sample_shape
    assert tint.build().sample_shape[0] == 3


@pytest.mark.parametrize("channels", [0, 2, 4, "3"])
def test_build_refuses_other_channels(tint, channels):
    with pytest.raises(UserError, match=rf"Recipe tint: channels must be 1 \(grey\) or 3 \(colour\), not {channels!r}"):
        tint.build(channels=channels)


def test_digits_are_grey_unless_told_otherwise(capsys):
    assert main(["train", "tint", "--data", "digits", *QUIET]) == 0
    assert made() == (1, SIZE, SIZE)
    assert main(["train", "tint", "--data", "digits", "--channels", "3", "--out", "three", *QUIET[:-1]]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "digits: grey images get three equal channels"
    assert "training tint on digits: 1,797 images 3x8x8" in out
    (images,) = np.unique(scratchgan.data.load("digits", size=SIZE, channels=3, announce=None).images.std(axis=1))
    assert images == 0


def test_a_folder_of_colour_images_trains_in_colour_and_comes_back(capsys):
    for i in range(6):
        picture(f"photos/{i}.png", value=None if i == 5 else 40 * i)
    assert main(["train", "tint", "--data", "photos", *QUIET]) == 0
    assert made() == (3, SIZE, SIZE) and capsys.readouterr().out == ""
    assert main(["train", "--resume", "runs/tint", "--steps", "3"]) == 0
    assert "made grey" not in capsys.readouterr().out and made() == (3, SIZE, SIZE)
    for arguments in (["-n", "4", "--out", "a.npy"], ["--real", "-n", "4", "--out", "b.npy"], [], ["--out", "many/"],
                      ["--interpolate", "1", "2", "--out", "walk.gif", "--rows", "1", "--columns", "1"]):
        assert main(["sample", "runs/tint", *arguments]) == 0
    assert np.load("a.npy").shape == np.load("b.npy").shape == (4, 3, SIZE, SIZE)
    with Image.open("runs/tint/sample.png") as grid, Image.open("many/00000.png") as one:
        assert grid.mode == one.mode == "RGB" and one.size == (SIZE, SIZE)


def test_colour_is_made_grey_where_that_is_asked_for_and_said(capsys):
    picture("photos/a.png")
    assert main(["train", "tint", "--data", "photos", "--channels", "1", *QUIET[:-1]]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "photos: images in colour are made grey"
    assert made() == (1, SIZE, SIZE)
    assert main(["train", "mlp", "--data", "photos", *QUIET[:-1]]) == 0  # which has no choice
    assert capsys.readouterr().out.splitlines()[0] == "photos: images in colour are made grey"


@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("RGBA", 3), ("P", 3), ("L", 1), ("LA", 1), ("1", 1),
                                            ("I;16", 1)])
def test_what_counts_as_colour(mode, channels):
    picture("photos/a.png", mode)
    picture("photos/b.png", "L")
    said = []
    images = data.load("photos", size=SIZE, channels=None, announce=said.append).images
    assert images.shape == (2, channels, SIZE, SIZE) and not said
    assert data.load("photos", size=SIZE, channels=4 - channels, announce=said.append).images.shape[1] == 4 - channels
    assert said == ["photos: grey images get three equal channels" if channels == 1
                    else "photos: images in colour are made grey"]


def test_a_palette_of_greys_is_grey():
    grey = Image.fromarray(COLOUR[0, 0]).convert("P")
    assert grey.mode == "P" and not is_colour(grey)


@pytest.mark.parametrize("array, channels", [(COLOUR, 3), (COLOUR.transpose(0, 2, 3, 1), 3), (COLOUR[:, :1], 1),
                                             (COLOUR[:, 0], 1)])
def test_arrays_keep_their_channels(array, channels):
    np.savez("mine.npz", images=array)
    assert main(["train", "tint", "--data", "mine.npz", *QUIET]) == 0
    assert made() == (channels, SIZE, SIZE)
    said = []
    data.load("mine.npz", size=9, channels=1, announce=said.append)
    assert said == (["mine.npz: images in colour are made grey"] if channels == 3 else [])


def test_grey_and_colour_of_one_image_agree():
    """Resized once and repeated, or repeated and resized: the same bits."""
    np.save("grey.npy", COLOUR[:, 0])
    np.save("three.npy", COLOUR[:, :1].repeat(3, axis=1))
    one, three = (data.load(f"{name}.npy", size=13, channels=3, announce=None).images for name in ("grey", "three"))
    assert np.array_equal(one, three)


@pytest.mark.parametrize("arguments, words", [
    (["train", "tint", "--channels", "2"], "--channels must be 1 (grey) or 3 (colour), not '2'"),
    (["train", "tint", "--channels", "grey"], "--channels must be 1 (grey) or 3 (colour), not 'grey'"),
    (["train", "--channels", "3"], "recipe mlp makes grey images only: leave --channels out"),
    (["train", "--resume", "runs/tint", "--channels", "3"], "--channels cannot be given with --resume"),
    (["train", "tint", "--data", "broken"], "a.png cannot be read as an image")])
def test_bad_input(arguments, words, capsys):
    Path("broken").mkdir()
    Path("broken/a.png").write_bytes(b"no picture")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not Path("runs").exists()


def test_images_of_another_shape_are_refused_with_advice(tint):
    with pytest.raises(UserError, match=r"shape \(1, 8, 8\), the system takes \(3, 8, 8\): load them in that shape"):
        scratchgan.fit(tint.build(), data.load("digits", size=SIZE), steps=1)


def test_what_a_run_records_is_what_is_built(tint):
    assert main(["train", "tint", "--data", "digits", *QUIET]) == 0
    path = Path("runs/tint/config.json")
    config = json.loads(path.read_text())
    config["facts"]["shape"][0] = 3
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="does not fit this system"):
        scratchgan.load("runs/tint")
