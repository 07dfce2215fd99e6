"""Objects of the Kubernetes API as plain Python data, and the one place that names their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]
"""An object that is only read."""
Manifest = dict[str, Any]
"""An object that is built or completed here, or that the API returned."""
