"""Requests to the API of a cluster, and its answers; nothing here knows what they are about."""
