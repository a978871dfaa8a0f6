"""Folders in the hub's layout: a folder of weights and a `config.json` for each part, and `model_index.json`.

    parts = read_hub(folder)                     # {"unet": Part, "vae": Part, "text_encoder": Part, ...}
    net, params, *_ = parts["unet"]
    F = net.apply(params, x, t, {"context": context})
    write_hub(other_folder, parts)               # the same tensors, byte for byte

Weights keep the type in which they are stored; `net.clone(dtype=...)` sets that of the computation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.files import replacing
from diffjax.formats.tensors import read_tensors, refuse_pickle, write_tensors
from diffjax.nn import ConditionalUNet, ControlNet, TextEncoder
from diffjax.pretrained.stable_diffusion.control_config import controlnet_from_config, controlnet_to_config
from diffjax.pretrained.stable_diffusion.layout import from_tensors, hub_layout, to_tensors
from diffjax.pretrained.stable_diffusion.text_config import text_from_config, text_to_config
from diffjax.pretrained.stable_diffusion.unet_config import unet_from_config, unet_to_config
from diffjax.pretrained.stable_diffusion.vae_config import latent_scale, vae_from_config, vae_to_config
from diffjax.typing import PyTree

NAMES = ("unet", "vae", "text_encoder", "text_encoder_2")
ELSE = (  # parts of a pipeline that are read elsewhere, or not needed for its pictures
    "tokenizer", "tokenizer_2", "scheduler", "low_res_scheduler", "safety_checker", "feature_extractor",
    "image_encoder", "depth_estimator", "watermarker",
)  # fmt: skip
STEMS: dict[str, str] = dict.fromkeys(("unet", "vae", "controlnet"), "diffusion_pytorch_model")  # others: "model"
PT = {"format": "pt"}  # what PyTorch's writers put into the metadata, and older readers ask for
VERSION = {"_diffusers_version": "0.42.1"}  # whose fields are written; some of its pipelines look it up
OLD = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))  # an autoencoder's attention


class Part(NamedTuple):
    """A network with its weights.

    Attributes:
      net: the Flax module.
      params: `net.apply(params, ...)`; NumPy arrays, views of the file.
      notes: what was done on reading that the file does not say of itself, such as a reshaping.
      latents: of an autoencoder the scale and the shift of its latents, see `dj.Codec`.
    """

    net: Any
    params: PyTree
    notes: tuple[str, ...] = ()
    latents: tuple[float, float] = (1.0, 0.0)


def read_hub(folder: str | Path, variant: str | None = None) -> dict[str, Part]:
    """The networks of a folder: those of "unet", "vae", "text_encoder" and "text_encoder_2" that it has.

    Args:
      folder: of the model, with a folder for each part.
      variant: "fp16" for files named so. A part that has none is read without, and a note says so.

    Raises:
      FileNotFoundError: there is none of these folders, one lacks its configuration or its weights, or none has the
        variant.
      ValueError: the weights are a pickle, damaged, or not those of the configuration (the difference is named), or the
        configuration is of a network that is not known here, or `model_index.json` has a part that is not.
    """
    folder = Path(folder)
    there = [name for name in NAMES if (folder / name).is_dir()]
    index = read_json(folder / "model_index.json") if (folder / "model_index.json").is_file() else {}
    there += [n for n in NAMES if n not in there and isinstance(index.get(n), list) and index[n][-1] is not None]
    others = [n for n, e in index.items() if isinstance(e, list) and n not in (*NAMES, *ELSE) and e[-1] is not None]
    if others:
        raise ValueError(f"{folder}: its {index.get('_class_name')} has the parts {others}, which are not known here")
    if not there:
        inside = sorted(folder.glob("snapshots/*/")) or sorted(
            path.parent for path in folder.glob("*/model_index.json")
        )
        hint = f": did you mean {inside[-1]}?" if inside else ""
        raise FileNotFoundError(f"{folder} has none of the folders {', '.join(NAMES)}{hint}")
    pooled = folder / "text_encoder_2" / "config.json"
    width = read_json(pooled).get("projection_dim") if pooled.is_file() else None
    own = {name: variant and _weights_file(folder / name, _stem(name), variant) for name in there}
    if variant and not any(own.values()):
        raise FileNotFoundError(f"{folder} has no weights of the variant {variant!r}")
    parts = {name: _read_part(folder / name, name, variant if own[name] else None, width) for name in there}
    if not variant:
        return parts
    note = f"read without the variant {variant!r}, which it does not have"
    return {n: p if own[n] else p._replace(notes=(*p.notes, f"{n}: {note}")) for n, p in parts.items()}


def read_part(folder: str | Path, kind: str, variant: str | None = None, pooled_width: int | None = None) -> Part:
    """The network of one folder; `kind` is "unet", "vae", "text_encoder" or "controlnet", the rest as in `read_hub`."""
    if kind not in (*NAMES, "controlnet"):
        raise ValueError(f"kind is one of {', '.join(NAMES)}, controlnet, got {kind!r}")
    return _read_part(Path(folder), kind, variant, pooled_width)


def _read_part(folder: Path, name: str, variant: str | None, pooled_width: int | None) -> Part:
    config = read_json(folder / "config.json")
    try:
        if name == "unet":
            net: Any = unet_from_config(config, pooled_width)
        elif name == "controlnet":
            net = controlnet_from_config(config, pooled_width)
        else:
            net = vae_from_config(config) if name == "vae" else text_from_config(config)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error
    tensors = read_weights(folder, _stem(name), variant)
    params, notes = from_hub(net, tensors, folder)
    return Part(net, params, notes, *([latent_scale(config)] if name == "vae" else []))


def from_hub(net: Any, tensors: Mapping[str, np.ndarray], where: Any = "the file") -> tuple[PyTree, tuple[str, ...]]:
    """(params, notes) from tensors under the hub's names, those of older versions too; raises as `from_tensors`."""
    tensors = dict(tensors)
    if isinstance(net, TextEncoder):
        if not any(name.startswith("text_model.") for name in tensors):  # transformers 5.6 and later
            tensors = {n if n.startswith("text_projection.") else f"text_model.{n}": x for n, x in tensors.items()}
    elif not isinstance(net, ConditionalUNet | ControlNet):
        tensors = {_renewed(name): x for name, x in tensors.items()}
    unused = {name for name in tensors if name.endswith(".position_ids")}
    return from_tensors(hub_layout(net), tensors, where, unused)


def to_hub(net: Any, params: PyTree) -> dict[str, np.ndarray]:
    """The inverse of `from_hub`, under the names that the hub's files have."""
    return to_tensors(hub_layout(net), params)


def _renewed(name: str) -> str:
    for old, new in OLD:
        name = re.sub(rf"(mid_block\.attentions\.0\.){old}\.", rf"\g<1>{new}.", name)
    return name


def read_weights(folder: Path, stem: str, variant: str | None = None) -> dict[str, np.ndarray]:
    """All tensors of a folder, from one file or from the shards that an index names.

    Raises:
      FileNotFoundError: there are no such weights; the message names those that are there.
      ValueError: there are pickles only, or the shards are not those of the index.
    """
    file = _weights_file(folder, stem, variant)
    if file is not None:
        return _read_shards(file) if file.suffix == ".json" else read_tensors(file)
    others = sorted(p for p in folder.glob("*") if p.suffix in (".safetensors", ".bin", ".ckpt"))
    if others and all(path.suffix != ".safetensors" for path in others):
        refuse_pickle(others[0])
    hint = f"; it has {', '.join(p.name for p in others)}: is it a `variant`?" if others else ""
    raise FileNotFoundError(f"no weights at {folder / _named(stem, variant)}{hint}")


def _stem(part: str) -> str:
    return STEMS.get(part, "model")


def _named(stem: str, variant: str | None) -> str:
    return f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors"


def _weights_file(folder: Path, stem: str, variant: str | None) -> Path | None:
    """The one file of a folder's weights, or the index of the shards, in either of its spellings."""
    whole, of = _named(stem, variant), f".{variant}" if variant else ""
    names = whole, f"{stem}.safetensors.index{of}.json", f"{whole}.index.json"
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(f, str) and Path(f).name == f for f in places.values()):
        raise ValueError(f'{index} has no "weight_map" of names of tensors to files beside it')
    shards = {file: read_tensors(index.parent / file) for file in sorted(set(places.values()))}
    for name, file in places.items():
        if name not in shards[file]:
            raise ValueError(f"{index} has {name!r} in {file}, which lacks it")
    for file, tensors in shards.items():
        for name in tensors:
            if places.get(name) != file:
                raise ValueError(f"{index} does not have {name!r} in {file}, which holds it")
    return {name: shards[file][name] for name, file in places.items()}


def write_hub(folder: str | Path, parts: Mapping[str, Part], variant: str | None = None) -> None:
    """Write a folder for each part, and the `model_index.json`, in which tokenizers and scheduler are absent.

    Raises:
      ValueError: a part is none of "unet", "vae", "text_encoder", "text_encoder_2", or has no place on the hub.
    """
    if unknown := sorted(set(parts) - set(NAMES)):
        raise ValueError(f"a folder has the parts {', '.join(NAMES)}, got {unknown}")
    folder = Path(folder)
    index: dict[str, Any] = {"_class_name": "StableDiffusion" + ("XL" if _is_xl(parts) else "") + "Pipeline"}
    for name, part in parts.items():
        config = write_part(folder / name, name, part, variant)
        of_text = ["transformers", (config.get("architectures") or [None])[0]]
        index[name] = of_text if isinstance(part.net, TextEncoder) else ["diffusers", config["_class_name"]]
    absent = ["tokenizer", "scheduler", "safety_checker", "feature_extractor"]
    write_json(folder / "model_index.json", index | {name: [None, None] for name in absent})


def write_part(folder: str | Path, kind: str, part: Part, variant: str | None = None) -> dict[str, Any]:
    """Write one network's folder, the inverse of `read_part`; returns its configuration."""
    net, params, _, latents = part
    if kind == "unet":
        config = unet_to_config(net)
    elif kind == "controlnet":
        config = controlnet_to_config(net)
    else:
        config = vae_to_config(net, *latents) if kind == "vae" else text_to_config(net)
    folder, of = Path(folder), f".{variant}" if variant else ""
    write_json(folder / "config.json", config | ({} if isinstance(net, TextEncoder) else VERSION))
    write_tensors(folder / f"{STEMS.get(kind, 'model')}{of}.safetensors", to_hub(net, params), PT)
    return config


def _is_xl(parts: Mapping[str, Part]) -> bool:
    return "text_encoder_2" in parts or ("unet" in parts and bool(parts["unet"].net.pooled_width))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} holds no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
