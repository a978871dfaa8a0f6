"""Downloads with a checksum: a file gets its name only when it is complete and correct."""

from __future__ import annotations

import hashlib
import http.client
import sys
import urllib.parse
import urllib.request
from pathlib import Path

from diffjax.files import replacing


def fetch(url: str, path: Path, algorithm: str, checksum: str, help: str) -> Path:
    """Download `url` to `path`, unless it is there already; `algorithm` is hashlib's name of the checksum's kind.

    Raises:
      FileNotFoundError: the server cannot be reached; the message is `help`, which says what to do, and the cause.
      ValueError: the server sent something else.
    """
    if path.is_file():
        return path
    print(f"Downloading {path.name} from {urllib.parse.urlsplit(url).netloc} (once)", file=sys.stderr, flush=True)
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            data = response.read()
    except (OSError, http.client.HTTPException) as error:  # no network, no such file, a broken transfer
        raise FileNotFoundError(f"{help} (The download failed: {error}.)") from error
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if found != checksum:
        raise ValueError(f"{url} has the {algorithm} {found}, not {checksum}: it is not the file that was meant")
    with replacing(path) as part:
        part.write_bytes(data)
    return path
