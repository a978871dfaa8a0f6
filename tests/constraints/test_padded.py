"""Padded grids: the same end, the evaluations of the real steps alone, and one program for all lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax.constraints import Padded, pad_grid

TRACES = []


def shrink(gain, x, t, cond):
    TRACES.append(t)
    return gain * x


@pytest.mark.parametrize("sampler", [dj.DDIM(1.0), dj.DPMpp2M()], ids=repr)
def test_padding_changes_nothing_and_compiles_once(key, sampler):
    sde, x = dj.VP(), jnp.ones((2, 3))
    denoise = Partial(shrink, 0.5)
    ends = []
    for n in (4, 7, 5):
        ts = dj.times.uniform(sde, n)
        ends.append(dj.sample(key, denoise, sde, Padded(sampler), pad_grid(ts, 8), x))
        before = len(TRACES)
        np.testing.assert_allclose(ends[-1], dj.sample(key, denoise, sde, sampler, ts, x), rtol=1e-5)
        if n != 4:
            assert len(TRACES) - before < 4  # that of the plain grid alone
    assert not np.allclose(ends[0], ends[1])


def test_steps_of_length_0_evaluate_nothing(key):
    seen = []

    def counted(x, t, cond):
        jax.debug.callback(lambda t: seen.append(float(t)), t)
        return 0.5 * x

    dj.sample(key, counted, dj.VP(), Padded(dj.DDIM()), pad_grid([1.0, 0.5, 0.1], 6), jnp.ones((1, 2)))
    jax.effects_barrier()
    assert sorted(seen) == pytest.approx([0.5, 1.0])
    with pytest.raises(ValueError, match="number of steps of the grid"):
        pad_grid([1.0, 0.5, 0.1], 1)
