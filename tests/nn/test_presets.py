"""The papers' networks have the published numbers of trainable parameters, counted without allocating one."""

import math

import jax
import jax.numpy as jnp
import pytest

from diffjax.nn import presets

PUBLISHED = {
    "ddpm": (presets.ddpm, 35_746_307),
    "ddpm++": (presets.ddpmpp, 61_804_419),
    "ddpm++ deep": (lambda: presets.ddpmpp(deep=True), 106_632_579),
    "ncsn++": (presets.ncsnpp, 62_758_787),
    "ncsn++ deep": (lambda: presets.ncsnpp(deep=True), 107_586_947),
    "edm ddpm++": (presets.edm_ddpmpp, 55_732_739),
    "edm ddpm++ with four levels is ddpm++": (lambda: presets.edm_ddpmpp(multipliers=(1, 2, 2, 2)), 61_804_419),
}


SLOW = {"ddpm++ deep", "ncsn++ deep", "edm ddpm++ with four levels is ddpm++"}  # of the layers that the others have


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in PUBLISHED])
def test_parameter_counts(name):
    make, count = PUBLISHED[name]
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    out, shapes = jax.eval_shape(make().init_with_output, jax.random.key(0), x, jnp.zeros(2))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == count
    assert (out.shape, out.dtype) == (x.shape, jnp.float32)
