"""LoRA files (Hu et al. 2022) of all dialects, merged into parameters: W + strength (alpha / rank) up down.

    parts = merge_lora(read_hub(folder), "style.safetensors", 0.8)

    kohya, webui     lora_unet_<name with _>.lora_down.weight, .lora_up.weight, .alpha; lora_te_, lora_te1_, lora_te2_;
                     also with CompVis' names of blocks, lora_unet_input_blocks_4_1_...
    PEFT             base_model.model.<name>.lora_A.weight, .lora_B.weight; alpha and rank in adapter_config.json
    diffusers        unet.<name>.lora_A.weight or .lora.down.weight, text_encoder.<name>. ...; alpha in the metadata
    before PEFT      unet.<name of an attention>.processor.to_q_lora.down.weight

An alpha that is not there is the rank. Names are looked up in a table made from the networks' own, never parsed: with
"_" for "." they could be cut in several ways. A file of which a part has no place raises, and nothing is merged.
Of convolutions `down` has the kernel, and `up` is 1 x 1. Weights of another form (DoRA, LoHa, LoKr, LoCon with a middle
tensor) are refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from diffjax.checks import check_number
from diffjax.formats.tensors import read_tensors, read_tensors_metadata
from diffjax.nn import ConditionalUNet, TextEncoder
from diffjax.parameters import flatten, unflatten
from diffjax.pretrained.stable_diffusion.hub import Part, read_json
from diffjax.pretrained.stable_diffusion.layout import Stored, hub_layout, listed, to_parameter
from diffjax.pretrained.stable_diffusion.single_names import single_layout

FORMS = (  # (module, "down" or "up") of a name
    re.compile(r"(?P<module>.+)\.lora_(?P<half>down|up|A|B)(?:\.\w+)?\.weight"),  # PEFT's adapter: "default"
    re.compile(r"(?P<module>.+)\.lora(?:_linear_layer)?\.(?P<half>down|up)\.weight"),
    re.compile(r"(?P<module>.+)\.processor\.(?P<site>to_\w+)_lora\.(?P<half>down|up)\.weight"),
)
HALVES = {"A": "down", "B": "up", "down": "down", "up": "up"}
OTHERS = {
    "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "hada_": "LoHa, of LyCORIS", "lokr_": "LoKr, of LyCORIS",
    "lora_mid": "LoCon with a middle tensor, of LyCORIS", "oft_": "OFT", "diff": "full differences",
    "glora": "GLoRA, of LyCORIS",
}  # fmt: skip


class Update(NamedTuple):
    """A change of one matrix or kernel: scale up down, with up [out, r, ...] and down [r, in, ...]."""

    down: np.ndarray
    up: np.ndarray
    scale: float


def merge_lora(parts: Mapping[str, Part], path: str | Path, strength: float = 1.0) -> dict[str, Part]:
    """The networks with the updates of a file added; parameters keep their types.

    Args:
      parts: "unet", and the text towers under their names; others stay as they are.
      path: the file, or PEFT's folder of an adapter.
      strength: 1 is the file's own, 0 none; it may be negative.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged or no LoRA, of another form, or for another network: what does not fit is named.
    """
    check_number("the strength of a LoRA", strength)
    path = Path(path)
    updates, table = read_lora(path), modules(parts)
    lost = [name for name in updates if name not in table]
    if lost:
        how = "none" if len(lost) == len(updates) else f"{len(updates) - len(lost)}"
        raise ValueError(f"of the {len(updates)} layers in {path} {how} fit these networks; without a place are "
                         f"{listed(lost, table)}")  # fmt: skip
    changed: dict[str, dict[str, Any]] = {}
    for name, update in updates.items():
        part, stored = table[name]
        if part not in changed:
            changed[part] = flatten(parts[part].params["params"])
        flat = changed[part]
        x = flat[stored.paths[0]]
        change = to_parameter(_product(update, stored.shape, f"{path}: {name}"), stored.axes)
        flat[stored.paths[0]] = (jnp.asarray(x, jnp.float32) + np.float32(strength) * change).astype(x.dtype)
    merged = {part: parts[part]._replace(params={"params": unflatten(flat)}) for part, flat in changed.items()}
    return {**parts, **merged}


def read_lora(path: str | Path) -> dict[str, Update]:
    """The updates of a file by the names of its layers, as they are there; raises as `merge_lora`."""
    path = Path(path)
    if path.is_dir():
        path = path / "adapter_model.safetensors"
    tensors = {name: np.asarray(x) for name, x in read_tensors(path).items()}
    halves: dict[str, dict[str, np.ndarray]] = {}
    alphas = {}
    for name, x in tensors.items():
        if name.endswith(".alpha"):
            if x.size != 1:
                raise ValueError(f"{path}: {name!r} must be one number, got the shape {x.shape}")
            alphas[name.removesuffix(".alpha")] = float(x.astype(np.float64).item())
            continue
        form = next((match for pattern in FORMS if (match := pattern.fullmatch(name))), None)
        if form is None:
            raise ValueError(f"{path}: {name!r} is {_other(name)}")
        site = form.groupdict().get("site")
        module = form["module"] + (f".{site}" + (".0" if site == "to_out" else "") if site else "")
        halves.setdefault(module.removeprefix("base_model.model."), {})[HALVES[form["half"]]] = x
    if not halves:
        raise ValueError(f"{path} holds no LoRA: it has {listed(sorted(tensors), ()) or 'no tensor'}")
    if alone := [name for name in alphas if name.removeprefix("base_model.model.") not in halves]:
        raise ValueError(f"{path} has an alpha, but no weights, of {listed(alone, halves)}")
    config, found = _config(path), {}
    for module, both in halves.items():
        if len(both) != 2:
            raise ValueError(f"{path}: {module!r} has {next(iter(both))!r} alone, and needs both halves")
        rank = both["down"].shape[0]
        own = alphas.get(module, alphas.get(f"base_model.model.{module}"))
        scale = _scale(config, module, rank) if own is None else own / rank
        found[module] = Update(both["down"], both["up"], scale)
    return found


def modules(parts: Mapping[str, Part]) -> dict[str, tuple[str, Stored]]:
    """Every name of a layer in these dialects -> (part, its tensor)."""
    table: dict[str, tuple[str, Stored]] = {}
    for part, (net, *_) in parts.items():
        if not isinstance(net, ConditionalUNet | TextEncoder):
            continue
        prefix = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}[part]
        names = dict(hub_layout(net))
        if part == "unet":
            names |= single_layout(net)
        for name, stored in names.items():
            if stored.axes is None or len(stored.paths) > 1:
                continue  # a bias, a norm's scale, or an embedding
            module = name.removesuffix(".weight")
            short = module.removeprefix("text_model.")  # as transformers 5.6 and later have it
            aliases = [f"{part}.{module}", f"{part}.{short}", prefix + module.replace(".", "_")]
            aliases += ["lora_te_" + module.replace(".", "_")] if part == "text_encoder" else []
            for alias in aliases:
                table[alias] = part, stored
            for alias in (module, short):  # PEFT's, of one network
                table.setdefault(alias, (part, stored))
    return table


def _product(update: Update, shape: tuple[int, ...], where: str) -> np.ndarray:
    """scale up down in the shape of the stored tensor, float32."""
    down, up = (np.asarray(x, np.float32) for x in (update.down, update.up))
    rank, kernel = down.shape[0], down.shape[2:] if down.ndim == 4 else ()
    flat = down.ndim in (2, 4) and (up.ndim == 2 or (up.ndim == 4 and up.shape[2:] == (1, 1)))
    full = (up.shape[0], *down.shape[1:2], *kernel)
    plain = full[:2] if kernel == (1, 1) else full
    if not flat or up.shape[1] != rank or plain != (shape[:2] if shape[2:] == (1, 1) else shape):
        raise ValueError(
            f"{where} has the shapes {up.shape} and {down.shape}, which do not make a weight of {shape}: is it for "
            "another version of Stable Diffusion?"
        )
    if not (np.isfinite(up).all() and np.isfinite(down).all() and np.isfinite(update.scale)):
        raise ValueError(f"{where} holds values that are NaN or infinite: its training failed, or the file is damaged")
    return update.scale * (up.reshape(-1, rank) @ down.reshape(rank, -1)).reshape(shape)


def _config(path: Path) -> dict[str, Any]:
    """PEFT's configuration by the part it is for, "" for all; from a file beside, or the metadata of diffusers."""
    beside = path.with_name("adapter_config.json")
    if beside.is_file():
        return {"": read_json(beside)}
    text = read_tensors_metadata(path).get("lora_adapter_metadata")
    parts: dict[str, Any] = {}
    for name, value in (json.loads(text) if text else {}).items():
        part, _, field = name.partition(".")
        parts.setdefault(part, {})[field] = value
    return parts


def _scale(config: dict[str, Any], module: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank), as PEFT's configuration has it; 1 without one."""
    own = config.get("", config.get(module.partition(".")[0]))
    if own is None:
        return 1.0
    alpha = next(
        (a for key, a in (own.get("alpha_pattern") or {}).items() if re.fullmatch(rf"(.*\.)?{key}", module)),
        own.get("lora_alpha", rank),
    )
    return float(alpha) / (rank**0.5 if own.get("use_rslora") else rank)


def _other(name: str) -> str:
    kind = next((kind for mark, kind in OTHERS.items() if mark in name.rpartition(".")[2] or f".{mark}" in name), None)
    return f"a tensor of {kind}, which cannot be merged here" if kind else "no tensor of a LoRA"
