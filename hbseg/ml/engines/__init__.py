"""Engines: compiled networks of a fixed batch size, their contract, and their kinds."""
