from diffjax.nn import presets as presets
from diffjax.nn.unet import UNet as UNet
