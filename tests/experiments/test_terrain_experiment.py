"""The experiment on terrain, with a network of a few operators in the place of the real one."""

import json

import numpy as np
import onnx_files
import pytest
from PIL import Image

pytest.importorskip("onnx")


@pytest.mark.slow
def test_a_run_writes_pictures_and_figures(load, tmp_path):
    module = load("terrain")
    path = onnx_files.terrain(tmp_path / "stand-in.onnx")
    config = module.Config(path, images=1, samples=2, levels=2, steps=1, method="ddrm", workdir=tmp_path / "run")
    summary = module.main(config)
    assert json.loads((config.workdir / "summary.json").read_text()) == summary
    assert summary["means 4 x 4, A+ y: residual"] < 0.01 and all(np.isfinite(value) for value in summary.values())
    for name in ("unconditional", "inverse"):
        assert np.asarray(Image.open(config.workdir / f"{name}.png")).std() > 10


def test_what_is_missing_is_said(load, tmp_path):
    module = load("terrain")
    with pytest.raises(SystemExit, match=r"no file|not exist|No such file|there is no"):
        module.main(module.Config(tmp_path / "absent.onnx", workdir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit, match="no ONNX file"):
        (tmp_path / "text.onnx").write_text("not a network")
        module.main(module.Config(tmp_path / "text.onnx", workdir=tmp_path / "run"))
