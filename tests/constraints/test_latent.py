import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj


def denoise(x, t, cond):
    return cond["latent"] @ jnp.ones((3, 1)) + cond["label"][:, None]


def test_each_example_and_each_step_has_its_own_latent():
    """Into 0 the sample is G itself: here the sum of three latents and the label, N(label, 3)."""
    n, cond = 20_000, {"label": jnp.ones(20_000)}
    sampler, x = dj.Latent(dj.Ancestral(), 3), jnp.zeros((20_000, 1))
    out = np.asarray(dj.sample(jax.random.key(0), denoise, dj.Flow(), sampler, jnp.array([1.0, 0.5, 0.0]), x, cond))
    assert abs(out.mean() - 1) < 4 * np.sqrt(3 / n) and abs(out.var() - 3) < 4 * 3 * np.sqrt(2 / n)
    # with x_0 = z the first step leaves x_s = x_0/2 + noise, of which the second's z is independent
    steps = dj.sample(
        jax.random.key(0), denoise, dj.Flow(), sampler, jnp.array([1.0, 0.5, 0.0]), x, cond, trajectory=True
    )[1:, :, 0]
    assert abs(np.corrcoef(np.asarray(steps))[0, 1]) < 4 / np.sqrt(n)
    with pytest.raises(ValueError, match="cond must be None or a dict; got tuple"):
        dj.sample(jax.random.key(0), denoise, dj.Flow(), sampler, jnp.array([1.0, 0.0]), x, (1.0,))
