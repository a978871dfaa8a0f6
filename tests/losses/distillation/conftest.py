"""Gaussian data for which every few-step loss has a known value.

The data are N(0, S2), noise N(0, 1), and all maps linear in x, so a squared loss is a quadratic form of (x_0, eps):
four points with these second moments give its expectation exactly, with no noise of sampling. A student is the exact
flow map of N(0, v) data, plus b (t - s) x: true at v = S2, b = 0, a flow map of other data at v alone, none with b.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax.arrays import bcast
from diffjax.sde import gaussian
from diffjax.typing import pytree

S2 = 0.25
X0, EPS = np.sqrt(S2) * np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([[1.0], [-1.0], [1.0], [-1.0]])


def network(params, *inputs, train, rngs):
    """The parameters themselves, for maps that use them as they are."""
    return params


def spread(sde, t, v):
    """The standard deviation of x_t for data of variance v."""
    return jnp.hypot(sde.alpha(t) * jnp.sqrt(v), sde.sigma(t))


def flow_map(sde, network):
    def X(x, t, s, cond=None):
        p = network(x, None, cond)
        return bcast(spread(sde, s, p["v"]) / spread(sde, t, p["v"]) + p["b"] * (t - s), x) * x

    return X


def consistency(sde, network):
    return lambda x, t, cond=None: flow_map(sde, network)(x, t, sde.t_min, cond)


@pytree
class At:
    """Every example at the same times."""

    times: tuple

    def __call__(self, key, n, step=None):
        return tuple(jnp.full(n, t, float) for t in self.times)


@jax.jit
def value_and_grad(loss, params, batch, key=None):
    key = jax.random.key(0) if key is None else key
    return jax.value_and_grad(lambda p: loss(p, key, batch)[0].mean())(params)


def residuals(loss, batch, points=((S2, 0.0), (0.4, 0.0), (S2, 0.3))):
    """Value and largest slope at the truth, at the map of other data, and off all flow maps."""
    out = []
    for v, b in points:
        value, grad = value_and_grad(loss, {"v": jnp.asarray(v), "b": jnp.asarray(b)}, batch)
        out.append((float(value), max(abs(float(g)) for g in grad.values())))
    return out


@pytest.fixture(scope="session")
def case():
    gauss = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full((1, 1, 1), S2))
    truth = {"v": jnp.asarray(S2), "b": jnp.asarray(0.0)}
    return SimpleNamespace(
        S2=S2, x0=X0, eps=EPS, batch={"image": X0, "noise": EPS}, truth=truth, gauss=gauss,
        teacher=gauss.denoiser, exact=lambda sde: Partial(flow_map(sde, lambda *_: truth)),
        network=network, flow_map=flow_map, consistency=consistency, spread=spread, At=At,
        value_and_grad=value_and_grad, residuals=residuals, gaussian=gaussian,
    )  # fmt: skip
