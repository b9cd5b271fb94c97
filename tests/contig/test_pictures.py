"""Pictures as they come: formats, orientation, the field of view, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfd_cli.contig.config import ImagesSection
from mfd_cli.contig.data.pictures import Faulty, field_of_view, read_picture

SQUARE = ImagesSection(size=16, crop="square")


def saved(path: Path, pixels: np.ndarray, **how: object) -> Path:
    Image.fromarray(pixels).save(path, **how)
    return path


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards."""
    down, across = np.mgrid[:height, :width]
    return np.stack([across * 255 // width, down * 255 // height, np.full_like(down, 40)], 2).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_formats_give_the_same_picture(name: str, tmp_path: Path) -> None:
    picture = read_picture(saved(tmp_path / name, gradient(32, 32)), SQUARE, "")
    expected = gradient(32, 32).reshape(16, 2, 16, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert picture.pixels.shape == (3, 16, 16)
    assert np.abs(picture.pixels - expected).max() <= (10 if name.endswith("jpg") else 1)


def test_the_centre_is_cut_and_eyes_of_one_side_are_flipped(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", gradient(16, 48))
    left, right = (read_picture(path, SQUARE, eye) for eye in ("left", "right"))
    assert np.array_equal(left.pixels, gradient(16, 48)[:, 16:32].transpose(2, 0, 1))
    assert np.array_equal(right.pixels, left.pixels[:, :, ::-1])  # images.mirror is right
    stretched = read_picture(path, ImagesSection(size=16, crop="none"), "")
    assert stretched.pixels[0, 0, 0] < 10 and stretched.pixels[0, 0, -1] > 240


def test_a_picture_stands_as_its_exif_says(tmp_path: Path) -> None:
    image = Image.fromarray(gradient(16, 16))
    exif = image.getexif()
    exif[0x0112] = 3  # turned upside down
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(
        read_picture(tmp_path / "a.png", SQUARE, "").pixels, gradient(16, 16)[::-1, ::-1].transpose(2, 0, 1)
    )


def test_grey_of_sixteen_bits_is_scaled_by_its_range(tmp_path: Path) -> None:
    grey = np.linspace(1000, 5000, 256).reshape(16, 16).astype(np.uint16)
    pixels = read_picture(saved(tmp_path / "a.png", grey), SQUARE, "").pixels
    assert pixels.min() == 0 and pixels.max() == 255 and np.array_equal(pixels[0], pixels[2])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no PNG, JPEG or TIFF"),
        (b"P6 4 4 255 " + bytes(48), "no PNG, JPEG or TIFF"),
        (b"GIF89a" + bytes(40), "no PNG, JPEG or TIFF"),
        (None, "missing"),
        ("cut", "damaged or was cut short"),
        ("small", "smaller than 16 px"),
    ],
)
def test_what_is_no_picture_is_told(content: bytes | str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "small":
        saved(path, gradient(15, 40))
    elif content == "cut":
        noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
        path.write_bytes(saved(path, noise).read_bytes()[:1500])
    with pytest.raises(Faulty, match=says):
        read_picture(path, SQUARE, "")


@pytest.mark.parametrize("size", [17, 64, 900])
@pytest.mark.parametrize("cut", [0.0, 0.15])
def test_a_round_field_is_found(size: int, cut: float) -> None:
    """Also where the picture cuts it off above and below."""
    rng = np.random.default_rng(size)
    down, across = np.mgrid[:size, :size] + 0.5
    x, y, radius = 0.52 * size, 0.49 * size, 0.4 * size
    bright = np.where(np.hypot(across - x, down - y) < radius, 0.5, 0.02) + 0.02 * rng.random((size, size))
    low = round(cut * size)
    found = field_of_view(bright[low : size - low])
    assert found is not None
    assert np.allclose(found, (x, y - low, radius), atol=max(0.03 * size, 1.2))


def test_where_no_round_field_is_there_none_is_found() -> None:
    rng = np.random.default_rng(1)
    assert field_of_view(rng.random((64, 64))) is None
    assert field_of_view(np.full((64, 64), 0.5)) is None
    bar = np.zeros((64, 64))
    bar[30:34] = 1
    assert field_of_view(bar) is None


def test_a_field_that_lies_off_centre_is_cut_out_whole(tmp_path: Path) -> None:
    down, across = np.mgrid[:60, :100] + 0.5
    inside = np.hypot(across - 30, down - 28) < 26
    pixels = np.where(inside[..., None], np.uint8([200, 90, 40]), np.uint8([3, 3, 3])).astype(np.uint8)
    picture = read_picture(saved(tmp_path / "a.png", pixels), ImagesSection(size=32), "")
    assert picture.circle and abs(picture.side - 52) <= 2 and picture.field > 0.98
    corners, centre = picture.pixels[0, [0, 0, -1, -1], [0, -1, 0, -1]], picture.pixels[0, 14:18, 14:18]
    assert (corners < 20).all() and (centre > 190).all()
