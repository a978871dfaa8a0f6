"""Losses of autoencoders whose latents are a diffusion model's data (Esser et al. 2021; Rombach et al. 2022, App. G).

    (1) |x - D(z)| + w_p sum_l |u_l(x) - u_l(D(z))|^2 + w_kl KL(q(z | x) | N(0, I)) / n         KL, z ~ q(z | x)
    (2) |x - D(z)| + w_p ...                          + |sg[E(x)] - e|^2 + beta |E(x) - sg[e]|^2   VQ, z = e

The first term is a mean over the n entries of x, u_l are features of a frozen network scaled to length 1 at each pixel,
their squared distance a mean over pixels (LPIPS without its weights, Zhang et al. 2018), and w_kl = 1e-6 is that of the
paper, whose loss is n times this one. Adversarial training adds a discriminator of D(z), weighed by gradients, after
some steps:

    critic = Discriminator(nn.PatchDiscriminator().apply)
    student = Autoencoded(net)
    term = Delayed(GeneratorLoss(student, (AdversarialTerm(critic),), (1.0,)), start=1000)
    loss_g = Balanced((Autoencoding(net), term), last_layer, weights=(0.5,))
    loss_d = DiscriminatorLoss(student, critic)                             # and both to `train.alternating_steps`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import flat_mean, fold, like
from diffjax.checks import check_number
from diffjax.losses.draws import Draw, read
from diffjax.operators.perceptual import directions
from diffjax.typing import NO_CONTEXT, Context, Key, PyTree, pytree, static


@pytree
class Autoencoding:
    """Eq. 1 or 2, by what `encode` returns; `loss(params, key, batch, context) -> ([B], {"l1", "perceptual", ...})`.

    Attributes:
      network: a Flax module with `encode` and `decode`, `nn.KLAutoencoder` or `nn.VQAutoencoder`.
      features: images -> a tree of maps [B, h, w, C], the u_l before scaling; None for no such term.
      perceptual, kl, commitment: w_p, w_kl and beta.
    """

    network: Any = static()
    features: Callable | None = None
    perceptual: Any = 1.0
    kl: Any = 1e-6
    commitment: Any = 0.25

    def __post_init__(self):
        _check_module(self.network)
        for name in ("perceptual", "kl", "commitment"):
            check_number(f"the weight {name}", getattr(self, name), 0)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        x = read(key, batch, (), context).x0
        code, found = reconstruct(self.network, params, fold(key, 3), x)
        aux = {"l1": flat_mean(jnp.abs(found - x))}
        total = aux["l1"]
        if self.features is not None:
            aux["perceptual"] = feature_distance(self.features, found, x)
            total = total + self.perceptual * aux["perceptual"]
        if hasattr(code, "kl"):
            aux["kl"] = code.kl()
            return total + self.kl * aux["kl"] / x[0].size, aux
        aux["commitment"] = code.commitment
        return total + code.codebook + self.commitment * code.commitment, aux


@pytree
class Autoencoded:
    """An autoencoder as the generator of adversarial training, a `Student`: its reconstructions against the images."""

    network: Any = static()

    def __post_init__(self):
        _check_module(self.network)

    def __call__(self, params: PyTree, draw: Draw) -> Array:
        return reconstruct(self.network, params, draw.k_time, draw.x0)[1]

    def real(self, draw: Draw) -> Array:
        return draw.x0


def reconstruct(network: nn.Module, params: PyTree, key: Key, x: Array) -> tuple[Any, Array]:
    """What `encode` returns for x [B, H, W, C], and the decoded draw from it (its quantised vectors)."""
    code: Any = network.apply(params, x, method="encode")
    z = code.sample(key) if hasattr(code, "sample") else code.z
    return code, like(x, jnp.asarray(network.apply(params, z, method="decode")), "autoencoder")


def feature_distance(features: Callable, x: Array, y: Array) -> Array:
    """sum_l mean over pixels of |u_l(x) - u_l(y)|^2, [B]; the gradient is that of x alone."""
    of_x, of_y = features(x), jax.lax.stop_gradient(features(y))
    terms = jax.tree.map(lambda a, b: ((directions(a) - directions(b)) ** 2).sum(-1), of_x, of_y)
    return jnp.asarray(sum(flat_mean(term) for term in jax.tree.leaves(terms)))


def _check_module(network: Any) -> None:
    if not (callable(getattr(network, "encode", None)) and callable(getattr(network, "decode", None))):
        raise TypeError(f"expected an autoencoder, a Flax module with `encode` and `decode`, got {network!r}")
