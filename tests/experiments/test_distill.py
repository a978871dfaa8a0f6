"""The table of few-step models, at a size of seconds."""

import json

import numpy as np
import pytest

from diffjax import train


@pytest.fixture(scope="module")
def distill(load):
    return load("distill")


@pytest.mark.slow
def test_a_small_table(distill, tmp_path, capsys):
    loop = train.LoopConfig(steps=4, steps_per_call=2, log_every=2, checkpoint_every=0, sample_every=0)
    config = distill.Config(("LMD", "PD"), batch_size=8, teacher_steps=4, loop=loop, samples=64, workdir=tmp_path)
    summary = distill.main(config)
    assert set(summary) == {"floor"} | {
        f"{name}, {n}" for name in ("LMD", "PD", "DDIM on Flow", "DDIM on Cosine") for n in (1, 2)
    }
    assert np.isfinite(list(summary.values())).all()
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    table = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("LMD ", "PD ")) for line in table) == 2


def test_every_method_is_built_for_a_number_of_steps(distill):
    for name, method in distill.METHODS.items():
        assert callable(method(1000).loss), name
    with pytest.raises(SystemExit, match=r"unknown methods \['GAN'\]; choose among PD, CD"):
        distill.main(distill.Config(("GAN",)))
