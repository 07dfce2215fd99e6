"""A demo with other specs than `hbseg demo` takes; `test_chain.py` starts it as a process.

    python small_demo.py FOLDER CONFIG HANDS TEST_HANDS [PICTURES]

It tells what happens to each task, and the result as JSON at the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

from hbseg.config.specs import PrepareSpec
from hbseg.control.pipeline import Event
from hbseg.control.specs import chain_specs
from hbseg.demo import Listener, run_demo


def main(folder: str, config: str, hands: str, test_hands: str, pictures: str = "") -> None:
    """Run the demo with two ranks, as on two cores: the tests go on with two, whatever is here."""
    with patch("hbseg.demo.usable_cores", return_value=2):
        result = run_demo(
            Path(folder),
            chain_specs(config=Path(config)),
            PrepareSpec(),
            Listener(_say, _tell, lambda what, done, total: None),
            hands=int(hands),
            test_hands=int(test_hands),
            images=Path(pictures) if pictures else None,
        )
    _say("RESULT " + json.dumps({"dice": result.dice, "bones": len(result.dice_by_bone)}))


def _say(text: str) -> None:
    print(text, flush=True)


def _tell(event: Event) -> None:
    _say(f"{event.happening} {event.task.prefix}")


if __name__ == "__main__":
    main(*sys.argv[1:])
