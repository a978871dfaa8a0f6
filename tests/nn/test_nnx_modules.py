"""NNX modules as networks: the same function, parameters in a dict, dropout from the caller's keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

import diffjax as dj
from diffjax import losses, precondition, times
from diffjax.nn import from_nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.z_first = nnx.Linear(2, 8, rngs=rngs)
        self.level = nnx.Linear(1, 8, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(3)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.a_last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x, c_noise):
        h = nnx.silu(self.z_first(x) + self.level(c_noise[:, None]))
        for block in self.blocks:
            h = self.dropout(nnx.silu(block(h)))
        return self.a_last(h)


@pytest.mark.slow
def test_an_nnx_module_trains_and_samples(key):
    module, vp, x = Net(nnx.Rngs(3)), dj.VP(), jax.random.normal(key, (5, 2))
    network, params = from_nnx(module)
    module.eval()
    np.testing.assert_allclose(network(params, x, jnp.ones(5)), module(x, jnp.ones(5)), rtol=1e-6)
    drop = jax.jit(lambda key: network(params, x, jnp.ones(5), train=True, rngs={"dropout": key}))
    a, b = drop(key), drop(jax.random.key(1))
    assert not jnp.allclose(a, b) and jnp.array_equal(a, drop(key))
    loss = losses.DSM(vp, times.Uniform(), network, precondition.from_v)
    grads = jax.jit(jax.grad(lambda p: loss(p, key, x)[0].mean()))(params)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    assert all(bool(jnp.any(g != 0)) for g in jax.tree.leaves(grads))
    denoise = precondition.from_v(vp, Partial(network, params))
    assert jnp.isfinite(dj.sample(key, denoise, vp, dj.DDIM(), times.uniform(vp, 3), x)).all()


def test_batch_statistics_do_not_fit():
    with pytest.raises(ValueError, match="batch statistics"):
        from_nnx(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
