"""LoRA files in every dialect against W + strength (alpha / rank) up down, and the refusals."""

import json

import hub_folders
import numpy as np
import pytest

from diffjax.formats.tensors import write_tensors
from diffjax.pretrained import stable_diffusion as sd
from diffjax.pretrained.stable_diffusion import lora

RANK = 2
LINEAR = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "up_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0"
PROJECTION = "mid_block.attentions.0.proj_in"  # a 1 x 1 convolution in version 1
CONVOLUTION = "down_blocks.0.resnets.0.conv1"
TEXT = "text_model.encoder.layers.1.self_attn.q_proj"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def parts():
    return hub_folders.parts()


def halves(parts, part, module):
    """(up, down, their product in the stored shape) for a layer."""
    shape = sd.to_hub(parts[part].net, parts[part].params)[f"{module}.weight"].shape
    kernel = shape[2:]
    up = RNG.normal(size=(shape[0], RANK, *[1] * len(kernel))).astype(np.float32)
    down = RNG.normal(size=(RANK, shape[1], *kernel)).astype(np.float32)
    return up, down, np.einsum("or,ri...->oi...", up.reshape(-1, RANK), down)


def check(parts, file, expected, strength=0.7):
    """`expected`: {(part, module): change at strength 1}."""
    merged = sd.merge_lora(parts, file, strength)
    for part, one in parts.items():
        before, after = sd.to_hub(one.net, one.params), sd.to_hub(one.net, merged[part].params)
        for name, x in before.items():
            change = expected.get((part, name.removesuffix(".weight")), 0)
            np.testing.assert_allclose(after[name], x + strength * change, atol=1e-5)
    changed = {part for part, _ in expected}
    assert all(merged[part] is one for part, one in parts.items() if part not in changed)


def test_kohya_s_names(parts, tmp_path):
    tensors, expected = {}, {}
    alphas = {LINEAR: 4.0, OUT: None, PROJECTION: 1.0, CONVOLUTION: 3.0, TEXT: 2.0}
    for module, alpha in alphas.items():
        part = "text_encoder" if module == TEXT else "unet"
        up, down, product = halves(parts, part, module)
        key = ("lora_te_" if module == TEXT else "lora_unet_") + module.replace(".", "_")
        tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
        if alpha is not None:
            tensors[f"{key}.alpha"] = np.array(alpha, np.float32)
        expected[part, module] = (1 if alpha is None else alpha / RANK) * product
    write_tensors(tmp_path / "a.safetensors", tensors)
    check(parts, tmp_path / "a.safetensors", expected)
    check(parts, tmp_path / "a.safetensors", expected, -1.0)


def test_kohya_s_names_of_xl():
    parts = hub_folders.parts(xl=True)
    table = lora.modules(parts)
    place = "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    assert table["lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q"] == table[f"lora_unet_{place}"]
    text = TEXT.replace(".", "_")
    assert table[f"lora_te1_{text}"][0] == "text_encoder" and table[f"lora_te2_{text}"][0] == "text_encoder_2"


@pytest.mark.parametrize("dialect", ["diffusers", "lora.down", "processor"])
def test_diffusers_names(parts, tmp_path, dialect):
    modules = {"unet": [LINEAR, OUT]} if dialect == "processor" else {"unet": [LINEAR, OUT, PROJECTION, CONVOLUTION]}
    modules |= {} if dialect == "processor" else {"text_encoder": [TEXT]}
    tensors, expected = {}, {}
    for part, names in modules.items():
        for module in names:
            up, down, product = halves(parts, part, module)
            key = f"{part}.{module}"
            if dialect == "processor":
                attention, _, site = key.removesuffix(".0").rpartition(".")
                key = f"{attention}.processor.{site}_lora"
            down_name, up_name = ("lora_A", "lora_B") if dialect == "diffusers" else ("lora.down", "lora.up")
            if dialect == "processor":
                down_name, up_name = "down", "up"
            tensors |= {f"{key}.{up_name}.weight": up, f"{key}.{down_name}.weight": down}
            expected[part, module] = (1.5 if dialect == "diffusers" and part == "unet" else 1) * product
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": RANK, "unet.lora_alpha": 3.0})}
    write_tensors(tmp_path / "a.safetensors", tensors, metadata if dialect == "diffusers" else None)
    check(parts, tmp_path / "a.safetensors", expected)


@pytest.mark.parametrize("rooted", [False, True])
def test_peft_s_folder(parts, tmp_path, rooted):
    tensors, expected = {}, {}
    for module in (LINEAR, OUT, CONVOLUTION):
        up, down, product = halves(parts, "unet", module)
        key = f"base_model.model.{module}"
        tensors |= {f"{key}.lora_B.weight": up, f"{key}.lora_A.weight": down}
        alpha = 5 if module == OUT else 3
        expected["unet", module] = alpha / (RANK**0.5 if rooted else RANK) * product
    config = dict(r=RANK, lora_alpha=3, alpha_pattern={r"attn2.to_out.0": 5}, use_rslora=rooted)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    write_tensors(tmp_path / "adapter_model.safetensors", tensors)
    check(parts, tmp_path, expected)


def test_the_type_stays(parts, tmp_path):
    up, down, product = halves(parts, "text_encoder", TEXT)
    write_tensors(tmp_path / "a.safetensors", {f"{TEXT}.lora_B.weight": up, f"{TEXT}.lora_A.weight": down})
    one = parts["text_encoder"]
    half = one._replace(
        params=sd.from_hub(one.net, {n: x.astype(np.float16) for n, x in sd.to_hub(*one[:2]).items()})[0]
    )
    merged = sd.merge_lora({"text_encoder": half}, tmp_path / "a.safetensors")["text_encoder"]
    after = sd.to_hub(one.net, merged.params)[f"{TEXT}.weight"]
    assert after.dtype == np.float16
    np.testing.assert_allclose(after, sd.to_hub(*one[:2])[f"{TEXT}.weight"] + product, atol=1e-2)


def test_what_does_not_fit_is_refused(parts, tmp_path):
    up, down, _ = halves(parts, "unet", LINEAR)
    file = tmp_path / "a.safetensors"

    def refused(message, **tensors):
        write_tensors(file, {name.replace("__", "."): x for name, x in tensors.items()})
        with pytest.raises(ValueError, match=message):
            sd.merge_lora(parts, file)

    good = {f"unet.{LINEAR}.lora_B.weight": up, f"unet.{LINEAR}.lora_A.weight": down}
    wrong = {name.replace("to_q", "to_qq"): x for name, x in good.items()}
    refused(r"of the 1 layers in .* none fit .*attn1.to_qq' \(similar: .*attn1.to_q'", **wrong)
    refused(r"of the 2 layers in .* 1 fit .*attn1.to_qq'", **wrong, **good)
    refused("has 'up' alone", **{f"unet.{LINEAR}.lora_B.weight": up})
    refused("do not make a weight of .*another version", **(good | {f"unet.{LINEAR}.lora_A.weight": down[:, :4]}))
    refused("do not make a weight of", **(good | {f"unet.{LINEAR}.lora_A.weight": down[:1]}))
    refused("NaN or infinite", **(good | {f"unet.{LINEAR}.lora_B.weight": np.nan * up}))
    refused("an alpha, but no weights", **good, **{"lora_unet_conv_in.alpha": np.float32(4)})
    refused("must be one number", **good, **{f"unet.{LINEAR}.alpha": np.ones(2, np.float32)})
    refused("DoRA", **good, **{f"unet.{LINEAR}.lora_magnitude_vector": up})
    refused("DoRA", **good, **{f"unet.{LINEAR}.dora_scale": up})
    refused("LoHa", **{"lora_unet_conv_in.hada_w1_a": up})
    refused("LoKr", **{"lora_unet_conv_in.lokr_w1": up})
    refused("middle tensor", **{"lora_unet_conv_in.lora_mid.weight": up})
    refused("no tensor of a LoRA", conv_in__weight=up)
    refused("holds no LoRA")
    refused("NaN or infinite", **(good | {f"unet.{LINEAR}.lora_B.weight": up * np.nan}))
    refused("NaN or infinite", **good, **{f"unet.{LINEAR}.alpha": np.full((), np.inf, np.float32)})
    refused("must be one number", **good, **{f"unet.{LINEAR}.alpha": np.ones(2, np.float32)})
    refused("an alpha, but no weights, of 'unet.other'", **good, **{"unet.other.alpha": np.ones((), np.float32)})
    names = {name.replace(".weight", ".default_0.weight"): x for name, x in good.items()}
    write_tensors(file, names | {f"unet.{LINEAR}.alpha": np.ones(1, np.float32)})
    assert sd.read_lora(file)[f"unet.{LINEAR}"].scale == 1 / RANK
    with pytest.raises(FileNotFoundError, match="no weights at"):
        sd.merge_lora(parts, tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="pickle"):
        sd.merge_lora(parts, tmp_path / "a.ckpt")
