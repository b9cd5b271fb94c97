"""Pictures of eyes that were never there: a round field, a disc, two vessels, and what a camera does to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mfd_cli.base.arrays import Bools, Bytes, Doubles, Ints
from mfd_cli.contig.simulate.lesions import with_spots

EYE_NOISE = 0.35
"""Sd of what differs between a person's latents and those of one eye."""
FIELD = 0.97
"""Radius of the field of view; the picture reaches from -1 to 1."""
GAIN, TILT, GRAIN = 0.25, 0.35, 0.08
"""Sds of the gain of each colour (log), of the slope of the light, and of the noise of each pixel."""
CAMERAS = ("A", "B", "C")
TINTS = np.array([[1.0, 1.0, 1.0], [1.1, 0.95, 0.9], [0.92, 1.04, 1.1]])
BLURS = (0.0, 0.4, 0.7)
"""Colour gains and blur (px of a picture of 32) of the cameras."""
RETINA, DISC, VESSEL = np.array([0.62, 0.28, 0.16]), np.array([0.92, 0.78, 0.5]), np.array([0.34, 0.08, 0.06])


@dataclass(frozen=True)
class Eyes:
    """The causes of some pictures: latents of each eye (eyes, 3), whether it is a right one, the camera, and the lesions, if
    there are any; see `simulate.lesions`."""

    latents: Doubles
    right: Bools
    camera: Ints
    spots: Doubles | None = None


def drawn(eyes: Eyes, side: int, nuisance: float, rng: np.random.Generator) -> Bytes:
    """Return the pictures of eyes, bytes (eyes, side, side, 3); a right eye is the mirror image of a left one."""
    seen = painted(eyes.latents, side)
    if eyes.spots is not None:
        seen = with_spots(seen, eyes.spots)
    count = len(seen)
    across, down = _places(side)
    slope = nuisance * TILT * rng.standard_normal((2, count, 1, 1))
    gain = np.exp(nuisance * GAIN * rng.standard_normal((count, 3))) * TINTS[eyes.camera]
    seen *= np.exp(slope[0] * across + slope[1] * down)[..., None] * gain[:, None, None, :]
    for camera, blur in enumerate(BLURS):
        own = eyes.camera == camera
        if blur and own.any():
            width = blur * side / 32 * min(nuisance, 1.0)
            seen[own] = ndimage.gaussian_filter(seen[own], (0, width, width, 0))
    seen += nuisance * GRAIN * rng.standard_normal(seen.shape) * (_field(side)[..., None] > 0.5)
    pictures: Bytes = (np.clip(seen, 0, 1) * 255).round().astype(np.uint8)
    return np.where(eyes.right[:, None, None, None], pictures[:, :, ::-1], pictures)


def painted(latents: Doubles, side: int) -> Doubles:
    """Return what a perfect camera would see of left eyes with these latents (eyes, 3): (eyes, side, side, 3) from 0 to 1.

    The latents move the radius of the disc, the angle at which it lies, and how far the two vessels curve.
    """
    radius, angle, curve = latents.T[:, :, None, None]
    across, down = _places(side)
    turn = 0.3 * angle
    x, y = 0.48 * np.cos(turn), 0.48 * np.sin(turn)
    colours = np.broadcast_to(RETINA, (len(latents), side, side, 3)).copy()
    reach = np.sqrt(np.maximum(x - across, 0.0) + 0.02)
    for sign in (-1.0, 1.0):
        middle = y + sign * 0.42 * (1 + 0.3 * curve) * reach
        on = np.exp(-(((down - middle) / 0.07) ** 2)) * (across < x)
        colours += (0.85 * on)[..., None] * (VESSEL - colours)
    size = 0.2 * np.exp(0.22 * radius)
    disc = 1 / (1 + np.exp((np.hypot(across - x, down - y) - size) / 0.03))
    colours += disc[..., None] * (DISC - colours)
    return colours * _field(side)[..., None]


def moved_pixels(side: int) -> Bytes:
    """Return which pixels of a left eye a change of each latent by one sd moves by more than a fiftieth of the range, (3, side,
    side)."""
    far = np.abs(painted(np.eye(3), side) - painted(-np.eye(3), side)).max(3)
    return (far > 0.04).astype(np.uint8)


def eyes_of(latents: Doubles, camera: Ints, rng: np.random.Generator) -> Eyes:
    """Return the two eyes of each person, left and right by turns: their latents (persons, 3) and noise of each eye."""
    both = np.repeat(latents, 2, 0)
    right = np.arange(len(both)) % 2 == 1
    return Eyes(both + EYE_NOISE * rng.standard_normal(both.shape), right, np.repeat(camera, 2))


def _places(side: int) -> tuple[Doubles, Doubles]:
    """Where the pixels lie, across and down, from -1 to 1."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    across, down = np.meshgrid(axis, axis)
    return across, down


def _field(side: int) -> Doubles:
    """1 inside the round field of view, 0 outside, soft over about a pixel."""
    across, down = _places(side)
    inside: Doubles = 1 / (1 + np.exp((np.hypot(across, down) - FIELD) * side / 1.5))
    return inside


def cameras(persons: int, rng: np.random.Generator) -> Ints:
    """Return the camera of each person: the one of the centre where the pictures were made."""
    return rng.integers(0, len(CAMERAS), persons)
