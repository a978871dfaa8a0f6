"""Every preset's dry run, with a network of one linear map, and every experiment's --help."""

import dataclasses
import runpy
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from diffjax import train
from diffjax.runs import experiment

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TRAINED = ("score_sde", "ddpm", "edm", "flow_matching", "ncsn")


class Pixel(nn.Module):
    """A linear map of each pixel, and of the class where there are classes."""

    channels: int
    num_classes: int = 0

    @nn.compact
    def __call__(self, x, c_noise, cond=None, *, train=False):
        y = nn.Dense(self.channels)(x)
        if not self.num_classes:
            return y
        label = jnp.full(len(x), self.num_classes) if cond is None else cond["label"]
        return y + nn.Embed(self.num_classes + 1, self.channels)(label)[:, None, None]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.slow
def test_every_preset_has_a_dry_run(load, name, monkeypatch, capsys):
    def step_cost(step, state, *args, compile):
        assert jax.tree.structure(jax.eval_shape(step, state, *args)[0]) == jax.tree.structure(state)
        return {"parameters": train.count(state.params), "state_bytes": 1, "memory_bytes": 1, "flops": 1e9}

    monkeypatch.setattr(train, "step_cost", step_cost)
    module = load(name)
    for make in module.PRESETS.values():
        config = make()
        config = dataclasses.replace(config, data="digits" if config.data == "auto" else config.data)  # few, and small
        images = 1 if config.data in ("digits", "fashion_mnist") else 3
        outputs = getattr(config.net, "out_channels", None) or images
        net = Pixel(outputs, getattr(config.net, "num_classes", 0))
        module.main(dataclasses.replace(config, net=net, dry_run=True))
    assert capsys.readouterr().out.count("GFLOP") == len(module.PRESETS)


def test_the_classes_of_a_preset_reach_its_dry_run(load):
    presets = load("score_sde").PRESETS
    assert presets["cpu-classes"]().net.num_classes == 10  # the preset whose batch needs labels


def configured(module):
    presets = getattr(module, "PRESETS", None) or {"cpu": module.Config}
    return lambda: experiment.configure(presets, module.__doc__, ["--help"])


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.py")), ids=lambda path: path.stem)
def test_help_has_no_addresses_and_fits_the_terminal(load, path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as caught:
        configured(load(path.stem))()
    lines = capsys.readouterr().out.splitlines()
    assert not caught.value.code and not any(" at 0x" in line for line in lines)
    assert max(len(line) for line in lines if not line.startswith("usage:")) <= 121


@pytest.mark.parametrize("path", sorted((EXPERIMENTS / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_explain_themselves_and_run_nothing(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    assert not stop.value.code and "benchmarks" in capsys.readouterr().out
