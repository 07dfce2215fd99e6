"""Overlays, and the report of a run as one HTML file. Never imports torch."""
