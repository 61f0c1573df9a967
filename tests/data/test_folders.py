"""Folders of pictures."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from scratchgan import data
from scratchgan.data import content_sha256, load_path
from scratchgan.data.folders import extensions, load_folder
from scratchgan.errors import UserError

RNG = np.random.default_rng(1)
GREY = RNG.integers(0, 256, (5, 28, 28), np.uint8)
COLOUR = RNG.integers(0, 256, (28, 28, 3), np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_a_folder_in_sorted_order(tmp_path):
    for i in (3, 0, 2, 1):
        save(tmp_path / f"{i}.png", GREY[i])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    data = load_folder(tmp_path)
    assert np.array_equal(data.images[:, 0], GREY[:4]) and data.labels is None
    assert data.name == tmp_path.name and data.origin == f"{tmp_path.resolve()} (4 images, no labels)"
    assert data.sha256 == content_sha256(data.images)


def test_sub_folders_are_classes(tmp_path):
    save(tmp_path / "b" / "1.png", GREY[2])
    save(tmp_path / "b" / "deeper" / "0.png", GREY[3])
    save(tmp_path / "a" / "0.PNG", GREY[0])
    save(tmp_path / "a" / "1.bmp", GREY[1])
    (tmp_path / "empty").mkdir()
    data = load_path(str(tmp_path))
    assert np.array_equal(data.images[:, 0], GREY[:4])
    assert data.labels.tolist() == [0, 0, 1, 1] and "2 classes" in data.origin


LOSSY = ("jpg", "jpeg", "jfif", "jpe", "webp", "avif", "jp2", "mpo")
FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "jfif": "JPEG", "jpe": "JPEG", "mpo": "MPO", "bmp": "BMP",
           "gif": "GIF", "webp": "WEBP", "tif": "TIFF", "tiff": "TIFF", "TIF": "TIFF", "avif": "AVIF",
           "jp2": "JPEG2000", "j2k": "JPEG2000", "pgm": "PPM", "ppm": "PPM", "tga": "TGA", "pcx": "PCX", "sgi": "SGI",
           "dds": "DDS", "ico": "ICO"}


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format(tmp_path, extension):
    ramp = np.linspace(0, 255, 32).astype(np.uint8)[None].repeat(32, 0)
    image = Image.fromarray(ramp).convert("RGB" if extension in ("ppm", "dds", "ico", "mpo") else "L")
    try:
        image.save(tmp_path / f"ramp.{extension}", FORMATS[extension])
    except (OSError, KeyError) as error:
        pytest.skip(f"this Pillow does not write {extension}: {error}")
    found = load_folder(tmp_path, 32, announce=None).images[0, 0]
    assert np.abs(found.astype(int) - ramp).max() <= (8 if extension in LOSSY else 0)


def test_whatever_pillow_reads_is_an_image(tmp_path, monkeypatch):
    """Formats of other packages, too, once they are registered; not those that Pillow knows by name only."""
    assert {".png", ".jpg", ".tif", ".bmp"} <= extensions()
    assert not {".txt", ".pdf", ".h5", ".mpg", ".eps", ".wmf", ""} & extensions()
    save(tmp_path / "a.png", GREY[0])
    (tmp_path / "a.png").rename(tmp_path / "b.mine")
    with pytest.raises(UserError, match=r"holds no images \(1 \.mine\)"):
        load_folder(tmp_path)
    Image.registered_extensions()
    monkeypatch.setitem(Image.EXTENSION, ".mine", "PNG")
    assert np.array_equal(load_folder(tmp_path).images[0, 0], GREY[0])


@pytest.mark.parametrize("inside", ["", "one/", "one/deeper/"])
def test_files_passed_over_are_counted_and_told(tmp_path, inside):
    for i in range(3):
        save(tmp_path / f"set/{inside}{i}.png", GREY[i])
    for name in ("a.txt", "b.txt", "LICENSE", "c.TXT", "d.heic"):
        (tmp_path / f"set/{inside}{name}").write_text("no image")
    (tmp_path / f"set/{inside}.DS_Store").write_text("not seen")
    (tmp_path / "set/more").mkdir()
    (tmp_path / "set/more/e.csv").write_text("no image")
    said = []
    assert len(load_folder(tmp_path / "set", announce=said.append)) == 3
    assert said == ["set: passing over 6 of 9 files, which are no pictures by their names "
                    "(3 .txt, 1 .csv, 1 .heic, 1 without an ending)"]
    said.clear()
    assert len(data.load(tmp_path / "set", announce=said.append)) == 3 and len(said) == 1
    assert len(load_folder(tmp_path / "set")) == len(data.load(tmp_path / "set", announce=None)) == 3
    for i in range(3):
        (tmp_path / f"set/{inside}{i}.png").unlink()
    with pytest.raises(UserError, match=r"holds no images \(3 \.txt, 1 \.csv, 1 \.heic, 1 without an ending\): name"):
        load_folder(tmp_path / "set")


def png(bits, kind, row, transparent=None, size=8):
    """A PNG file of equal rows by its specification: kind 0 grey, 2 colour, 4 grey and alpha, 6 colour and alpha."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    head = struct.pack(">IIBBBBB", size, size, bits, kind, 0, 0, 0)
    extra = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    rows = zlib.compress((b"\0" + row) * size)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def sixteen(*values):
    return struct.pack(f">{len(values)}H", *values)


GREYS = (0, 257, 32768, 32769, 40000, 3, 4, 65535)


@pytest.mark.parametrize("bits, kind, row, transparent, expected", [
    (16, 0, sixteen(*GREYS), (32768,), (0, 1, 255, 128, 156, 0, 0, 255)),
    (16, 0, sixteen(*GREYS), (0,), (255, 1, 128, 128, 156, 0, 0, 255)),
    (16, 0, sixteen(*GREYS), None, (0, 1, 128, 128, 156, 0, 0, 255)),
    (8, 0, bytes(range(8)), (3,), (0, 1, 2, 255, 4, 5, 6, 7)),
    (4, 0, b"\x01\x23\x45\x67", (3,), (0, 17, 34, 255, 68, 85, 102, 119)),
    (2, 0, b"\x1b\x1b", (2,), (0, 85, 255, 255, 0, 85, 255, 255)),
    (1, 0, b"\xf0", (0,), (255,) * 8), (1, 0, b"\xf0", (1,), (255,) * 4 + (255,) * 0 + (0,) * 4),
    (16, 2, sixteen(*(3 * (5 * 256,) + 3 * (9 * 256,)) * 4), 3 * (5 * 256,), (255, 9) * 4),
    (8, 2, bytes(3 * (5,) + 3 * (9,)) * 4, 3 * (5,), (255, 9) * 4),
    (16, 4, sixteen(32768, 65535, 32768, 0) * 4, None, (128, 255) * 4),
    (8, 4, bytes((128, 255, 128, 0)) * 4, None, (128, 255) * 4),
    (16, 6, sixteen(*(3 * (32768,)), 65535, *(3 * (32768,)), 0) * 4, None, (128, 255) * 4)],
    ids=lambda value: str(value)[:12])
def test_transparency_of_every_depth_is_white(tmp_path, bits, kind, row, transparent, expected):
    (tmp_path / "a.png").write_bytes(png(bits, kind, row, transparent))
    images = load_folder(tmp_path, size=8, channels=None).images
    assert images.shape == (1, 3 if kind in (2, 6) else 1, 8, 8)  # grey with alpha is grey
    assert (images == np.array(expected)).all()


def test_grey_whose_black_and_white_are_not_known_is_refused(tmp_path):
    for values, words in ((np.zeros((9, 9), np.float32), "floating-point numbers"),
                          (np.full((9, 9), -1, np.int32), "values go from -1 to -1, beyond 16 bits"),
                          (np.full((9, 9), 70000, np.int32), "beyond 16 bits")):
        Image.fromarray(values).save(tmp_path / "a.tif")
        with pytest.raises(UserError, match=words) as caught:
            load_folder(tmp_path)
        assert str(tmp_path / "a.tif") in str(caught.value)
    Image.fromarray(np.full((28, 28), 65535, np.int32)).save(tmp_path / "a.tif")
    assert (load_folder(tmp_path).images == 255).all()


def test_central_square_is_taken(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :20], wide[:, 20:40], wide[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    save(tmp_path / "wide.png", wide)
    save(tmp_path / "tall.png", wide.transpose(1, 0, 2))
    data = load_folder(tmp_path, size=10, channels=3)
    assert data.images.shape == (2, 3, 10, 10)
    assert (data.images == np.array([0, 255, 0])[:, None, None]).all()


def test_grey_and_colour(tmp_path):
    save(tmp_path / "0.png", COLOUR)
    save(tmp_path / "1.png", GREY[0])
    colour = load_folder(tmp_path, channels=3).images
    assert np.array_equal(colour[0], COLOUR.transpose(2, 0, 1))
    assert (colour[1] == GREY[0]).all()
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(load_folder(tmp_path).images[0, 0] - luma).max() <= 1


def test_modes_that_pillow_would_spoil(tmp_path):
    deep = (np.arange(784).reshape(28, 28) * 83).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "0-deep.png")
    clear = np.zeros((28, 28, 4), np.uint8)
    clear[:14, :, 3] = 255
    save(tmp_path / "1-transparent.png", clear)
    palette = Image.fromarray((clear[..., 3] > 0).astype(np.uint8), "L").convert("P")
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.save(tmp_path / "2-palette.png", transparency=0)
    turned = Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 28, 1).repeat(14, 0))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "3-turned.png", exif=exif)
    deep_read, transparent, from_palette, upright = load_folder(tmp_path).images[:, 0]
    assert np.abs(deep_read - deep / 257).max() <= 0.5
    for image in (transparent, from_palette, upright[::-1]):
        assert (image[:14] == 0).all() and (image[14:] == 255).all()


def test_the_first_picture_of_an_animation(tmp_path):
    first, second = Image.new("L", (28, 28), 10), Image.new("L", (28, 28), 200)
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    assert (load_folder(tmp_path).images == 10).all()


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "bmp", "webp"])
def test_a_broken_image_is_named(tmp_path, extension):
    path = tmp_path / f"b.{extension}"
    save(tmp_path / "a.png", GREY[0])
    save(path, GREY[1])
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"not an image at all", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as an image") as caught:
            load_folder(tmp_path)
        assert str(path) in str(caught.value)


def test_a_run_is_no_data(tmp_path):
    """The pictures that a training has written into the folder of its data."""
    for run in ("runs/mlp", "cats/run"):
        save(tmp_path / run / "samples" / "a.png", GREY[0])
        (tmp_path / run / "checkpoints").mkdir()
        (tmp_path / run / "config.json").touch()
    for name in ("a.png", "b.png"):
        save(tmp_path / name, GREY[0])
    assert load_folder(tmp_path).size == 2
    for name in ("a.png", "b.png"):
        (tmp_path / name).rename(tmp_path / "cats" / name)
    assert load_folder(tmp_path).labels.tolist() == [0, 0]


def test_folders_that_will_not_do(tmp_path):
    with pytest.raises(UserError, match=r"holds no images: name a folder of pictures \(\.png"):
        load_folder(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        load_folder(tmp_path / "none")
    save(tmp_path / "loose.png", GREY[0])
    save(tmp_path / "class" / "a.png", GREY[0])
    with pytest.raises(UserError, match=r"both directly \(loose.png\) and in sub-folders \(class\)"):
        load_folder(tmp_path)
    with pytest.raises(UserError, match=r"loose\.png is not a folder of images, an IDX file"):
        load_path(tmp_path / "loose.png")
    with pytest.raises(UserError, match="there is no file or folder"):
        load_path(tmp_path / "none.txt")


def test_a_link_that_loops_is_not_followed(tmp_path):
    save(tmp_path / "class" / "a.png", GREY[0])
    (tmp_path / "class" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(load_folder(tmp_path)) == 1
