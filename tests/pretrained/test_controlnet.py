"""ControlNet against diffusers' (`make_sd_fixtures.py`): numbers, names, files, and what does not fit."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_stable_diffusion import METADATA, fixture
from test_stable_diffusion_files import FULL, digest

from diffjax.nn import ConditionalUNet, Control, ControlNet, presets
from diffjax.pretrained import stable_diffusion as sd
from diffjax.pretrained.stable_diffusion import layout

SMALL = ConditionalUNet(channels=(8, 16), layers=1, attention=(True, False), heads=2, context_width=6, groups=4)
NET = ControlNet(SMALL, hint_channels=(4, 6))


@pytest.mark.slow
def test_the_maps_and_what_a_u_net_makes_of_them_are_those_of_diffusers(x64):
    net, weights, ins, outs = fixture("control")
    unet, unet_weights, *_ = fixture("sd1")
    params, unet_params = (sd.from_hub(*pair)[0] for pair in ((net, weights), (unet, unet_weights)))
    types = dict(dtype=jnp.float64, param_dtype=jnp.float64)

    @jax.jit
    def both(params, unet_params, ins):
        cond = {"context": ins["context"]}
        control = net.clone(**types).apply(params, ins["x"], ins["t"], cond | {"hint": ins["hint"]})
        control = jax.tree.map(lambda h: 0.5 * h, control)
        return control, unet.clone(**types).apply(unet_params, ins["x"], ins["t"], cond | {"control": control})

    wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (params, unet_params, ins))
    control, F = both(*wide)
    found = {f"down{i}": h for i, h in enumerate(control.down)} | {"mid": control.middle, "F": F}
    assert found.keys() == outs.keys()
    for name, y in outs.items():
        assert np.abs(found[name] - y).max() / np.abs(y).max() < 1e-9, name


@pytest.mark.parametrize(("preset", "parameters", "tensors"), [
    ("sd1", 361_279_120, 340), pytest.param("sd2", 364_228_240, 340, marks=pytest.mark.slow),
])  # fmt: skip
def test_full_size_names_and_counts_are_the_published_ones(preset, parameters, tensors):
    shapes = {n: stored.shape for n, stored in layout.hub_layout(ControlNet(getattr(presets, preset)())).items()}
    assert (sum(map(math.prod, shapes.values())), len(shapes)) == (parameters, tensors)
    if preset == "sd1":
        assert digest(shapes) == FULL["controlnet"]


def test_a_folder_comes_back_byte_for_byte(tmp_path):
    net, weights, *_ = fixture("control")
    config = json.loads(METADATA["control"])
    part = sd.Part(net, sd.from_hub(net, weights)[0])
    written = sd.write_part(tmp_path / "net", "controlnet", part)
    assert all(config[name] == value for name, value in written.items())
    read = sd.read_part(tmp_path / "net", "controlnet")
    assert read.net == net and read.notes == ()
    back = sd.to_hub(read.net, read.params)
    assert back.keys() == weights.keys() and all(x.tobytes() == weights[n].tobytes() for n, x in back.items())
    with pytest.raises(ValueError, match=r"lacks 'controlnet_mid_block\.bias'"):
        sd.from_hub(net, {n: x for n, x in weights.items() if n != "controlnet_mid_block.bias"})
    for changes, message in (
        (dict(global_pool_conditions=True), "'global_pool_conditions' = True"),
        (dict(controlnet_conditioning_channel_order="bgr"), "channel_order' = 'bgr'"),
        (dict(down_block_types=["DownBlock2D", "SkipDownBlock2D"]), "'SkipDownBlock2D'"),
        (dict(_class_name="UNet2DConditionModel"), "of a 'UNet2DConditionModel'; known here are ControlNetModel"),
    ):
        with pytest.raises(ValueError, match=message):
            sd.controlnet_from_config(config | changes)


def arguments():
    return (jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), part) for part in layout.example(NET))


@pytest.mark.slow
def test_a_new_one_changes_nothing(key):
    x, t, cond = arguments()
    control = jax.jit(lambda key: NET.init_with_output(key, x, t, cond)[0])(key)
    assert [h.shape for h in control.down] == [(1, 8, 8, 8)] * 2 + [(1, 4, 4, 8), (1, 4, 4, 16)]
    assert control.middle.shape == (1, 4, 4, 16)
    assert not any(h.any() for h in jax.tree.leaves(control))


def test_conditions_that_do_not_fit_are_refused(key):
    x, t, cond = arguments()

    def refused(net, error, message, **changes):
        with pytest.raises(error, match=message):
            jax.eval_shape(lambda: net.init(key, x, t, cond | changes))

    refused(NET, ValueError, r'on "hint" \[1, 16, 16, 3\]', hint=None)
    refused(NET, ValueError, r'"hint"\] .* \[1, 16, 16, 3\], got \[1, 8, 8, 3\]', hint=x[..., :3])
    refused(NET, ValueError, r"besides", control=Control((), x))
    plain = {"context": cond["context"]}
    for value, error, message in (
        ([x], TypeError, "what a ControlNet returns"), (Control((x,), x), ValueError, "this U-Net has maps of the sha"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            jax.eval_shape(lambda value=value: SMALL.init(key, x, t, plain | {"control": value}))
