"""Each script here stands for a kind of fault, and ends with 0 where the behaviour is right."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted(p.stem for p in HERE.glob("*.py") if p.stem != "fuzz" and not p.stem.startswith("test_"))
APART = {"likelihood_dtype"}  # it switches double precision on
SLOW = {"label_negative", "labels_dropped", *APART}  # networks, run operation by operation


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in SCRIPTS])
def test_case(name, capsys):
    path = HERE / f"{name}.py"
    if name in APART:
        env = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
        done = subprocess.run([sys.executable, path], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    assert not stop.value.code, capsys.readouterr().out
