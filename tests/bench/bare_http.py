"""The requests alone: `bare_http FILE CONNECTIONS` gets each address of the file.

All addresses are of one server; connections are kept, and each has a thread of its own.
"""

from __future__ import annotations

import http.client
import sys
import threading
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit


def main(file: str, connections: int) -> None:
    waiting: SimpleQueue[str] = SimpleQueue()
    for address in Path(file).read_text().splitlines():
        waiting.put(address)
    readers = [threading.Thread(target=read, args=(waiting,)) for _ in range(connections)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    if not waiting.empty():
        sys.exit("some addresses were not read")


def read(waiting: SimpleQueue[str]) -> None:
    """Get addresses until none is left; an answer other than 200 ends this reader."""
    connection = None
    while True:
        try:
            parts = urlsplit(waiting.get_nowait())
        except Empty:
            return
        connection = connection or http.client.HTTPConnection(parts.netloc, timeout=60)
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        if not answer.read() or answer.status != 200:
            raise RuntimeError(f"{answer.status} from {parts.netloc}{parts.path}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
