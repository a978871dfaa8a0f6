"""The networks of the papers, and small ones for CPUs, as configurations of the one `UNet` and the one `RefineNet`.

    preset              parameters   blocks   resampling           noise features    conditioned by
    ddpm                35,746,307   2        strided convolution  sinusoidal        labels 0..999 (Ho et al. 2020)
    ddpmpp              61,804,419   4        in residual blocks   sinusoidal        999 t (Song et al. 2021)
    ddpmpp(deep)       106,632,579   8
    ncsnpp              62,758,787   4        the same, FIR filter Fourier, 16       log sigma (Song et al. 2021)
    ncsnpp(deep)       107,586,947   8        + residual input pyramid
    edm_ddpmpp          55,732,739   4        in residual blocks   sinusoidal        log(sigma)/4 (Karras et al. 2022)

The counts are of trainable parameters on CIFAR-10; NCSN++ has 128 fixed Fourier frequencies besides. The RefineNets:

    ncsn                30,117,635   index of the level (Song & Ermon 2019)
    ncsnv2              29,694,083   not conditioned on the noise level (Song & Ermon 2020); up to 64 x 64
    ncsnv2(128)         83,445,379   a level more, four times the width at the last two
    ncsnv2(256)         94,132,611   two levels more

And those of Stable Diffusion: U-Nets (Rombach et al. 2022; SDXL: Podell et al. 2023), and the text towers they need:

    sd1                859,520,964   a text of width 768: clip_l
    sd2                865,910,724   of width 1024: openclip_h
    sdxl             2,567,463,684   of width 2048, clip_l and openclip_bigg; their pooled text, six sizes
    sdxl_refiner     2,259,526,660   of width 1280, openclip_bigg; four sizes and a score of the image's looks
    sd_upscaler        473,398,020   of width 1024, openclip_h; the image to enlarge, by four, and its noise level
    kl_autoencoder      83,653,863   8 x 8 pixels and 3 channels become 4 numbers
    clip_l             123,060,480   12 blocks
    openclip_h         340,387,840   23 of 24 blocks
    openclip_bigg      694,659,840   32 blocks and the projection

`pretrained.stable_diffusion` reads their weights.
"""

from __future__ import annotations

from typing import Any

from diffjax.nn.conditional_unet import ConditionalUNet
from diffjax.nn.embed import Fourier, Sinusoidal
from diffjax.nn.kl_autoencoder import KLAutoencoder
from diffjax.nn.refinenet import RefineNet
from diffjax.nn.text_encoder import TextEncoder
from diffjax.nn.unet import UNet

NCSNV2 = {  # largest side: multipliers, dilations
    64: ((1, 2, 2, 2), (1, 1, 2, 4)),
    128: ((1, 2, 2, 4, 4), (1, 1, 1, 2, 4)),
    256: ((1, 2, 2, 2, 4, 4), (1, 1, 1, 1, 2, 4)),
}


def ddpm(**changes: Any) -> UNet:
    """DDPM for CIFAR-10 (Ho et al. 2020, App. B): attention at 16 x 16 behind every block, plain residual sums."""
    return UNet(**{**dict(blocks=2, attend_each=True, qkv_scale=1.0, kernel=None, skip_scale=1.0), **changes})


def ddpmpp(deep: bool = False, **changes: Any) -> UNet:
    """DDPM++ for CIFAR-10 (Song et al. 2021, App. H): BigGAN-type resampling blocks, residual sums over sqrt 2."""
    return UNet(**{**dict(blocks=8 if deep else 4), **changes})


def ncsnpp(deep: bool = False, **changes: Any) -> UNet:
    """NCSN++ for CIFAR-10, continuous VE (Song et al. 2021, App. H): FIR resampling and a residual input pyramid."""
    fields = dict(features=Fourier(256), blocks=8 if deep else 4, kernel=(1, 3, 3, 1), input_skip=True)
    return UNet(**{**fields, **changes})


def edm_ddpmpp(**changes: Any) -> UNet:
    """The DDPM++ that EDM trains on CIFAR-10 (Karras et al. 2022, Table 7): three levels of 256 channels."""
    return UNet(**{**dict(blocks=4, multipliers=(2, 2, 2), dropout=0.13), **changes})


def small(**changes: Any) -> UNet:
    """A net of 0.72 M parameters for 28 x 28 x 1 on a CPU: 14 x 14 x 4 inside, one level of 7 x 7."""
    fields = dict(features=Sinusoidal(64), width=32, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0, patch=2)
    return UNet(**{**fields, **changes})


def ncsn(**changes: Any) -> RefineNet:
    """NCSN for CIFAR-10, ten noise levels (Song & Ermon 2019); width 64 for MNIST. F is the score, c_noise `level(10)`.

    `precondition.from_score(sde, net, precondition.level(10), scaled=False)`, with sigma from 1 to 0.01 on [0, 1].
    """
    return RefineNet(**{**dict(levels=10), **changes})


def ncsnv2(pixels: int = 32, **changes: Any) -> RefineNet:
    """NCSNv2 for images of `pixels` x `pixels` (Song & Ermon 2020, Table 3). F / sigma is the score: `from_score`.

    Raises:
      ValueError: `pixels` is more than 256, for which the paper has no network.
    """
    fitting = [side for side in NCSNV2 if pixels <= side]
    if not fitting:
        raise ValueError(f"NCSNv2 is published for up to 256 pixels, got {pixels}: give multipliers and dilations")
    multipliers, dilations = NCSNV2[fitting[0]]
    return RefineNet(**{**dict(multipliers=multipliers, dilations=dilations), **changes})


def ncsnv2_small(**changes: Any) -> RefineNet:
    """NCSNv2 of 1.86 M parameters for 28 x 28 x 1 on a CPU: 14 x 14 x 4 inside, three levels of 7 x 7."""
    return RefineNet(**{**dict(width=32, patch=2), **changes})


def sd1(**changes: Any) -> ConditionalUNet:
    """Stable Diffusion 1.x; in_channels=9 for inpainting, 8 for InstructPix2Pix."""
    return ConditionalUNet(**changes)


def sd2(**changes: Any) -> ConditionalUNet:
    """Stable Diffusion 2.x; in_channels=9 for inpainting, 5 for depth."""
    return ConditionalUNet(**{**dict(heads=(5, 10, 20, 20), context_width=1024, linear_projection=True), **changes})


def sdxl(**changes: Any) -> ConditionalUNet:
    """Stable Diffusion XL, base."""
    fields = dict(channels=(320, 640, 1280), attention=(False, True, True), heads=(5, 10, 20), transformers=(1, 2, 10))
    fields |= dict(context_width=2048, linear_projection=True, pooled_width=1280, size_count=6)
    return ConditionalUNet(**{**fields, **changes})


def sdxl_refiner(**changes: Any) -> ConditionalUNet:
    """Stable Diffusion XL, refiner; its five "sizes" are height, width, top, left, and a score of the image's looks."""
    fields = dict(channels=(384, 768, 1536, 1536), attention=(False, True, True, False), heads=(6, 12, 24, 24))
    fields |= dict(transformers=4, context_width=1280, linear_projection=True, pooled_width=1280, size_count=5)
    return ConditionalUNet(**{**fields, **changes})


def sd_upscaler(**changes: Any) -> ConditionalUNet:
    """The upscaler by four: cond["concat"] is the small image [B, H, W, 3], cond["label"] its noise level, 0..999."""
    fields = dict(in_channels=7, channels=(256, 512, 512, 1024), attention=(False, True, True, True))
    fields |= dict(context_width=1024, linear_projection=True, num_classes=1000, only_cross=(True, True, True, False))
    return ConditionalUNet(**{**fields, **changes})


def kl_autoencoder(**changes: Any) -> KLAutoencoder:
    """The autoencoder of Stable Diffusion 1.x, 2.x and XL; the scale of its latents is 0.18215, XL's 0.13025."""
    return KLAutoencoder(**changes)


def clip_l(**changes: Any) -> TextEncoder:
    """The text tower of CLIP ViT-L/14."""
    return TextEncoder(**changes)


def openclip_h(**changes: Any) -> TextEncoder:
    """That of OpenCLIP ViT-H/14 without its last block, which Stable Diffusion 2 does not use."""
    return TextEncoder(**{**dict(width=1024, layers=23, heads=16, activation="gelu"), **changes})


def openclip_bigg(**changes: Any) -> TextEncoder:
    """That of OpenCLIP ViT-bigG/14, with its projection."""
    return TextEncoder(**{**dict(width=1280, layers=32, heads=20, activation="gelu", projection=1280), **changes})
