"""A run, its tasks, their attempts and progress: what every backend and the control plane share."""
