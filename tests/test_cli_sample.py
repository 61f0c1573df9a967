"""`scratchgan sample`: grids, arrays, folders and animations of a run's samples."""

import os
from pathlib import Path

import numpy as np
import pytest
from command_line import call, read
from PIL import Image

import scratchgan
from scratchgan import plots
from scratchgan.cli import sampling

pytestmark = pytest.mark.usefixtures("alone")


def test_sample_draws_a_grid(capsys, run):
    assert call(capsys, "sample", run) == "wrote 25 images from seed 0 to runs/mlp/sample.png\n"
    system = scratchgan.load(run)
    np.testing.assert_array_equal(read(run / "sample.png"), plots.image_grid(system.sample(25, seed=0), 5))
    call(capsys, "sample", run, "--seed", "1", "--rows", "2", "--columns", "3")  # takes the place of the first
    np.testing.assert_array_equal(read(run / "sample.png"), plots.image_grid(system.sample(6, seed=1), 3))
    call(capsys, "sample", run, "-n", "7", "--rows", "2", "--out", "seven.png")
    np.testing.assert_array_equal(read("seven.png"), plots.image_grid(system.sample(7), 4))
    call(capsys, "sample", run, "-n", "1", "--out", "one.png", "--device", "cpu")
    np.testing.assert_array_equal(read("one.png"), plots.image_grid(system.sample(1), 1))


def test_sample_writes_arrays_in_0_to_1(capsys, run):
    call(capsys, "sample", run, "-n", "1200", "--out", "a.npy", "--seed", "3")
    call(capsys, "sample", run, "-n", "1200", "--out", "a.npz", "--seed", "3")
    array = np.load("a.npy")
    assert array.shape == (1200, 1, 28, 28) and array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
    np.testing.assert_allclose(array * 2 - 1, scratchgan.load(run).sample(1200, seed=3), atol=1e-6)
    with np.load("a.npz") as arrays:
        assert arrays.files == ["images"]
        np.testing.assert_array_equal(arrays["images"], array)
    assert sorted(os.listdir()) == ["a.npy", "a.npz", "runs"]


def test_sample_writes_a_folder_of_pictures_and_replaces_its_own(capsys, run):
    call(capsys, "sample", run, "-n", "12", "--out", "many/")
    assert sorted(os.listdir("many")) == [f"{i:05d}.png" for i in range(12)]
    np.testing.assert_array_equal(read("many/00011.png"), plots.to_pixels(scratchgan.load(run).sample(12))[11, 0])
    call(capsys, "sample", run, "-n", "3", "--out", "many")
    assert len(os.listdir("many")) == 3 and sorted(os.listdir()) == ["many", "runs"]


def test_the_folder_of_samples_by_other_names(capsys, run):
    call(capsys, "sample", run, "-n", "12", "--out", "many/")
    os.symlink("many", "link")
    for number, name in ((3, "many/../many"), (4, "link"), (5, "link/")):
        call(capsys, "sample", run, "-n", number, "--out", name)
        assert len(os.listdir("many")) == number and sorted(os.listdir()) == ["link", "many", "runs"]
        assert os.readlink("link") == "many"


def test_the_old_samples_stay_where_the_new_ones_cannot_take_their_place(capsys, run, monkeypatch):
    call(capsys, "sample", run, "-n", "3", "--out", "many/")

    def rename(old, new, really=os.rename):
        if str(old).endswith(".part"):
            raise OSError(28, "No space left on device")
        really(old, new)
    monkeypatch.setattr(os, "rename", rename)
    error = call(capsys, "sample", run, "-n", "4", "--out", "many/", status=2)
    assert "Cannot write the samples many: No space left on device; free some space" in error
    assert len(os.listdir("many")) == 3 and sorted(os.listdir()) == ["many", "runs"]


def test_samples_do_not_take_the_place_of_where_one_is(capsys, run, monkeypatch):
    run = run.resolve()
    Path("here").mkdir()
    monkeypatch.chdir("here")
    assert "is where you are" in call(capsys, "sample", run, "--out", ".", status=2)


def test_sample_of_a_checkpoint(capsys, run, monkeypatch):
    first, drawn = run / "checkpoints/step-00000000", read(run / "samples/epoch-000_step-00000000.png")
    assert call(capsys, "sample", first).endswith(" to runs/mlp/sample.png\n")
    np.testing.assert_array_equal(read(run / "sample.png"), drawn)
    (run / "sample.png").unlink()
    monkeypatch.chdir(first)
    assert call(capsys, "sample", ".").endswith("runs/mlp/sample.png\n")
    np.testing.assert_array_equal(read("../../sample.png"), drawn)


def test_real_images_of_the_run(capsys, run):
    call(capsys, "sample", run, "--real", "--out", "real.png")
    np.testing.assert_array_equal(read("real.png"), read(run / "real.png"))
    call(capsys, "sample", run, "--real", "-n", "3", "--out", "real.npy")
    assert np.load("real.npy").shape == (3, 1, 28, 28)


def test_interpolation_goes_from_one_seed_to_the_other(capsys, run):
    out = call(capsys, "sample", run, "--interpolate", "1", "2", "--rows", "2", "--columns", "4")
    assert out == "wrote 2 x 4 images, from seed 1 to seed 2, to runs/mlp/interpolation.png\n"
    system = scratchgan.load(run)
    images = system.interpolate(1, 2, 2, 4)
    np.testing.assert_array_equal(read(run / "interpolation.png"), plots.image_grid(images, 4))


def test_what_a_sample_is_not_made_with_is_refused(capsys, run):
    for arguments, words in ((["--interpolate", "1", "2", "--seed", "5"], "--seed cannot be given with --interpolate"),
                             (["-n", "3", "--rows", "7", "--out", "x.npz"], "--rows and --columns are of a grid"),
                             (["--label", "7"], "--label cannot be given: the samples of this run are of no class")):
        assert words in call(capsys, "sample", run, *arguments, status=2)


def test_interpolation_as_an_animation_goes_there_and_back(capsys, run):
    out = call(capsys, "sample", run, "--interpolate", "1", "2", "--out", "walk.gif", "--rows", "1", "--columns", "2")
    assert "animation of 1 x 2 images, from seed 1 to seed 2" in out
    with Image.open("walk.gif") as image:
        assert image.n_frames == sampling.GIF_FRAMES

        def frame(number):
            image.seek(number)
            return np.asarray(image.convert("L")).astype(int)
        np.testing.assert_array_equal(frame(1), frame(image.n_frames - 1))
        assert (frame(0) != frame(20)).any()
