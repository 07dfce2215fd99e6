"""Entry points of the steps: what pods and local processes start."""
