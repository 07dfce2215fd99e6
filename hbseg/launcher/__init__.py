"""The launcher around a step: what a process of the local backend and a container start."""
