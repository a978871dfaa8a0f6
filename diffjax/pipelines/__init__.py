"""Published models as one object, from prompts to pictures, and from a difficulty to terrain.

pipe = dj.pipelines.load_stable_diffusion(folder)
x = pipe.text_to_image(jax.random.key(0), ["a red fox"], settings=dj.pipelines.Settings(steps=20))
"""

from diffjax.pipelines.drawing import Settings as Settings
from diffjax.pipelines.loading import add_lora as add_lora
from diffjax.pipelines.loading import load_single_file as load_single_file
from diffjax.pipelines.loading import load_stable_diffusion as load_stable_diffusion
from diffjax.pipelines.refining import refined_text_to_image as refined_text_to_image
from diffjax.pipelines.saving import save_stable_diffusion as save_stable_diffusion
from diffjax.pipelines.stable_diffusion import StableDiffusion as StableDiffusion
from diffjax.pipelines.terrain import load_terrain as load_terrain
from diffjax.pipelines.textual_inversion import add_textual_inversion as add_textual_inversion
