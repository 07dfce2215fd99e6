"""The objects of a step and of a pipeline's runner, rendered and checked without a cluster."""
