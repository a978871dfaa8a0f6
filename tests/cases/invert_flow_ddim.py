"""DDIM inversion up to T where alpha(T) = 0: the end of the flow of N(0, 1/4) from (t, x) is known in closed form."""

import sys

import jax.numpy as jnp
import numpy as np

import diffjax as dj

bad = []
for sde in (dj.Flow(), dj.Cosine()):

    def denoise(x, t, cond=None, sde=sde):
        a, s = sde.alpha(t), sde.sigma(t)
        return a / 4 / (a**2 / 4 + s**2) * x

    x, low = jnp.array([[0.3, -0.8]]), 1e-3
    right = np.asarray(x) / np.sqrt(float(sde.alpha(low) ** 2 / 4 + sde.sigma(low) ** 2))
    for sampler in (dj.DDIM(), dj.DPMpp2S(), dj.DPMpp2M()):
        z = np.asarray(dj.invert(denoise, sde, sampler, dj.times.uniform(sde, 400, low), x))
        if not np.allclose(z, right, rtol=0.05):
            bad.append(
                f"{type(sde).__name__} {type(sampler).__name__} {z[0].tolist()}, not {right[0].round(3).tolist()}"
            )
print("wrong: " + "; ".join(bad) if bad else "right: inverted to within 5 %")
sys.exit(bool(bad))
