"""Flax networks `(params, x, c_noise, cond) -> F`; they do not depend on an SDE."""

from diffjax.nn import presets as presets
from diffjax.nn.attention import plain as plain
from diffjax.nn.autoencoder import Autoencoder as Autoencoder
from diffjax.nn.classifier import Classifier as Classifier
from diffjax.nn.clip import CLIP as CLIP
from diffjax.nn.condition import init as init
from diffjax.nn.conditional_unet import ConditionalUNet as ConditionalUNet
from diffjax.nn.conditional_unet import Control as Control
from diffjax.nn.controlnet import ControlNet as ControlNet
from diffjax.nn.discriminator import FeatureHeads as FeatureHeads
from diffjax.nn.discriminator import PatchDiscriminator as PatchDiscriminator
from diffjax.nn.discriminator import PointDiscriminator as PointDiscriminator
from diffjax.nn.kl_autoencoder import KLAutoencoder as KLAutoencoder
from diffjax.nn.kl_autoencoder import VQAutoencoder as VQAutoencoder
from diffjax.nn.linear_head import LinearHead as LinearHead
from diffjax.nn.mlp import MLP as MLP
from diffjax.nn.refinenet import RefineNet as RefineNet
from diffjax.nn.text_encoder import TextEncoder as TextEncoder
from diffjax.nn.tiny_autoencoder import TinyAutoencoder as TinyAutoencoder
from diffjax.nn.unet import UNet as UNet


def __getattr__(name: str):
    if name == "from_nnx":  # flax.nnx takes a while to import, and few need it
        from diffjax.nn.nnx_modules import from_nnx

        return from_nnx
    raise AttributeError(f"module 'diffjax.nn' has no attribute {name!r}")
