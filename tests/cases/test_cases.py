"""Each script here stands for a kind of fault, and ends with 0 where the behaviour is right."""

import runpy
from pathlib import Path

import jax
import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted(p.stem for p in HERE.glob("*.py") if p.stem != "fuzz" and not p.stem.startswith("test_"))


@pytest.fixture(autouse=True)
def precision():
    """A script may switch double precision on."""
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.slow
def test_case(name, capsys):
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")
    assert not stop.value.code, capsys.readouterr().out
