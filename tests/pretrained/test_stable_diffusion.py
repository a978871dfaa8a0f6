"""Stable Diffusion's networks and files, against what diffusers and transformers computed (`make_sd_fixtures.py`)."""

import json
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.formats.tensors import read_tensors, read_tensors_metadata
from diffjax.nn import TinyAutoencoder
from diffjax.pretrained import stable_diffusion as sd
from diffjax.pretrained.stable_diffusion import layout

FILE = Path(__file__).with_name("stable_diffusion.safetensors")
UNETS, KLS, TEXTS = ("sd1", "sd2", "sdxl", "pix2pix", "upscaler"), ("kl", "kl_plain"), ("clip", "openclip")
CASES = (*UNETS, *KLS, "taesd", *TEXTS)
METADATA = read_tensors_metadata(FILE)


@cache
def fixture(case):
    """(network, weights, inputs, outputs); arrays of the file by their last names."""
    config = json.loads(METADATA[case])
    parts = {kind: {} for kind in ("weights", "in", "out")}
    for name, x in read_tensors(FILE).items():
        of, kind, last = name.split("/")
        if of == case:
            parts[kind][last] = x
    return network(case, config), parts["weights"], parts["in"], parts["out"]


def network(case, config, **changes):
    if case == "control":
        return sd.controlnet_from_config(config, **changes)
    if case in UNETS:
        return sd.unet_from_config(config, pooled_width=6, **changes)
    return (sd.text_from_config if case in TEXTS else sd.vae_from_config)(config, **changes)


def variables(case, dtype):
    net, weights, *_ = fixture(case)
    params, notes = layout.from_tensors(layout.hub_layout(net), weights, "the fixture")
    assert notes == ()
    return net.clone(dtype=dtype, param_dtype=dtype), jax.tree.map(lambda x: jnp.asarray(x, dtype), params)


def unet(net, params, ins, dtype):
    x, cond = ins["x"], {k: v for k, v in ins.items() if k not in ("x", "t")}
    if x.shape[-1] > 4:
        x, cond["concat"] = x[..., :4], x[..., 4:]
    cast = lambda v: jnp.asarray(v, dtype if v.dtype == np.float64 else jnp.int32)  # noqa: E731
    return {"F": jax.jit(net.apply)(params, cast(x), cast(ins["t"]), jax.tree.map(cast, cond))}


def autoencoder(net, params, ins, dtype):
    found = jax.jit(partial(net.apply, method="encode"))(params, jnp.asarray(ins["x"], dtype))
    out = {"x": jax.jit(partial(net.apply, method="decode"))(params, jnp.asarray(ins["z"], dtype))}
    return out | ({"z": found} if isinstance(net, TinyAutoencoder) else vars(found) | {"kl": found.kl()})


def text(net, params, ins, dtype):
    def both(params, ids):
        return net.apply(params, ids), net.apply(params, ids, skip=1), net.apply(params, ids, normalize=False)

    last, skipped, raw = jax.jit(both)(params, ins["ids"])
    assert (raw.context == raw.states[-1]).all()
    out = {f"state{i}": x for i, x in enumerate(last.states[:-1])}
    out |= {f"state{len(last.states) - 1}": raw.context, "last": last.context, "skipped": skipped.context}
    return out | {"pooled": last.pooled, "projected": last.projected}


def check(case, dtype, tolerance):
    net, params = variables(case, dtype)
    run = unet if case in UNETS else text if case in TEXTS else autoencoder
    found, expected = run(net, params, fixture(case)[2], dtype), fixture(case)[3]
    errors = {}
    for name, y in expected.items():
        assert found[name].dtype == dtype and found[name].shape == y.shape
        errors[name] = float(np.abs(found[name] - y).max() / np.abs(y).max())
    assert max(errors.values()) < tolerance, errors


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_a_network_is_the_original_s_in_float64(x64, case):
    check(case, jnp.float64, 1e-9)


@pytest.mark.parametrize("case", [
    case if case in ("sdxl", "kl", "clip") else pytest.param(case, marks=pytest.mark.slow) for case in CASES
])  # fmt: skip
@pytest.mark.slow
def test_a_network_is_the_original_s_in_float32(case):
    check(case, jnp.float32, 1e-4)
