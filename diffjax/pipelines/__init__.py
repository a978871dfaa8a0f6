"""Published models as one object, from prompts to pictures; imported by its name, `from diffjax import pipelines`."""

from diffjax.pipelines.drawing import Settings as Settings
from diffjax.pipelines.loading import add_lora as add_lora
from diffjax.pipelines.loading import load_single_file as load_single_file
from diffjax.pipelines.loading import load_stable_diffusion as load_stable_diffusion
from diffjax.pipelines.stable_diffusion import StableDiffusion as StableDiffusion
