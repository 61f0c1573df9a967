"""The digits that come with scratchgan: small, real, and there without a network.

The test set of "Optical Recognition of Handwritten Digits": 1,797 images of 8x8 values from 0 to
16 by 13 writers, each value the number of ink pixels in a 4x4 block of a 32x32 bitmap.
E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning Repository, https://doi.org/10.24432/C50P49,
licensed under CC BY 4.0 (DIGITS-LICENSE.md beside this file).

`digits.npz` holds "images", uint8 (1797, 8, 8), and "labels", uint8 (1797,), as
`build` packs them.
"""

from importlib import resources

import numpy as np
from PIL import Image

from scratchgan.data.dataset import Dataset
from scratchgan.data.pixels import check_format

CREDIT = (
    "Optical Recognition of Handwritten Digits, test set, E. Alpaydin and C. Kaynak, 1998, "
    "UCI Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0"
)


def load_digits(size=28, channels=1):
    """The bundled digits, enlarged: images (1797, channels, size, size), labels 0 to 9."""
    check_format(size, channels)
    bundled = resources.files("scratchgan.data").joinpath("digits.npz")
    with bundled.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    images = np.repeat(enlarge(images, size), channels, axis=1)
    source = f"bundled with scratchgan, enlarged from 8x8 to {size}x{size} ({CREDIT})"
    return Dataset.of("digits", images, labels.astype(np.int64), source)


def enlarge(images, size=28):
    """uint8 (N, 8, 8) with values 0 to 16 to uint8 (N, 1, size, size) with values 0 to 255.

    One empty cell is put around each image, so that strokes, which reach its border, end smoothly
    and have a margin as MNIST's do: 10x10 cells on 28x28 pixels leave the digit 22 high, MNIST's 20.
    MNIST's own 20 would cost detail, of which there is little. Interpolation is bicubic: Lanczos
    leaves visible rings. Interpolating counts blurs the edge of a stroke over a whole cell;
    stretching the contrast about one half, where the edge is, makes it nearly as steep as MNIST's
    and ink as white, and moves no edge: `low` to `high` becomes 0 to 255, and no ring is left.

    The weights are Pillow's, as whole numbers of 1 / 2^14: sums of integers are exact in any order,
    so that every machine computes the same images.
    """
    low, high = 0.15, 0.85
    basis = Image.fromarray(np.eye(10, dtype=np.float32))
    weights = np.rint(np.asarray(basis.resize((10, size), Image.Resampling.BICUBIC)) * 2.0**14).astype(
        np.int64
    )
    cells = np.pad(images, ((0, 0), (1, 1), (1, 1))).astype(np.int64)
    ink = (weights @ cells @ weights.T) / (16 * 2.0**28)  # (N, size, size), 1 is a cell full of ink
    return np.rint((ink - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)[:, None]


def build(csv, npz):
    """Pack UCI's text file `optdigits.tes` into `digits.npz`, the same values in the same order.

    A line is an image: 64 values and the label, separated by commas. The file packed here has the
    SHA-256 6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8.
    """
    rows = np.loadtxt(csv, delimiter=",", dtype=np.uint8)
    np.savez_compressed(npz, images=rows[:, :64].reshape(-1, 8, 8), labels=rows[:, 64])
