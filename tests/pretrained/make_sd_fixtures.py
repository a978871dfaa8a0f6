"""Writes `stable_diffusion.safetensors`: small networks of diffusers and transformers, their inputs and outputs.

Run it where PyTorch, diffusers and transformers are installed (the extra "parity"); the tests read the file alone:

    python tests/pretrained/make_sd_fixtures.py

Weights are random, those that start at zero too, and of float16's values, so that they are stored exactly in two bytes;
everything is computed in float64, diffusers' sinusoids too, which are in float32 there. Images are stored [B, H, W, C].
Names are "case/weights/name", "case/in/name" and "case/out/name"; the metadata hold the configuration of each case, and
for the models at full size a digest of the names and shapes of their weights.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from diffusers.models import embeddings
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

A, D, AU, U = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
TARGET = Path(__file__).with_name("stable_diffusion.safetensors")
RNG = np.random.default_rng(0)


def sinusoid(t, dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1, max_period=10000):
    """What diffusers computes, in float64."""
    half = dim // 2
    w = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float64) / (half - downscale_freq_shift))
    angle = scale * t.double()[:, None] * w
    parts = [torch.sin(angle), torch.cos(angle)]
    return torch.cat(parts[::-1] if flip_sin_to_cos else parts, -1)


embeddings.get_timestep_embedding = sinusoid


def halves(shape, scale=1.0):
    """Random numbers that float16 holds exactly, as float64."""
    return torch.from_numpy((scale * RNG.normal(size=tuple(shape))).astype(np.float16).astype(np.float64))


def randomise(model):
    model.double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.copy_(halves(p.shape, 1.0 if "embedding" in name and p.ndim == 2 else p[0].numel() ** -0.5))
            else:
                p.copy_(halves(p.shape, 0.3) + (1 if "norm" in name and name.endswith("weight") else 0))
                p.copy_(p.half().double())
    return model


def last(x):
    return x.permute(0, 2, 3, 1).contiguous()


def unet(levels, size, classes=0, guidance=0, pooled=0, n=2, **config):
    down = [A if there else D for there in levels]
    up = [AU if there else U for there in levels[::-1]]
    more = dict(time_cond_proj_dim=guidance) if guidance else {}
    more |= dict(num_class_embeds=classes) if classes else {}
    if pooled:
        more |= dict(addition_embed_type="text_time", addition_time_embed_dim=4)
        more |= dict(projection_class_embeddings_input_dim=pooled + 24)
    net = UNet2DConditionModel(
        down_block_types=down, up_block_types=up, norm_num_groups=4, sample_size=8, **more, **config
    )
    randomise(net)
    x, context = halves((n, net.config.in_channels, *size)), halves((n, 5, config["cross_attention_dim"]))
    t = torch.tensor([981.0, 3.25][:n], dtype=torch.float64)
    ins, kwargs = {"x": last(x), "t": t, "context": context}, {}
    if guidance:
        scale = torch.tensor([7.5, 2.0], dtype=torch.float64)
        ins["scale"], kwargs["timestep_cond"] = scale, sinusoid(1000 * (scale - 1), guidance)
    if classes:
        ins["label"] = kwargs["class_labels"] = torch.tensor([0, classes - 1])
    if pooled:
        ins["pooled"] = halves((n, pooled))
        ins["sizes"] = torch.tensor([[1024.0, 768, 0, 16, 1024, 1024], [512, 512, 3, 0, 640, 896]]).double()
        kwargs["added_cond_kwargs"] = {"text_embeds": ins["pooled"], "time_ids": ins["sizes"]}
    out = net(x, t, context, **kwargs).sample
    return net, net.config, ins, {"F": last(out)}


def control(unet):
    """A ControlNet, its maps at half of their strength, and what a U-Net makes of them."""
    names = ("block_out_channels", "layers_per_block", "cross_attention_dim", "attention_head_dim", "down_block_types")
    config = {name: unet.config[name] for name in (*names, "norm_num_groups")}
    net = ControlNetModel(conditioning_embedding_out_channels=(4, 6), **config)
    randomise(net)
    x, context, hint = halves((2, 4, 7, 5)), halves((2, 5, config["cross_attention_dim"])), halves((2, 3, 14, 10))
    t = torch.tensor([981.0, 3.25], dtype=torch.float64)
    down, mid = net(x, t, context, hint, conditioning_scale=0.5, return_dict=False)
    out = unet(x, t, context, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
    outs = {f"down{i}": last(h) for i, h in enumerate(down)} | {"mid": last(mid), "F": last(out)}
    return net, net.config, {"x": last(x), "t": t, "context": context, "hint": last(hint)}, outs


def kl(size, **config):
    levels = len(config["block_out_channels"])
    kinds = dict(down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels)
    net = randomise(AutoencoderKL(norm_num_groups=4, **kinds, **config))
    x = halves((2, 3, *size))
    q = net.encode(x).latent_dist
    z = halves(q.mean.shape)
    outs = {"mean": last(q.mean), "logvar": last(q.logvar), "kl": q.kl(), "x": last(net.decode(z).sample)}
    return net, net.config, {"x": last(x), "z": last(z)}, outs


def tiny():
    counts = dict(num_encoder_blocks=(1, 2, 1), num_decoder_blocks=(2, 1, 1))
    net = randomise(AutoencoderTiny(encoder_block_out_channels=(8,) * 3, decoder_block_out_channels=(8,) * 3, **counts))
    x, z = halves((2, 3, 8, 12)), halves((2, 4, 3, 2), 2.0)
    outs = {"z": last(net.encode(x).latents), "x": last(net.decode(z).sample)}
    return net, net.config, {"x": last(x), "z": last(z)}, outs


def text(cls, ids, **config):
    sizes = dict(vocab_size=50, hidden_size=8, intermediate_size=20, num_hidden_layers=3, num_attention_heads=2)
    net = randomise(cls(CLIPTextConfig(max_position_embeddings=9, **sizes, **config)))
    ids = torch.tensor(ids)
    out = net(ids, output_hidden_states=True)
    tower = getattr(net, "text_model", net)
    outs = {f"state{i}": x for i, x in enumerate(out.hidden_states)}
    outs |= {"last": out.last_hidden_state, "skipped": tower.final_layer_norm(out.hidden_states[-2])}
    outs |= {"projected": out.text_embeds} if hasattr(out, "text_embeds") else {"pooled": out.pooler_output}
    return net, net.config.to_dict() | {"architectures": [cls.__name__]}, {"ids": ids}, outs


def cases():
    sd1 = unet((True, True, False), (7, 5), block_out_channels=(8, 16, 16), layers_per_block=1,
               cross_attention_dim=6, attention_head_dim=2)  # fmt: skip
    yield "sd1", sd1
    yield "sd2", unet((True, True), (4, 6), block_out_channels=(8, 16), layers_per_block=2, in_channels=9,
                      cross_attention_dim=10, attention_head_dim=(1, 4), use_linear_projection=True)  # fmt: skip
    yield "sdxl", unet((False, True, True), (6, 4), pooled=6, guidance=8, block_out_channels=(8, 16, 16),
                       layers_per_block=1, cross_attention_dim=6, attention_head_dim=(1, 2, 4),
                       transformer_layers_per_block=(1, 1, 2), use_linear_projection=True)  # fmt: skip
    yield "pix2pix", unet((True, False), (4, 4), block_out_channels=(8, 12), layers_per_block=1, in_channels=8,
                          cross_attention_dim=6, attention_head_dim=2)  # fmt: skip
    yield "upscaler", unet((False, True, True), (4, 5), classes=5, block_out_channels=(8, 8, 16), layers_per_block=1,
                           in_channels=5, cross_attention_dim=6, attention_head_dim=2, use_linear_projection=True,
                           only_cross_attention=(True, True, False))  # fmt: skip
    yield "kl", kl((8, 12), block_out_channels=(8, 16, 16), layers_per_block=1)
    yield "kl_plain", kl((4, 6), block_out_channels=(8, 8), layers_per_block=2, latent_channels=3, use_quant_conv=False,
                         use_post_quant_conv=False, mid_block_add_attention=False)  # fmt: skip
    yield "taesd", tiny()
    padded = [[48, 3, 17, 5, 49, 49, 49], [48, 7, 49, 49, 49, 49, 49]]
    yield "clip", text(CLIPTextModel, padded, hidden_act="quick_gelu", eos_token_id=49)
    zeros = [[48, 3, 17, 5, 49, 0, 0, 0, 0], [48, 49, 0, 0, 0, 0, 0, 0, 0]]
    yield "openclip", text(CLIPTextModelWithProjection, zeros, hidden_act="gelu", projection_dim=6, eos_token_id=2)
    yield "control", control(sd1[0])


def hub_names(net):
    prefix = "text_model." if isinstance(net, CLIPTextModel) else ""  # the files on the hub have it
    return {prefix + name: x for name, x in net.state_dict().items()}


def full_size():
    """name -> digest of the names and shapes of the published models' weights, which need no memory to make."""
    xl = dict(use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256)
    unets = dict(
        sd1=dict(cross_attention_dim=768),
        sd2=dict(cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True),
        sdxl=dict(block_out_channels=(320, 640, 1280), down_block_types=(D, A, A), up_block_types=(AU, AU, U),
                  cross_attention_dim=2048, attention_head_dim=[5, 10, 20], transformer_layers_per_block=[1, 2, 10],
                  projection_class_embeddings_input_dim=2816, **xl),
        sdxl_refiner=dict(block_out_channels=(384, 768, 1536, 1536), down_block_types=(D, A, A, D),
                          up_block_types=(U, AU, AU, U), cross_attention_dim=1280, attention_head_dim=[6, 12, 24, 24],
                          transformer_layers_per_block=4, projection_class_embeddings_input_dim=2560, **xl),
        sd_upscaler=dict(in_channels=7, block_out_channels=(256, 512, 512, 1024), down_block_types=(D, A, A, A),
                         up_block_types=(AU, AU, AU, U), cross_attention_dim=1024, use_linear_projection=True,
                         num_class_embeds=1000, only_cross_attention=(True, True, True, False)),
    )  # fmt: skip
    kl = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2)
    kl |= dict(down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)

    def clip(cls, width, layers, heads, act):
        sizes = dict(hidden_size=width, intermediate_size=4 * width, projection_dim=width)
        return cls(CLIPTextConfig(num_hidden_layers=layers, num_attention_heads=heads, hidden_act=act, **sizes))

    with torch.device("meta"):
        models = {name: UNet2DConditionModel(**config) for name, config in unets.items()}
        models["controlnet"] = ControlNetModel(cross_attention_dim=768)
        models |= {"kl_autoencoder": AutoencoderKL(**kl), "taesd": AutoencoderTiny()}
        models["clip_l"] = clip(CLIPTextModel, 768, 12, 12, "quick_gelu")
        models["openclip_h"] = clip(CLIPTextModel, 1024, 23, 16, "gelu")
        models["openclip_bigg"] = clip(CLIPTextModelWithProjection, 1280, 32, 20, "gelu")
    return {name: digest({n: tuple(x.shape) for n, x in hub_names(net).items()}) for name, net in models.items()}


def digest(shapes):
    text = "\n".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def main(target):
    arrays, metadata = {}, {}
    for case, (net, config, ins, outs) in cases():
        arrays |= {f"{case}/weights/{name}": x.half() for name, x in hub_names(net).items()}
        assert all((x.half().double() == x).all() for x in net.state_dict().values()), case
        arrays |= {f"{case}/in/{name}": x for name, x in ins.items()}
        arrays |= {f"{case}/out/{name}": x.detach() for name, x in outs.items()}
        config = {k: v for k, v in dict(config).items() if not k.startswith("_") or k == "_class_name"}
        config["_class_name"] = type(net).__name__
        metadata[case] = json.dumps(config, default=str)
        print(case, {k: float(v.detach().abs().max()) for k, v in outs.items()})
    metadata["full_size"] = json.dumps(full_size())
    arrays = {name: x.detach().contiguous().clone() for name, x in arrays.items()}
    save_file(arrays, target, metadata)
    print(target, Path(target).stat().st_size)


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1] if len(sys.argv) > 1 else TARGET)
