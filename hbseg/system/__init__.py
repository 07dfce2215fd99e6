"""The machine that hbseg runs on: its processes, its CPU, how our programs start and end."""
