"""`import diffjax` alone has every package that its docstring names, and no public function hides a module."""

import importlib
import pkgutil
import re
import subprocess
import sys
import types

import pytest

import diffjax as dj


@pytest.mark.slow
def test_the_import_has_what_its_docstring_names():
    names = re.findall(r"`(\w+)`", dj.__doc__)
    assert {"samplers", "likelihoods", "train", "data"} <= set(names)
    check = f"import diffjax as dj, types; assert all(isinstance(getattr(dj, n), types.ModuleType) for n in {names})"
    subprocess.run([sys.executable, "-c", f"{check}; assert dj.__version__"], check=True)
    assert set(names) <= set(dir(dj))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dj.nothing  # noqa: B018


@pytest.mark.parametrize("package", [None, "likelihoods", "samplers", "constraints"])
def test_no_name_hides_a_module(package):
    package = dj if package is None else getattr(dj, package)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
        assert isinstance(getattr(package, module.name), types.ModuleType), module.name
