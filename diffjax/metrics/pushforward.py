"""How far a one-step map carries noise from the data's law, where both densities are known."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def pushforward_kl(f: Callable[[Array], Array], z: Array, log_prob: Callable[[Array], Array]) -> float:
    """KL(q | p) in nats of the law q of f(z), z ~ N(0, I), from the density p, if f is invertible.

    log q(f(z)) = log N(z) - log |det df/dz|, with the whole Jacobian: for a handful of dimensions. Where f folds there
    is more in q, and this is a lower bound; where f collapses a direction its density, and the divergence, is infinite.

    Args:
      f: maps [B, D] to [B, D].
      z: draws of N(0, I), [B, D].
      log_prob: of p, in nats, [B, D] to [B].

    Raises:
      ValueError: z or f(z) are not [B, D].
    """
    z = jnp.asarray(z)
    if z.ndim != 2 or not z.size or jax.eval_shape(f, z).shape != z.shape:
        raise ValueError(f"expected a map [B, D] -> [B, D] and draws z [B, D], got z of shape {z.shape}")
    jacobians = jax.lax.map(jax.jacfwd(lambda z: f(z[None])[0]), z, batch_size=1000)
    log_q = -jnp.sum(z**2 + jnp.log(2 * jnp.pi), -1) / 2 - jnp.linalg.slogdet(jacobians)[1]
    return float(jnp.mean(log_q - log_prob(f(z))))
