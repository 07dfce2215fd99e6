"""Default configs of the steps, in YAML."""
