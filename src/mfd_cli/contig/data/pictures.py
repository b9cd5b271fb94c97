"""Pictures as they come, to squares of one size: opened safely, cut to the field of view, measured."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from mfd_cli.base.arrays import Bytes, Doubles
from mfd_cli.contig.config import ImagesSection

FORMATS = ("PNG", "JPEG", "TIFF")
MOST_PIXELS = 200_000_000
"""A picture with more is no photograph, or would fill the memory."""
SOUGHT = 256
"""The field of view is sought in a picture of about so many pixels a side."""
CORNER = 16
"""The corners that say how dark the surroundings are have sides of a CORNER-th of the picture's."""
ROUND, COVERED = 0.08, 0.5
"""A field of view is believed where its rim lies so near to a circle (rms, share of the radius) and covers so much of it."""
LEAST_CONTRAST = 0.08
"""Share of the range by which the field must be brighter than the corners."""


class Faulty(Exception):
    """A picture cannot be used; the message says why, in a few words."""


@dataclass(frozen=True)
class Picture:
    """A picture as it is stored, bytes (3, side, side), and what was seen of it.

    `side` (px) is of the square that it was cut from, `circle` whether a round field of view was found, `field` the share of
    the square that lies in the picture. `brightness` is the mean (0 to 1), `saturated` the share of pixels at either end,
    `sharpness` the variance of the Laplacian of its brightness.
    """

    pixels: Bytes
    side: int
    circle: bool
    field: float
    brightness: float
    saturated: float
    sharpness: float


def read_picture(path: Path, settings: ImagesSection, eye: str) -> Picture:
    """Read a picture: colours as RGB, upright as its EXIF says, cut, resized, and flipped where its eye is `settings.mirror`.

    Raises Faulty where it is missing, truncated, of another format, too large, or smaller than what is stored.
    """
    array = _opened(path, settings.size)
    if min(array.shape[:2]) < settings.size:
        raise Faulty(f"is smaller than {settings.size} px")
    square, circle, field = _cut(array, settings.crop)
    side = min(square.shape[:2])
    small = Image.fromarray(square).resize((settings.size, settings.size), Image.Resampling.BOX)
    pixels = np.asarray(small)
    if eye and eye == settings.mirror:
        pixels = pixels[:, ::-1]
    brightness = pixels.mean(2, dtype=np.float64) / 255
    return Picture(
        np.ascontiguousarray(pixels.transpose(2, 0, 1)),
        side,
        circle,
        field,
        float(brightness.mean()),
        float(((pixels == 0) | (pixels == 255)).all(2).mean()),
        float(ndimage.laplace(brightness).var()),
    )


def _opened(path: Path, size: int) -> Bytes:
    """(height, width, 3) of a picture; Faulty where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Faulty("has more than 200 megapixels")
                if image.format == "JPEG":
                    image.draft(
                        "RGB", (4 * size, 4 * size)
                    )  # decoded at a reduced size, which is several times as fast
                image.load()
                return _as_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise Faulty("is missing") from error
    except UnidentifiedImageError as error:
        raise Faulty("is no PNG, JPEG or TIFF") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Faulty("has too many pixels") from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        ArithmeticError,
    ) as error:  # what Pillow raises for damaged files
        raise Faulty("is damaged or was cut short") from error


def _as_rgb(image: Image.Image) -> Bytes:
    """(height, width, 3) bytes; 16-bit grey is scaled by its range."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        low, high = float(values.min()), float(values.max())
        grey = ((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, 2)
    return np.asarray(image.convert("RGB"))


def _cut(picture: Bytes, crop: str) -> tuple[Bytes, bool, float]:
    """The part of a picture (height, width, 3) that is kept; whether it is a round field of view; the share that that fills."""
    if crop == "none":
        return picture, False, 1.0
    height, width = picture.shape[:2]
    if crop == "circle":
        step = max(min(height, width) // SOUGHT, 1)
        found = field_of_view(picture[::step, ::step].max(2).astype(np.float64) / 255)
        if found is not None:
            across, down, radius = (step * number for number in found)
            low_x, low_y = round(across - radius), round(down - radius)
            side = max(round(2 * radius), 1)
            pad = max(0, -low_x, -low_y, low_x + side - width, low_y + side - height)
            padded = np.pad(picture, ((pad, pad), (pad, pad), (0, 0))) if pad else picture
            square = padded[low_y + pad : low_y + pad + side, low_x + pad : low_x + pad + side]
            inside = max(0, min(low_x + side, width) - max(low_x, 0)) * max(
                0, min(low_y + side, height) - max(low_y, 0)
            )
            return square, True, inside / side**2
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side], False, 1.0


def field_of_view(brightness: Doubles) -> tuple[float, float, float] | None:
    """Return the circle that is bright before dark corners: centre across, centre down, radius (px); None where there is none.

    `brightness` (height, width) from 0 to 1. The rim of the largest bright component gets a circle by least squares (Kasa); a
    field that the picture cuts off above and below is found from the rim that is left.
    """
    height, width = brightness.shape
    edge = max(min(height, width) // CORNER, 1)
    corners = np.concatenate(
        [brightness[y, x].ravel() for y in (slice(edge), slice(-edge, None)) for x in (slice(edge), slice(-edge, None))]
    )
    dark, bright = float(np.median(corners)), float(np.quantile(brightness, 0.9))
    if bright - dark < LEAST_CONTRAST:
        return None
    labels, count = ndimage.label(brightness > dark + 0.25 * (bright - dark))
    if not count:
        return None
    largest = 1 + int(np.argmax(ndimage.sum_labels(np.ones_like(labels), labels, np.arange(1, count + 1))))
    field = ndimage.binary_fill_holes(labels == largest)
    rim = field & ~ndimage.binary_erosion(field, border_value=1)  # where the picture ends is no rim
    down, across = np.nonzero(rim)
    if len(across) < 8:
        return None
    columns = np.stack([2.0 * across, 2.0 * down, np.ones(len(across))], 1)
    (x, y, rest), *_ = np.linalg.lstsq(columns, across**2.0 + down**2.0, rcond=None)
    radius = float(np.sqrt(max(rest + x**2 + y**2, 0.0)))
    if not radius:
        return None
    off = np.hypot(across - x, down - y) / radius - 1
    angles = np.unique(np.floor((np.arctan2(down - y, across - x) + np.pi) / (2 * np.pi) * 36))
    if float(np.sqrt((off**2).mean())) > ROUND or len(angles) / 36 < COVERED or radius > max(height, width):
        return None
    return float(x) + 0.5, float(y) + 0.5, radius + 0.5
