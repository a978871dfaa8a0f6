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
"""

from __future__ import annotations

from typing import Any

from diffjax.nn.embed import Fourier, Sinusoidal
from diffjax.nn.refinenet import RefineNet
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
