"""Cards: objects of the package survive the way through JSON, and nothing else is read or run."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import cards, nn, precondition

OBJECTS = {
    "an SDE": dj.VP(beta_max=10.0),
    "numbers as arrays": dj.VE(jnp.float32(0.02), sigma_max=10),
    "a table": dj.BetaTable.linear(100),
    "a U-Net": nn.presets.small(num_classes=10),
    "fixed features": nn.presets.ncsnpp(dtype=jnp.bfloat16),
    "a RefineNet": nn.presets.ncsnv2_small(),
    "modules inside": nn.CLIP(nn.Classifier(128, multipliers=(1, 2, 4))),
    "samplers inside": dj.PC(dj.ReverseDiffusion(), dj.Langevin(snr=0.16)),
    "a function": precondition.from_v,
    "a function of ours with settings": Partial(precondition.from_v, c_noise=precondition.clock(dj.VP())),
    "a library's function": jax.nn.silu,
    "infinity": dj.Churn(dj.Heun(), 40.0, 18),
    "a half": {"null": jnp.bfloat16(0.5)},
    "a dict": {"label": 10, "text": None},
    "nested tuples": ((1, (2.5, "text")), True),
}


@pytest.mark.parametrize("value", OBJECTS.values(), ids=OBJECTS)
def test_objects_come_back(value):
    form = json.loads(json.dumps(cards.to_json(value)))
    found = cards.from_json(form)
    assert isinstance(found, type(value)) or callable(value)
    assert cards.to_json(found) == form


def test_an_object_that_has_crossed_jit_has_the_same_card():
    sampler = dj.PC(dj.DDIM(0.5), dj.Langevin(snr=0.25))
    assert cards.to_json(jax.jit(lambda s: s)(sampler)) == cards.to_json(sampler)


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (lambda sde, network: None, TypeError, "cannot name it"),
        (Partial(precondition.from_v, c_noise=lambda sde, t: t), TypeError, r"c_noise.*cannot name it"),
        (nn.CLIP, TypeError, "cannot be written"),
        (object(), TypeError, "cannot be written"),
        (float("nan"), ValueError, "is NaN"),
        (jnp.array([0.0, jnp.inf]), ValueError, "not finite"),
        (jnp.zeros(20_000), ValueError, "too large"),
        (print, TypeError, "cannot"),
        (partial(print, 1), TypeError, "cannot"),
    ],
)
def test_what_a_card_cannot_hold(value, error, says):
    with pytest.raises(error, match=says):
        cards.to_json({"a": value})


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"function": "os.system", "args": ["true"], "kwargs": {}}, "does not have"),
        ({"function": "cards.importlib.import_module", "args": ["os"], "kwargs": {}}, "does not have"),
        ({"function": "samplers.drive.np.load"}, "does not have"),
        ({"function": "jax.nn.initializers.__builtins__"}, "does not have"),
        ({"class": "VPP", "fields": {}}, "does not have"),
        ({"class": "VP", "fields": {"beta": 1.0}}, r"fields \['beta'\]"),
        ({"class": "precondition.from_v", "fields": {}}, "no class of objects"),
        ({"dtype": "object"}, "dtype"),
        ({"clas": "VP"}, "unknown form"),
    ],
)
def test_damaged_cards_and_strange_names_are_refused(form, says):
    with pytest.raises(ValueError, match=says):
        cards.from_json(form)
