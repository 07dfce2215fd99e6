"""From attenuation to grey values: blur, quantum noise, tone curve, background, vendor's look."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from hbseg.data.synth.frame import SIZE, Image, blurred
from hbseg.data.synth.looks import Looks

BLUR: Final = 0.9
"""Sigma of the detector's own blur, pixels."""

QUANTA: Final = (5500.0, 12000.0)
"""Range of photons a pixel in the open beam; noise grows where fewer arrive."""

PLAIN_GAMMA: Final = (1.0, 1.22)
PLAIN_GAIN: Final = (0.42, 0.55)
"""Plain tone curve: 255 * gain * attenuation ** gamma."""

SHOULDER: Final = 232.0
"""Grey value that the plain tone curve approaches."""

WIDE_SHOULDER: Final = 252.0
"""The same for other exposures."""

THICK: Final = 1.2
"""Attenuation of the wrist, which another exposure maps to a chosen grey value."""

REDUCTION: Final = 8
"""Shading and background are made at this fraction of the resolution."""


def picture(attenuation: Image, looks: Looks, rng: np.random.Generator) -> Image:
    """[2048, 2048] grey values (0 to 255, not yet rounded) of an attenuation map."""
    blur = float(rng.uniform(1.2, 2.6)) if rng.random() < looks.blur else BLUR
    grey = _toned(_noisy(blurred(attenuation, blur), rng), looks, rng)
    if rng.random() < looks.local_contrast:
        grey = _equalised(grey, rng)
    background = _side_gradient(rng)
    if rng.random() < looks.shading:
        background += _shading(rng)
    if rng.random() < looks.grey_background:
        level = float(rng.uniform(20, 110))
        grey *= 1 - level / 255
        background += level
    grey += cv2.resize(background, (SIZE, SIZE))
    return grey


def _noisy(attenuation: Image, rng: np.random.Generator) -> Image:
    """Poisson-like noise of the transmitted photons, seen in the attenuation."""
    quanta = float(rng.uniform(*QUANTA))
    spread = np.exp(np.minimum(attenuation * np.float32(0.95), np.float32(2.5)))
    noise = rng.standard_normal(attenuation.shape, dtype=np.float32)
    noise *= spread
    noise *= np.float32(quanta**-0.5)
    noise += attenuation
    np.maximum(noise, 0, out=noise)
    return noise


def _toned(attenuation: Image, looks: Looks, rng: np.random.Generator) -> Image:
    """Grey values: the plain curve, or one of another exposure and latitude."""
    gamma, gain = rng.uniform(*PLAIN_GAMMA), rng.uniform(*PLAIN_GAIN)
    if rng.random() < looks.exposure:
        return _wide_latitude(attenuation, rng)
    grey: Image = np.power(attenuation, np.float32(gamma))
    grey *= np.float32(255 * gain)
    return _shouldered(grey, SHOULDER)


def _wide_latitude(attenuation: Image, rng: np.random.Generator) -> Image:
    """A logarithmic curve: flesh is nearly as bright as bone at a high latitude."""
    latitude = float(np.exp(rng.uniform(np.log(0.2), np.log(6.0))))
    white = float(rng.uniform(120, 250))
    grey: Image = np.log1p(attenuation * np.float32(latitude))
    grey *= np.float32(white / np.log1p(latitude * THICK))
    return _shouldered(grey, WIDE_SHOULDER)


def _shouldered(grey: Image, limit: float) -> Image:
    """Grey values that approach `limit` instead of being cut there, in place."""
    grey *= np.float32(1 / limit)
    np.tanh(grey, out=grey)
    grey *= np.float32(limit)
    return grey


def _equalised(grey: Image, rng: np.random.Generator) -> Image:
    """Differences to the neighbourhood (25 to 80 pixels) drawn out, edges with them."""
    sigma, detail = float(rng.uniform(25, 80)), float(rng.uniform(0.3, 1.2))
    small = cv2.resize(grey, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    slow = blurred(np.asarray(small, np.float32), sigma / 4) * np.float32(detail)
    result = grey * np.float32(1 + detail)
    result -= cv2.resize(slow, (SIZE, SIZE))
    return _shouldered(np.maximum(result, 0, out=result), WIDE_SHOULDER)


def _side_gradient(rng: np.random.Generator) -> Image:
    """Background of 5 to 28 that rises to one side and a little to the bottom."""
    at = np.arange(0, SIZE, REDUCTION, dtype=np.float32) / SIZE
    across = at if rng.random() < 0.5 else 1 - at
    rise, fall = float(rng.uniform(6, 22)), float(rng.uniform(0, 6))
    gradient = 5 + rise * across[None, :] ** 2 + fall * at[:, None]
    return np.asarray(gradient, np.float32)


def _shading(rng: np.random.Generator) -> Image:
    """Brighter (positive) or darker towards the edges, around a random middle."""
    at = np.arange(0, SIZE, REDUCTION, dtype=np.float32) / SIZE - 0.5
    x, y = rng.uniform(-0.25, 0.25, 2)
    strength = float(rng.uniform(-40, 60))
    distance = np.square(at[:, None] - y) + np.square(at[None, :] - x)
    base = max(0.0, -strength * 0.6)
    return np.asarray(base + strength * distance, np.float32)
