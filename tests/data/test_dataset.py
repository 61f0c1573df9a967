import dataclasses
import hashlib

import numpy as np
import pytest

from scratchgan.data import Dataset, content_sha256
from scratchgan.errors import UserError

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
LABELS = np.array([1, 4])


def test_holds_what_it_is_given():
    data = Dataset.of("mine", IMAGES, LABELS, "made up")
    assert len(data) == 2 and data.classes == 5 and data.name == "mine" and data.origin == "made up"
    assert data.images is IMAGES and data.labels is LABELS
    assert data.sha256 == content_sha256(IMAGES, LABELS)
    assert "array" not in repr(data)
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"


def test_sha256_is_of_the_documented_bytes():
    text = b"images uint8 2 3 2 2\n" + bytes(range(24))
    assert content_sha256(IMAGES) == hashlib.sha256(text).hexdigest()
    text += b"labels int64 2\n" + b"\1" + bytes(7) + b"\4" + bytes(7)
    assert content_sha256(IMAGES, LABELS) == hashlib.sha256(text).hexdigest()


def test_sha256_is_of_the_content_not_of_its_layout():
    assert content_sha256(np.asfortranarray(IMAGES)) == content_sha256(IMAGES)
    assert content_sha256(IMAGES, LABELS.astype(">i8")) == content_sha256(IMAGES, LABELS)
    different = [
        content_sha256(IMAGES),
        content_sha256(IMAGES, LABELS),
        content_sha256(IMAGES, LABELS[::-1]),
        content_sha256(IMAGES.reshape(2, 3, 1, 4)),
        content_sha256(IMAGES + 1),
    ]
    assert len(set(different)) == len(different)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": IMAGES.astype(np.float32)}, "float32 of shape"),
        ({"images": IMAGES[0]}, r"uint8 of shape \(3, 2, 2\)"),
        ({"images": IMAGES.tolist()}, "list"),
        ({"images": IMAGES[:, :2]}, "1 or 3 channels"),
        ({"images": IMAGES[:0]}, "one or more"),
        ({"labels": LABELS[:1]}, "1 labels do not fit 2 images"),
        ({"labels": LABELS.astype(np.int32)}, "int32"),
        ({"labels": LABELS[:, None]}, r"shape \(2, 1\)"),
        ({"labels": -LABELS}, "0 or more"),
        ({"sha256": "abc"}, "64 hexadecimal"),
        ({"sha256": "A" * 64}, "64 hexadecimal"),
    ],
)
def test_refuses(change, message):
    good = {"name": "mine", "images": IMAGES, "labels": LABELS, "sha256": "0" * 64, "origin": ""}
    assert len(Dataset(**good)) == 2
    with pytest.raises(UserError, match=message) as caught:
        Dataset(**{**good, **change})
    assert str(caught.value).startswith("mine: ")
