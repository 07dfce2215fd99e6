"""hbseg: segmentation of the 29 bones of the hand in X-rays."""

__version__ = "0.1.0"
