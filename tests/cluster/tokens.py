"""Tokens of ServiceAccounts with other times in them, signed anew by our own node's key."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path


def with_life(token: str, signing_key: Path, seconds: float) -> str:
    """Return the token as if it had been made an hour before its end, `seconds` from now.

    A negative number makes one that has run out; the API server allows for a minute of difference
    between clocks.
    """
    header, payload, _ = token.split(".")
    end = int(time.time() + seconds)
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims |= {"iat": end - 3600, "nbf": end - 3600, "exp": end}
    signed = f"{header}.{_encoded(json.dumps(claims).encode())}"
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(signing_key)],
        input=signed.encode(),
        capture_output=True,
        check=True,
    )
    return f"{signed}.{_encoded(signature.stdout)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
