"""Weights of Stable Diffusion 1.x, 2.x and XL: read from and written to the hub's folders and single files.

    parts = read_hub(folder)             # or read_single_file(path)
    net, params, *_ = parts["unet"]      # `net.apply(params, x, t, cond)`
    part = read_part(folder, "controlnet")

    hub.py             a folder for each network: config.json and safetensors, whole or in shards
    single_file.py     all networks in one file, under the names of their authors
    names.py, single_names.py   the two rules for names
    layout.py          shapes, the order of axes, strict conversion both ways
    lora.py            LoRA files of all dialects, merged into parameters
    textual_inversion.py   files of tokens and their vectors
    ip_adapter.py      files of IP-Adapter, by the U-Net's attentions
    *_config.py        config.json and scheduler_config.json

Reading is strict: a tensor that is missing, mis-shaped or without a place raises, with the names that are most similar.
What is read is written again byte for byte.
"""

from diffjax.pretrained.stable_diffusion.control_config import controlnet_from_config as controlnet_from_config
from diffjax.pretrained.stable_diffusion.control_config import controlnet_to_config as controlnet_to_config
from diffjax.pretrained.stable_diffusion.hub import Part as Part
from diffjax.pretrained.stable_diffusion.hub import from_hub as from_hub
from diffjax.pretrained.stable_diffusion.hub import read_hub as read_hub
from diffjax.pretrained.stable_diffusion.hub import read_part as read_part
from diffjax.pretrained.stable_diffusion.hub import to_hub as to_hub
from diffjax.pretrained.stable_diffusion.hub import write_hub as write_hub
from diffjax.pretrained.stable_diffusion.hub import write_part as write_part
from diffjax.pretrained.stable_diffusion.ip_adapter import read_ip_adapter as read_ip_adapter
from diffjax.pretrained.stable_diffusion.ip_adapter import write_ip_adapter as write_ip_adapter
from diffjax.pretrained.stable_diffusion.lora import merge_lora as merge_lora
from diffjax.pretrained.stable_diffusion.lora import read_lora as read_lora
from diffjax.pretrained.stable_diffusion.scheduler_config import Schedule as Schedule
from diffjax.pretrained.stable_diffusion.scheduler_config import read_schedule as read_schedule
from diffjax.pretrained.stable_diffusion.scheduler_config import schedule_from_config as schedule_from_config
from diffjax.pretrained.stable_diffusion.scheduler_config import schedule_to_config as schedule_to_config
from diffjax.pretrained.stable_diffusion.single_file import read_single_file as read_single_file
from diffjax.pretrained.stable_diffusion.single_file import write_single_file as write_single_file
from diffjax.pretrained.stable_diffusion.text_config import text_from_config as text_from_config
from diffjax.pretrained.stable_diffusion.text_config import text_to_config as text_to_config
from diffjax.pretrained.stable_diffusion.textual_inversion import read_textual_inversion as read_textual_inversion
from diffjax.pretrained.stable_diffusion.unet_config import unet_from_config as unet_from_config
from diffjax.pretrained.stable_diffusion.unet_config import unet_to_config as unet_to_config
from diffjax.pretrained.stable_diffusion.vae_config import latent_scale as latent_scale
from diffjax.pretrained.stable_diffusion.vae_config import vae_from_config as vae_from_config
from diffjax.pretrained.stable_diffusion.vae_config import vae_to_config as vae_to_config
