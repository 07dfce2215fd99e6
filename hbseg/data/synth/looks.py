"""How often a synthetic hand departs from the plain look of the task's own pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Probabilities (0 to 1), one independent draw a hand unless stated otherwise.

    The defaults give hands like the reference model: pixel mean .124, deviation .168 of 1.
    """

    young: float = 0.0
    """Adolescent proportions (a draw a person): short carpus with gaps, slim bones."""
    reframed: float = 0.0
    """Another size (0.6 to 1.3) and place of the hand in the picture, more tilt."""
    closed_fingers: float = 0.0
    """Fingers and thumb held together."""
    exposure: float = 0.0
    """Another tone curve: bright or dark, wide latitude as on film and old digital plates."""
    grey_background: float = 0.0
    """Background of 20 to 110 instead of nearly black."""
    shading: float = 0.0
    """Vignetting or its inverse: edges darker or brighter than the middle."""
    local_contrast: float = 0.0
    """A vendor's local contrast equalisation and edge enhancement."""
    blur: float = 0.0
    """More blur than the detector's own, sigma up to 2.6 pixels."""
    collimated: float = 0.0
    """Slanted collimator edges with penumbra; black, grey or white outside."""
    letterboxed: float = 0.0
    """Straight hard borders of one grey value, as padding and scanners make them."""
    strip: float = 0.8
    """Bright strip along the top edge."""
    marker: float = 0.12
    """Side letter in lead, upright and plain."""
    odd_marker: float = 0.0
    """Marker turned, boxed, with initials, a wrong letter, or a blank label."""
    line: float = 0.0
    """A thin bright or dark line across the picture (plate scratch, seam)."""
    ring: float = 0.10
    """Finger ring (a draw a person)."""
    sesamoid: float = 0.85
    """Sesamoid bone beside the head of the thumb's metacarpal (a draw a person)."""


TASK_LOOKS: Final = Looks(collimated=0.02, letterboxed=0.02)
"""Test hands: like the task's own pictures, hardly a border."""

WIDE_LOOKS: Final = Looks(
    young=0.3,
    reframed=0.4,
    closed_fingers=0.25,
    exposure=0.45,
    grey_background=0.3,
    shading=0.3,
    local_contrast=0.25,
    blur=0.25,
    collimated=0.25,
    letterboxed=0.15,
    strip=0.5,
    marker=0.15,
    odd_marker=0.25,
    line=0.06,
)
"""Training hands: what trains on them must work on pictures of other clinics; about a third show
the edge of the exposed field or of a letterbox."""
