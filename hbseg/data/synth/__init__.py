"""Synthetic hand radiographs with exact masks: a model of bones, flesh, beam and detector.

`synthetic_hand` makes one hand, `write_raw_set` a whole raw data set in the task's layout.
"""

from hbseg.data.synth.hand import SyntheticHand, synthetic_hand
from hbseg.data.synth.looks import TASK_LOOKS, WIDE_LOOKS, Looks
from hbseg.data.synth.raw_set import write_raw_set

__all__ = [
    "TASK_LOOKS",
    "WIDE_LOOKS",
    "Looks",
    "SyntheticHand",
    "synthetic_hand",
    "write_raw_set",
]
