"""Names, shapes and counts of Stable Diffusion's weights, and its files: round trips to the bit, and refusals."""

import hashlib
import json
import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_stable_diffusion import CASES, METADATA, fixture

from diffjax.formats.tensors import read_tensors, read_tensors_metadata, write_tensors
from diffjax.nn import TinyAutoencoder, presets
from diffjax.parameters import flatten
from diffjax.pretrained import stable_diffusion as sd
from diffjax.pretrained.stable_diffusion import single_file
from diffjax.pretrained.stable_diffusion.layout import hub_layout

FULL = json.loads(METADATA["full_size"])
slow = lambda *args: pytest.param(*args, marks=pytest.mark.slow)  # noqa: E731
XL_CHANGES = (
    ("sdxl", dict(in_channels=9), 2_567_478_084, 1680),
    ("sdxl", dict(guidance_width=256), 2_567_545_604, 1681),
)


@cache
def part(case, dtype=None, **changes):
    net, weights, *_ = fixture(case)
    weights = {n: x if dtype is None else x.astype(dtype) for n, x in weights.items()}
    if changes.get("projection") == 0:
        weights.pop("text_projection.weight")
    net = net.clone(**changes)
    return sd.Part(net, *sd.from_hub(net, weights, case))


def version_1():
    return {"unet": part("sd1"), "vae": part("kl"), "text_encoder": part("clip")}


def version_2():
    text = part("openclip", projection=0)
    return {"unet": part("sd2", jnp.bfloat16), "vae": part("kl"), "text_encoder": text}


def version_xl():
    text = {"text_encoder": part("clip"), "text_encoder_2": part("openclip")}
    return {"unet": part("sdxl", np.float32), "vae": part("kl")} | text


VERSIONS = {"1": version_1, "2": version_2, "xl": version_xl}


def assert_same(parts, found):
    assert parts.keys() == found.keys()
    for name, one in parts.items():
        a, b = flatten(one.params), flatten(found[name].params)
        assert a.keys() == b.keys()
        for key, x in a.items():
            assert x.dtype == b[key].dtype and x.shape == b[key].shape and x.tobytes() == b[key].tobytes()


# Names and counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "changes", "parameters", "tensors"), [
    ("sd1", {}, 859_520_964, 686), slow("sd1", dict(in_channels=9), 859_535_364, 686),
    slow("sd1", dict(in_channels=8), 859_532_484, 686), slow("sd1", dict(guidance_width=256), 859_602_884, 687),
    ("sd2", {}, 865_910_724, 686), slow("sd2", dict(in_channels=9), 865_925_124, 686),
    slow("sd2", dict(in_channels=5), 865_913_604, 686), slow("sdxl", {}, 2_567_463_684, 1680),
    *[slow(*row) for row in XL_CHANGES], slow("sdxl_refiner", {}, 2_259_526_660, 1220),
    slow("sd_upscaler", {}, 473_398_020, 687), ("kl_autoencoder", {}, 83_653_863, 248),
    slow("kl_autoencoder", dict(latent=16, quant_convs=False), 83_819_683, 244),
    slow("kl_autoencoder", dict(channels=(128, 256, 512)), 55_325_927, 204), ("taesd", {}, 2_445_063, 134),
    ("clip_l", {}, 123_060_480, 196), slow("openclip_h", {}, 340_387_840, 372),
    slow("openclip_bigg", {}, 694_659_840, 517),
])  # fmt: skip
def test_full_size_names_and_counts_are_the_published_ones(name, changes, parameters, tensors):
    net = TinyAutoencoder(**changes) if name == "taesd" else getattr(presets, name)(**changes)
    shapes = {n: stored.shape for n, stored in hub_layout(net).items()}
    assert (sum(map(math.prod, shapes.values())), len(shapes)) == (parameters, tensors)
    if not changes:
        assert digest(shapes) == FULL[name]


def digest(shapes):
    text = "\n".join(f"{n} {list(shape)}" for n, shape in sorted(shapes.items()))
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("case", CASES)
def test_weights_return_to_the_hub_s_names_bit_for_bit(case):
    net, weights, *_ = fixture(case)
    back = sd.to_hub(net, part(case).params)
    assert back.keys() == weights.keys()
    assert all(x.tobytes() == weights[n].tobytes() and x.dtype == np.float16 for n, x in back.items())


def test_names_in_single_files():
    """As CompVis, Stability and OpenCLIP have them, at every kind of place."""
    names = single_file.file_layout({n: p.net for n, p in version_1().items()})
    unet, vae, text = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
    for name in (
        f"{unet}time_embed.0.weight", f"{unet}input_blocks.0.0.bias", f"{unet}input_blocks.1.0.in_layers.0.weight",
        f"{unet}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", f"{unet}input_blocks.2.0.op.weight",
        f"{unet}input_blocks.3.0.skip_connection.weight", f"{unet}middle_block.1.proj_in.weight",
        f"{unet}middle_block.2.out_layers.3.bias", f"{unet}output_blocks.1.1.conv.weight",
        f"{unet}output_blocks.3.2.conv.weight", f"{unet}output_blocks.5.1.norm.weight", f"{unet}out.2.weight",
        f"{unet}output_blocks.0.0.emb_layers.1.weight", f"{vae}encoder.down.0.downsample.conv.weight",
        f"{vae}encoder.mid.attn_1.q.weight", f"{vae}decoder.up.2.upsample.conv.weight", f"{vae}quant_conv.weight",
        f"{vae}decoder.up.1.block.0.norm1.weight", f"{vae}encoder.down.1.block.0.nin_shortcut.weight",
        f"{vae}decoder.mid.attn_1.proj_out.bias", f"{text}encoder.layers.2.mlp.fc1.weight",
    ):  # fmt: skip
        assert name in names, name
    assert names[f"{vae}encoder.mid.attn_1.q.weight"].shape == (16, 16, 1, 1)
    names = single_file.file_layout({n: p.net for n, p in version_xl().items()})
    text = "conditioner.embedders.1.model."
    assert names[f"{text}text_projection"].shape == (8, 6)
    assert names[f"{text}transformer.resblocks.0.attn.in_proj_weight"].shape == (24, 8)
    for name in (
        f"{text}positional_embedding", f"{text}ln_final.bias", f"{text}transformer.resblocks.2.mlp.c_proj.bias",
        f"{unet}label_emb.0.2.weight", f"{unet}time_embed.cond_proj.weight",
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias",
    ):  # fmt: skip
        assert name in names, name


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_round_trip_through_a_hub_s_folder(tmp_path, version):
    parts = VERSIONS[version]()
    sd.write_hub(tmp_path / "a", parts)
    found = sd.read_hub(tmp_path / "a")
    assert_same(parts, found)
    for name, one in parts.items():
        assert found[name].net == one.net and found[name].notes == () and found[name].latents == one.latents
    sd.write_hub(tmp_path / "b", found)
    for file in (tmp_path / "a").glob("*/*.safetensors"):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
        assert read_tensors_metadata(file) == {"format": "pt"}


@pytest.mark.parametrize("version", VERSIONS)
def test_round_trip_through_a_single_file(tmp_path, version):
    parts = VERSIONS[version]()
    networks = {name: one.net for name, one in parts.items()}
    sd.write_single_file(tmp_path / "a.safetensors", parts)
    found = sd.read_single_file(tmp_path / "a.safetensors", networks)
    assert_same(parts, found)
    sd.write_single_file(tmp_path / "b.safetensors", found)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_variants_shards_and_older_names(tmp_path):
    net, weights, *_ = fixture("kl")
    parts = {"vae": part("kl")}
    sd.write_hub(tmp_path, parts, "fp16")
    assert_same(parts, sd.read_hub(tmp_path, "fp16"))
    with pytest.raises(FileNotFoundError, match=r"model.fp16.safetensors: is it a `variant`"):
        sd.read_hub(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no weights of the variant 'bf16'"):
        sd.read_hub(tmp_path, "bf16")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        weights = {n.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): x for n, x in weights.items()}
    assert any("proj_attn" in name for name in weights)
    stem, names = tmp_path / "vae" / "diffusion_pytorch_model", sorted(weights)
    places = {name: f"{stem.name}-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        write_tensors(stem.with_name(file), {n: weights[n] for n in names if places[n] == file})
    index = stem.with_name(stem.name + ".safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_same(parts, sd.read_hub(tmp_path))
    index.write_text(json.dumps({"weight_map": places | {names[0]: "../x.safetensors"}}))
    with pytest.raises(ValueError, match='no "weight_map" of names'):
        sd.read_hub(tmp_path)
    index.write_text(json.dumps({"weight_map": places | {"more": places[names[0]]}}))
    with pytest.raises(ValueError, match=r"has 'more' in .* which lacks it"):
        sd.read_hub(tmp_path)
    assert net == parts["vae"].net


def test_a_part_without_the_variant_is_read_without_and_noted(tmp_path):
    parts = version_1()
    sd.write_hub(tmp_path, parts, "fp16")
    file = tmp_path / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    file.rename(file.with_name("diffusion_pytorch_model.safetensors"))
    found = sd.read_hub(tmp_path, "fp16")
    assert "vae: read without the variant 'fp16', which it does not have" in found["vae"].notes
    assert not found["unet"].notes
    assert_same(parts, {name: part._replace(notes=()) for name, part in found.items()})


def test_the_text_tower_s_prefix_may_be_absent_and_position_ids_present(tmp_path):
    net, weights, *_ = fixture("clip")
    short = {name.removeprefix("text_model."): x for name, x in weights.items()}
    short["embeddings.position_ids"] = np.arange(9)[None]
    params, _ = sd.from_hub(net, short)
    assert_same({"": part("clip")}, {"": sd.Part(net, params)})
    sd.write_single_file(tmp_path / "a.safetensors", version_1())
    tensors = {n.replace(".text_model.", "."): x for n, x in read_tensors(tmp_path / "a.safetensors").items()}
    write_tensors(tmp_path / "b.safetensors", tensors)
    networks = {name: one.net for name, one in version_1().items()}
    assert_same(version_1(), sd.read_single_file(tmp_path / "b.safetensors", networks))


def test_projections_are_read_as_matrices_or_convolutions_and_the_reshaping_is_reported():
    net, weights, *_ = fixture("sd1")
    as_matrix = {n: x[:, :, 0, 0] if ".proj_in.w" in n else x for n, x in weights.items()}
    params, notes = sd.from_hub(net, as_matrix)
    assert_same({"": part("sd1")}, {"": sd.Part(net, params)})
    assert len(notes) == 7 and "mid_block.attentions.0.proj_in.weight: [16, 16] reshaped to [16, 16, 1, 1]" in notes


def test_a_full_checkpoint_holds_an_average_and_things_that_are_not_needed(tmp_path):
    parts = version_2()
    networks = {name: one.net for name, one in parts.items()}
    sd.write_single_file(tmp_path / "a.safetensors", parts)
    tensors = read_tensors(tmp_path / "a.safetensors")
    unet = [name for name in tensors if name.startswith("model.diffusion_model.")]
    more = {single_file.ema_name(name): tensors[name] + tensors[name].dtype.type(1) for name in unet}
    assert len(more) == len(unet)
    text = "cond_stage_model.model."
    last = {
        n.replace("resblocks.2", "resblocks.3"): x for n, x in tensors.items() if f"{text}transformer.resblocks.2" in n
    }
    idle = ("betas", "alphas_cumprod", "sqrt_alphas_cumprod", "model_ema.decay", "first_stage_model.loss.logvar")
    more |= last | {name: np.zeros(3, np.float32) for name in (*idle, f"{text}logit_scale", f"{text}text_projection")}
    write_tensors(tmp_path / "b.safetensors", tensors | more)
    found = sd.read_single_file(tmp_path / "b.safetensors", networks)
    a, b = flatten(found["unet"].params), flatten(parts["unet"].params)
    assert all((a[name] == b[name] + b[name].dtype.type(1)).all() for name in b)
    assert found["unet"].notes == ("the moving average (EMA) was read",)
    found = sd.read_single_file(tmp_path / "b.safetensors", networks, ema=False)
    assert_same(parts, found)
    assert found["unet"].notes == ("the weights as trained were read, no EMA",)
    write_tensors(tmp_path / "c.safetensors", tensors | more | {"other.weight": np.zeros(3)})
    with pytest.raises(ValueError, match=r"holds 'other.weight', for which the network has no place"):
        sd.read_single_file(tmp_path / "c.safetensors", networks)


def full_size_shapes(net, **others):
    return {name: stored.shape for name, stored in single_file.file_layout({"unet": net, **others}).items()}


@pytest.mark.parametrize(("preset", "changes", "family"), [
    ("sd1", dict(in_channels=9), "Stable Diffusion 1"), slow("sd2", dict(in_channels=5), "Stable Diffusion 2"),
    slow("sdxl", {}, "Stable Diffusion XL"), slow("sdxl_refiner", {}, "Stable Diffusion XL's refiner"),
    slow("sd_upscaler", {}, "Stable Diffusion's upscaler"),
])  # fmt: skip
def test_single_files_are_recognised(preset, changes, family):
    net = getattr(presets, preset)(**changes)
    shapes = full_size_shapes(net)
    ema = {single_file.ema_name(name) for name in shapes}
    assert len(ema) == len(shapes)  # no two names become one without their dots
    named, networks = single_file.recognise(shapes, "x")
    assert named == family and networks == {"unet": net}
    shapes |= {"first_stage_model.quant_conv.weight": (8, 8, 1, 1), "conditioner.embedders.1.model.x": ()}
    if preset == "sdxl":
        networks = single_file.recognise(shapes, "x")[1]
        assert networks["vae"] == presets.kl_autoencoder() and networks["text_encoder_2"] == presets.openclip_bigg()


# Refusals -------------------------------------------------------------------------------------------------------------


def without(weights, name):
    return {n: x for n, x in weights.items() if n != name}


def test_wrong_tensors_are_refused_by_name():
    net, weights, *_ = fixture("sd1")
    first = "conv_in.weight"
    with pytest.raises(ValueError, match=r"lacks 'conv_in.weight' \(similar: 'conv_on.weight'\)"):
        sd.from_hub(net, without(weights, first) | {"conv_on.weight": weights[first]})
    with pytest.raises(ValueError, match=r"holds 'conv_inn.weight' \(similar: 'conv_in.weight'"):
        sd.from_hub(net, weights | {"conv_inn.weight": weights[first]})
    name = "time_embedding.linear_1.weight"
    with pytest.raises(
        ValueError, match=r"linear_1.weight' has the shape \(8, 32\), but .* \(32, 8\): it is transposed"
    ):
        sd.from_hub(net, weights | {name: weights[name].T})
    with pytest.raises(ValueError, match=r"and 47 more"):
        sd.from_hub(net, {n: x for n, x in weights.items() if "up_blocks.0" not in n and "up_blocks.1.r" not in n})
    square = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"  # its shape does not tell: the numbers do
    turned, _ = sd.from_hub(net, weights | {square: weights[square].T})
    a, b = flatten(turned), flatten(part("sd1").params)
    assert [n for n in a if not np.array_equal(a[n], b[n])] == ["params/mid_attention/block0/self/query/kernel"]


def test_parameters_of_another_network_are_not_written():
    with pytest.raises(ValueError, match="the parameters lack"):
        sd.to_hub(part("sd1").net, part("pix2pix").params)
    with pytest.raises(ValueError, match=r"conv_in.weight' has the shape .* which does not give"):
        sd.to_hub(part("sd1").net.clone(in_channels=9), part("sd1").params)
    with pytest.raises(TypeError, match="no names are known for the weights of UNet"):
        sd.to_hub(presets.small(), {})
    with pytest.raises(ValueError, match="got \\['decoder'\\]"):
        sd.write_hub("x", {"decoder": part("kl")})
    with pytest.raises(ValueError, match="has the parts unet, vae, text_encoder, got \\['text_encoder_2'\\] besides"):
        sd.write_single_file("x", version_1() | {"text_encoder_2": part("clip")})


def test_a_file_of_version_2_is_not_read_as_version_1(tmp_path):
    path = tmp_path / "a.safetensors"
    sd.write_single_file(path, version_2())
    networks = {name: one.net for name, one in version_1().items()}
    with pytest.raises(ValueError, match=r"lacks 'cond_stage_model\.transformer"):
        sd.read_single_file(path, networks)
    weights = {
        n: np.broadcast_to(np.float16(0), s.shape) for n, s in hub_layout(presets.sd1(channels=(32,) * 4)).items()
    }
    wide = {n: np.broadcast_to(np.float16(0), (32, 1024)) if "attn2.to_k" in n else x for n, x in weights.items()}
    with pytest.raises(ValueError, match=r"attn2.to_k.weight' has .* \(32, 768\): that of Stable Diffusion 2"):
        sd.from_hub(presets.sd1(channels=(32,) * 4), wide)


def test_damaged_files_and_pickles_are_refused(tmp_path):
    sd.write_hub(tmp_path, {"vae": part("kl")})
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for damaged, message in (
        (whole[:-1], "is truncated: 'quant_conv.weight' ends"), (whole[:1000], "truncated or no safetensors"),
        (b"", "truncated"),
        (whole + b"x", "arrays end at byte"), (whole[:8] + b"{" + whole[8 : start - 1] + whole[start:], "is no JSON"),
        (whole.replace(b'"F16"', b'"F13"', 1), "is stored as F13"),
        (whole.replace(b'"shape":[16', b'"shape":[15', 1), "is damaged"),
    ):  # fmt: skip
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            sd.read_hub(tmp_path)
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"is a pickle, .* torch.load\(path, weights_only=True\)"):
        sd.read_hub(tmp_path)
    with pytest.raises(ValueError, match="is a pickle"):
        sd.read_single_file(tmp_path / "model.ckpt")
    index = {"_class_name": "StableDiffusion3Pipeline", "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["x", "y"]}
    index |= {"transformer": ["diffusers", "SD3Transformer2DModel"], "controlnet": [None, None]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"its StableDiffusion3Pipeline has the parts \['transformer'\]"):
        sd.read_hub(tmp_path)
    with pytest.raises(FileNotFoundError, match="none of the folders unet, vae"):
        sd.read_hub(tmp_path / "none")
    write_tensors(tmp_path / "a.safetensors", {"control_model.x": np.zeros(2)})
    with pytest.raises(ValueError, match="of a ControlNet"):
        sd.read_single_file(tmp_path / "a.safetensors")
    write_tensors(tmp_path / "a.safetensors", {"x": np.zeros(2)})
    with pytest.raises(ValueError, match="holds no U-Net of Stable Diffusion"):
        sd.read_single_file(tmp_path / "a.safetensors")
    with pytest.raises(TypeError, match="holds complex128"):
        write_tensors(tmp_path / "a.safetensors", {"x": np.zeros(2, complex)})


# Configurations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "message"), [
    (dict(act_fn="gelu"), "'act_fn' = 'gelu'; our network has 'silu' or 'swish' only"),
    (dict(num_attention_heads=8), "'num_attention_heads' = 8"), (dict(new_field=1), "a field 'new_field' = 1"),
    (dict(down_block_types=["AttnDownBlock2D"] * 4), "has 'AttnDownBlock2D'"),
    (dict(up_block_types=["UpBlock2D"] * 4), "do not mirror"), (dict(layers_per_block=[1, 2, 2, 2]), "differs between"),
    (dict(transformer_layers_per_block=[1, [2, 1], 1, 1]), "one number for a level"),
    (dict(attention_head_dim=[5, 10]), "heads has a value for each of 4 levels"),
    (dict(addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2817),
     "give pooled_width"),
])  # fmt: skip
def test_u_nets_that_ours_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        sd.unet_from_config(changes)


def test_configurations_as_they_were_published():
    """The fields of the files of versions 1.5, 1.5 inpainting, InstructPix2Pix and 2.1 base."""
    down, up = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    unet = dict(_class_name="UNet2DConditionModel", _diffusers_version="0.6.0", act_fn="silu", attention_head_dim=8)
    unet |= dict(block_out_channels=[320, 640, 1280, 1280], center_input_sample=False, cross_attention_dim=768)
    unet |= dict(down_block_types=down, downsample_padding=1, flip_sin_to_cos=True, freq_shift=0, in_channels=4)
    unet |= dict(layers_per_block=2, mid_block_scale_factor=1, norm_eps=1e-05, norm_num_groups=32, out_channels=4)
    unet |= dict(sample_size=32, up_block_types=up)
    assert sd.unet_from_config(unet) == presets.sd1()
    assert sd.unet_from_config(unet | dict(in_channels=9)) == presets.sd1(in_channels=9)
    later = dict(class_embed_type=None, dual_cross_attention=False, mid_block_type="UNetMidBlock2DCrossAttn")
    later |= dict(num_class_embeds=None, only_cross_attention=False, resnet_time_scale_shift="default")
    later |= dict(upcast_attention=False, use_linear_projection=False, in_channels=8)
    assert sd.unet_from_config(unet | later) == presets.sd1(in_channels=8)
    second = dict(attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024, use_linear_projection=True)
    assert sd.unet_from_config(unet | second) == presets.sd2()
    vae = dict(_class_name="FlaxAutoencoderKL", act_fn="silu", block_out_channels=[128, 256, 512, 512], in_channels=3)
    vae |= dict(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, sample_size=256)
    vae |= dict(latent_channels=4, layers_per_block=2, norm_num_groups=32, out_channels=3)
    assert sd.vae_from_config(vae) == presets.kl_autoencoder()
    text = dict(architectures=["CLIPTextModel"], bos_token_id=0, eos_token_id=2, hidden_act="gelu", hidden_size=1024)
    text |= dict(intermediate_size=4096, layer_norm_eps=1e-05, max_position_embeddings=77, num_attention_heads=16)
    text |= dict(model_type="clip_text_model", num_hidden_layers=23, projection_dim=512, vocab_size=49408, dropout=0.0)
    assert sd.text_from_config(text) == presets.openclip_h(feed=4096)


def test_configurations_return_and_others_are_refused():
    for net in (presets.sd1(guidance_width=256), presets.sdxl(), presets.sdxl_refiner(), presets.sd_upscaler()):
        assert sd.unet_from_config(sd.unet_to_config(net)) == net
    for net in (presets.kl_autoencoder(), TinyAutoencoder(), presets.kl_autoencoder(latent=16)):
        assert sd.vae_from_config(sd.vae_to_config(net)) == net
        given = (1.0, 0.0) if isinstance(net, TinyAutoencoder) else (0.36, 0.06)
        assert sd.latent_scale(sd.vae_to_config(net, *given)) == given
    assert sd.latent_scale(dict(_class_name="AutoencoderKL")) == (0.18215, 0.0)
    for net in (presets.clip_l(), presets.openclip_bigg()):
        found = sd.text_from_config(json.loads(json.dumps(sd.text_to_config(net))) | {"eos_token_id": 2})
        assert found == net.clone(feed=4 * net.width)
    for config, message in (
        (dict(use_quant_conv=False), "must be the same"), (dict(latents_mean=[0.1]), "'latents_mean'"),
        (dict(_class_name="VQModel"), "of a 'VQModel'"),
        (dict(_class_name="AutoencoderTiny", act_fn="silu"), "has 'relu' only"),
        (dict(_class_name="AutoencoderTiny", decoder_block_out_channels=[64, 32, 64, 64]), "one width"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            sd.vae_from_config(config)
    for config in (dict(hidden_act="relu"), dict(model_type="t5")):
        with pytest.raises(ValueError, match=next(iter(config.values()))):
            sd.text_from_config(config)


def other(name, **options):
    name = {"Euler": "EulerDiscreteScheduler", "DPM": "DPMSolverMultistepScheduler"}[name]
    return {"_class_name": name, **options}


def test_schedules_of_the_published_models(tmp_path):
    file = dict(_class_name="PNDMScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    file |= dict(steps_offset=1, set_alpha_to_one=False, skip_prk_steps=True, clip_sample=False)
    (tmp_path / "scheduler").mkdir()
    path = tmp_path / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(file))
    found = sd.read_schedule(tmp_path)
    assert found._replace(betas=None) == ("PNDMScheduler", None, "eps", "leading", 1, False, False, False, False, 50)
    abar = np.cumprod(1 - found.betas)
    expected = {0: 0.99915, 1: 0.9982960278, 261: 0.6556693331, 981: 0.0057755001, 999: 0.0046600985}
    for t, value in expected.items():
        assert abar[t] == pytest.approx(value, abs=5e-11)
    zero = sd.schedule_from_config(file | dict(rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    abar = np.cumprod(1 - zero.betas)
    assert abar[0] == pytest.approx(0.99915, abs=1e-12) and abar[-1] == 0 and zero.prediction == "v"
    assert abar[998] == pytest.approx(1.968e-7, rel=1e-3)
    euler = sd.schedule_from_config(dict(_class_name="FlaxEulerDiscreteScheduler", use_karras_sigmas=True))
    assert euler.solver == "EulerDiscreteScheduler" and euler.spacing == "linspace"
    assert euler.karras and euler.final_one
    dpm = dict(_class_name="DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++", use_karras_sigmas=True)
    assert (
        sd.schedule_from_config(dpm).sde and sd.schedule_to_config(sd.schedule_from_config(dpm)).items() >= dpm.items()
    )
    for name in ("PNDM", "LCM", "DDIM", "DDPM", "EulerAncestralDiscrete"):  # left over by `from_config`, and not heeded
        left = dict(_class_name=f"{name}Scheduler", use_karras_sigmas=True, final_sigmas_type="sigma_min")
        assert not sd.schedule_from_config(left).karras
        assert sd.schedule_from_config(left).final_one == (name != "PNDM")
    assert euler.betas[0] == 1e-4 and sd.schedule_from_config(dict(_class_name="LCMScheduler")).betas[0] == 0.00085
    for config, message in (
        (dict(_class_name="FlowMatchEulerDiscreteScheduler"), "a 'FlowMatch"), (dict(beta_schedule="new"), "'new'"),
        (dict(prediction_type="flow"), "'flow'"), (dict(timestep_spacing="all"), "'all'"),
        (dict(thresholding=True), "'thresholding'"), (other("Euler", timestep_type="continuous"), "'discrete' only"),
        (other("Euler", interpolation_type="log_linear"), "'linear' only"),
        *((other(name, final_sigmas_type="sigma_min"), "'zero' only") for name in ("Euler", "DPM")),
        (other("DPM", use_lu_lambdas=True), "False only"),
    ):  # fmt: skip
        path.write_text(json.dumps(file | config))
        with pytest.raises(ValueError, match=message):
            sd.read_schedule(tmp_path)


def test_networks_are_pure_and_their_parameters_may_be_of_any_type():
    """float16 from the file, computed in float32: what a user has without casting."""
    net, params, *_ = part("taesd")
    x = jax.eval_shape(net.apply, params, jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
    assert x.dtype == jnp.float32 and x.shape == (1, 8, 8, 3)
