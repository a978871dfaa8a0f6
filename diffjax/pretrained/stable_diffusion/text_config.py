"""A text tower's `config.json` as our network, and back, for transformers' CLIPTextModel and ...WithProjection."""

from __future__ import annotations

from typing import Any

from diffjax.nn import TextEncoder
from diffjax.pretrained.stable_diffusion.config_fields import Config


def text_from_config(config: Config, **changes: Any) -> TextEncoder:
    """The text tower of a `config.json`, CLIPTextModel's or CLIPTextModelWithProjection's.

    Files of before July 2023 call the end token 2; theirs is the last of the vocabulary, 49407. `pool` is "first_end",
    also for them, where transformers takes the largest id: the same but for texts with added tokens.

    Raises:
      ValueError: it is another model, or has an activation that our network does not have.
    """
    get = config.get
    if get("model_type", "clip_text_model") != "clip_text_model":
        raise ValueError(f"the text encoder's configuration is of a {get('model_type')!r}, not a 'clip_text_model'")
    if get("hidden_act", "quick_gelu") not in ("quick_gelu", "gelu"):
        raise ValueError(f"the text encoder has 'hidden_act' = {get('hidden_act')!r}; ours 'quick_gelu' or 'gelu'")
    vocabulary, end = get("vocab_size", 49408), get("eos_token_id", 49407)
    projected = any("WithProjection" in name for name in get("architectures") or ())
    fields = dict(
        vocabulary=vocabulary,
        positions=get("max_position_embeddings", 77),
        width=get("hidden_size", 512),
        layers=get("num_hidden_layers", 12),
        heads=get("num_attention_heads", 8),
        feed=get("intermediate_size", 2048),
        activation=get("hidden_act", "quick_gelu"),
        projection=get("projection_dim", 512) if projected else 0,
        end=min(49407, vocabulary - 1) if end in (2, None) else end,
        epsilon=get("layer_norm_eps", 1e-5),
    )
    return TextEncoder(**{**fields, **changes})


def text_to_config(net: TextEncoder) -> dict[str, Any]:
    """The `config.json` of a text tower, for transformers' CLIPTextModel or CLIPTextModelWithProjection."""
    return {
        "architectures": ["CLIPTextModelWithProjection" if net.projection else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": net.vocabulary,
        "max_position_embeddings": net.positions,
        "hidden_size": net.width,
        "num_hidden_layers": net.layers,
        "num_attention_heads": net.heads,
        "intermediate_size": net.feed or 4 * net.width,
        "hidden_act": net.activation,
        "projection_dim": net.projection or net.width,
        "eos_token_id": net.end,
        "bos_token_id": net.end - 1,
        "layer_norm_eps": net.epsilon,
    }
