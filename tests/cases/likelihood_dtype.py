"""float32 images (and bfloat16 ones) under jax_enable_x64: `sample` and `sample_ode` take them, log_likelihood must too."""

import sys

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import diffjax as dj  # noqa: E402
from diffjax.likelihoods.probes import Exact  # noqa: E402

sde = dj.VP()


def denoise(x, t, cond=None):  # of N(0, 1/4)
    a, s = sde.alpha(t), sde.sigma(t)
    return (a / 4 / (a**2 / 4 + s**2) * x).astype(x.dtype)


x, bad = np.array([[0.5, -0.25]]), []
right = float((-2 * x**2 - 0.5 * np.log(np.pi / 2)).sum())
for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
    try:
        got = float(dj.log_likelihood(jax.random.key(0), denoise, sde, jnp.asarray(x, dtype), probes=Exact())[0])
        if not abs(got - right) < 0.05:
            bad.append(f"{jnp.dtype(dtype).name} {got:.3f}, not {right:.3f}")
    except Exception as error:
        bad.append(f"{jnp.dtype(dtype).name} {type(error).__name__}: {str(error)[:80]}")
print("wrong: " + "; ".join(bad) if bad else f"right: {right:.3f} in every type")
sys.exit(bool(bad))
