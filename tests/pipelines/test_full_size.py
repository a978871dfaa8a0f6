"""The whole program at Stable Diffusion 1.5's size, lowered without weights and without an accelerator."""

import jax
import jax.numpy as jnp
import pytest

from diffjax.nn import presets
from diffjax.parameters import unflatten
from diffjax.pipelines import drawing, loading, solvers
from diffjax.pretrained.stable_diffusion import Part, layout, schedule_from_config


def shapes(net):
    flat = layout.parameter_shapes(net).items()
    return {"params": unflatten({name: jax.ShapeDtypeStruct(x.shape, jnp.float32) for name, x in flat})}


@pytest.mark.slow
def test_text_to_image_is_lowered_for_cuda_and_tpu():
    schedule = schedule_from_config(loading.PUBLISHED | loading.OF_OTHERS)
    plan = solvers.plan("dpmpp_2m_karras", schedule, 20)
    unet, vae = presets.sd1(), presets.kl_autoencoder()

    def program(params, latents, key_data, ts, scale, cond, null):
        parts = Part(unet, params), Part(vae, latents, (), (0.18215, 0.0))
        model = loading.latent_model(*parts, schedule)
        numbers = {"ts": ts, "noise": jnp.float32(plan.noise), "scale": scale, "rescale": None}
        start = {"keys": jax.random.wrap_key_data(key_data)}
        return drawing._pictures(model, plan.sampler, (512, 512), numbers, start, (cond, null))

    f32 = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
    text = {"context": f32(1, 77, 768)}
    arguments = shapes(unet), shapes(vae), jax.ShapeDtypeStruct((1, 2), jnp.uint32), f32(65), f32(), text, text
    lowered = jax.export.export(jax.jit(program), platforms=("cuda", "tpu"))(*arguments)
    assert lowered.out_avals[0].shape == (1, 512, 512, 3) and lowered.platforms == ("cuda", "tpu")
