"""Run the notebooks and write their outputs into them.

    python notebooks/execute.py                # all; or the names of some

Each runs from top to bottom in a kernel of its own, in its folder. The hash of its code is kept in its metadata, so
that a test finds out where code was changed and not run again. `pip install -e '.[notebooks]'` brings what it needs.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent


def code_hash(notebook: nbformat.NotebookNode) -> str:
    """Of the code cells, in their order."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def small(png: str) -> str:
    """The picture, base64 both ways, with a palette of 256 colours or 64 greys: less than half of its size."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    grey = all(r == g == b for _, (r, g, b) in picture.getcolors(1 << 24))
    out = io.BytesIO()
    picture.quantize(64 if grey else 256, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def execute(path: Path, timeout: int = 600) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run. Raises nbclient's CellExecutionError where a cell does."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]  # progress bars and warnings
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = small(output.data["image/png"])
    notebook.metadata["code_hash"] = code_hash(notebook)
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="file names; all notebooks by default")
    names = parser.parse_args().names
    for path in [HERE / name for name in names] or sorted(HERE.glob("*.ipynb")):
        nbformat.write(execute(path), path)
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
