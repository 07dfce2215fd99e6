"""What needs an NVIDIA GPU: `python -m tests.gpu`, by hand, where there is one."""
