"""The doctor: checks of this machine, a cluster and storage, each with its fix."""
