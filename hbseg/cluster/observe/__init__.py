"""What the cluster has of runs: the states of tasks, why they wait, events, logs."""
