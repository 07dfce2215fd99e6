"""What the cluster has of a run: the states of tasks, why they wait, events, logs."""
