"""The rules of the package, read off the source: imports only go down, solvers share the driver, files stay small."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [  # diffjax/README.md draws them; a package imports from earlier lines, and never from its own
    "files printing",
    "checks text",
    "typing",
    "arrays cards conditions parameters data",
    "codec formats nn operators plots sde",
    "control corrections oracle precondition pretrained spatial_conditions times",
    "flow_maps guidance metrics",
    "samplers",
    "constraints likelihoods",
    "losses posterior",
    "model train",
    "model_files",
    "pipelines",
    "runs",
]
LAYER = {package: i for i, line in enumerate(LAYERS) for package in line.split()}
# what the files of one folder of solvers may share
SHARED = {"arguments", "drive", "ddim", "dpm_solver", "ode", "multistep", "remember"}
FILES = sorted(ROOT.glob("diffjax/**/*.py"))
EVERY_FILE = FILES + sorted(ROOT.glob("experiments/**/*.py"))
name = lambda path: str(path.relative_to(ROOT))  # noqa: E731


def imports(path):
    """The diffjax modules that a file imports, as tuples below the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "diffjax":
            for alias in node.names:
                yield (*node.module.split(".")[1:], alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("diffjax."):
                    yield tuple(alias.name.split(".")[1:])


@pytest.mark.parametrize(
    "path", [f for f in FILES if f.parent != ROOT / "diffjax" or f.name != "__init__.py"], ids=name
)
def test_imports_only_go_down(path):
    parts = path.relative_to(ROOT / "diffjax").with_suffix("").parts
    for target in imports(path):
        assert target[0] in LAYER, f"{path} imports diffjax.{'.'.join(target)}: name its layer in tests/test_layers.py"
        inside = target[0] == parts[0]
        assert inside or LAYER[target[0]] < LAYER[parts[0]], f"{path}: {target[0]} does not lie below {parts[0]}"
        if inside and parts[0] in {"samplers", "guidance", "constraints"} and path.name != "__init__.py":
            assert target[1] in SHARED, f"{path} imports its sibling {target[1]}"


def test_every_package_has_a_layer():
    packages = {f.relative_to(ROOT / "diffjax").parts[0].removesuffix(".py") for f in FILES} - {"__init__"}
    assert packages == set(LAYER)


@pytest.mark.parametrize("path", EVERY_FILE, ids=name)
def test_files_functions_and_parameter_lists_stay_small(path):
    lines = path.read_text().splitlines()
    networks = {"nn", "pretrained"} & set(path.parts)
    assert len(lines) <= 400
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            length = node.end_lineno - node.lineno + 1 - (len(doc.splitlines()) if doc else 0)
            assert length <= 40 or networks, f"{node.name} has {length} lines without its docstring"
            args = node.args
            count = len([a for a in args.posonlyargs + args.args + args.kwonlyargs if a.arg not in ("self", "cls")])
            assert count <= 8 or networks, f"{node.name} has {count} parameters"


@pytest.mark.parametrize(("word", "home"), [("pmap", "train/parallel.py"), ("orbax", "train/checkpoint.py")])
def test_one_file_names_pmap_and_one_names_orbax(word, home):
    users = {name(f) for f in FILES if re.search(rf"(import|jax\.)\s*\S*\b{word}\b", f.read_text())}
    assert users <= {f"diffjax/{home}"}


def test_test_files_have_names_of_their_own():
    """pytest imports them by their last name."""
    names = [path.name for path in (ROOT / "tests").glob("**/test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_tests_mirror_the_package():
    for test in (ROOT / "tests").glob("**/test_*.py"):
        folder = test.parent.relative_to(ROOT / "tests")
        assert (ROOT / "diffjax" / folder).is_dir() or folder.name in ("experiments", "notebooks", "cases"), (
            f"{test} mirrors no folder"
        )
