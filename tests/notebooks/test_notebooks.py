"""Every notebook is committed with the outputs of its code, and runs from top to bottom."""

import importlib.util
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from diffjax import pretrained
from diffjax.data import packages

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ANY = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
PATHS = re.compile(r"/(home|Users|root|tmp|work|mnt|opt|usr|content)/|[A-Z]:\\\\?Users")  # of someone's machine
NOISE = re.compile(r"Warning\b|WARNING|it/s\]|step/s|\x1b\[")  # warnings, progress bars, colours of a terminal

SMALLER = {  # trainings, samples, chains and grids, so that the notebooks run for little longer than they compile
    "01_quickstart": {r"steps=1000": "steps=4", r"steps=50": "steps=4", r"8\.0, 60": "8.0, 3", r":200\]": ":8]"},
    "02_lecture_in_pictures": {
        r"\b([36])00\b": r"\g<1>0",
        r"\b3000\b": "300",
        r"\b[24]000\b": "200",
        r"\b8000\b": "400",
        r"\b10_000\b": "200",
        r"\b500\b": "50",
        r"1001, 1\.0": "101, 1.0",
        r"n_steps=100": "n_steps=10",
        r"9, 52": "9, 5",
        r"50, 250": "20, 30",
    },
    "03_one_model_ten_tasks": {r"steps=\d+": "steps=6", r"sde, [34]0\)": "sde, 4)", r"21\)": "5)", r"5000": "300"},
    "04_flow_maps": {r"2500": "250", r"\b500\b": "50", r"\(4000, 2\)": "(400, 2)", r"sde, 200": "sde, 20"},
    "05_text_to_image": {
        r"1\.0, 2\.0, 3\.0, 4\.0": "3.0",
        r"\b96\b": "2",
        r"steps=30": "steps=4",
        r"steps=200": "steps=3",
        r"sde, 24": "sde, 6",
        r"24, 3": "6, 2",
        r"sample\(key, 8": "sample(key, 8, steps=3",
    },
}

WITH_MINILM = ("05_text_to_image",)

spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
execute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(execute)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """What a cell puts out, in order: a picture as such, printed text by its number of lines."""
    found: list = []
    for output in cell.outputs:
        if output.output_type != "stream":
            found.append("picture" if "image/png" in output.data else sorted(output.data))
        elif output.name == "stdout":
            before = found.pop() if found and isinstance(found[-1], int) else 0  # the kernel may send it in parts
            found.append(before + output.text.count("\n"))
    return found


def texts(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield output.get("text", "") or output.data.get("text/plain", "")


@ANY
def test_its_outputs_are_those_of_its_code(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["code_hash"] == execute.code_hash(notebook), "run python notebooks/execute.py"
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(kinds(cell).count("picture") for cell in cells) >= 5
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)


@ANY
def test_it_is_small_and_carries_nothing_of_a_machine(path):
    assert path.stat().st_size < 1_000_000
    notebook = nbformat.read(path, as_version=4)
    found = [*texts(notebook), *(cell.source for cell in notebook.cells)]
    assert not [text for text in found if PATHS.search(text) or NOISE.search(text)]
    assert all(output.get("name") != "stderr" for cell in code_cells(notebook) for output in cell.outputs)
    assert not [cell for cell in notebook.cells if "execution" in cell.metadata]


@ANY
def test_it_ends_with_exercises(path):
    last = nbformat.read(path, as_version=4).cells[-1]
    assert last.cell_type == "markdown" and last.source.startswith("## Exercises")
    assert 2 <= len(re.findall(r"^\d\. ", last.source, re.MULTILINE)) <= 3


@pytest.mark.slow
@ANY
def test_it_runs(path, monkeypatch):
    """In smaller sizes: what is compared is which outputs there are, not what they say."""
    if path.stem in WITH_MINILM:
        try:
            packages.find(*pretrained.MINILM)
        except FileNotFoundError:
            pytest.skip("the text encoder, of `make data`, is not here")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    committed, source = [kinds(cell) for cell in cells], "\n".join(cell.source for cell in cells)
    for large, small in SMALLER[path.stem].items():
        assert re.search(large, source), large
        for cell in cells:
            cell.source, cell.outputs = re.sub(large, small, cell.source), []
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    assert [kinds(cell) for cell in cells] == committed
