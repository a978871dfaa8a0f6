import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nn import FeatureHeads, PointDiscriminator


def noisy(params):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32), params)


@pytest.mark.slow
def test_points_one_by_one_and_in_pairs(key):
    net, x = PointDiscriminator(width=16, num_classes=2), jax.random.normal(key, (3, 2))
    t, cond = jnp.array([1.0, 500.0, 1.0]), {"label": jnp.array([0, 1, 2])}
    out, params = jax.jit(net.init_with_output)(key, x, t)
    assert (out.shape, out.dtype) == ((3,), jnp.float32) and not np.any(out)  # it starts undecided
    params, apply = noisy(params), jax.jit(net.apply)
    whole = apply(params, x, t, cond)
    np.testing.assert_allclose(apply(params, x[1:2], t[1:2], {"label": jnp.array([1])}), whole[1:2], rtol=1e-4)
    np.testing.assert_allclose(apply(params, x[2:], 1.0), whole[2:], rtol=1e-4)  # no label: the null label
    pair = noisy(jax.jit(net.init)(key, x, (2 * x, t)))
    assert pair["params"]["in"]["kernel"].shape == (4, 16)
    assert not np.allclose(apply(pair, x, (2 * x, t)), apply(pair, x, (3 * x, t)))
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        net.apply(params, jnp.zeros((2, 4, 4, 1)), 0.0)


def test_heads_judge_positions_in_numpy(key):
    net, rng = FeatureHeads(width=8), np.random.default_rng(1)
    h = {"deep": rng.normal(size=(2, 5)), "wide": rng.normal(size=(2, 4, 4, 3))}
    params = noisy(jax.jit(net.init)(key, h))
    logits = jax.jit(net.apply)(params, h)
    assert [x.shape for x in logits] == [(2,), (2, 4, 4)]
    for i, (name, out) in enumerate(zip(("deep", "wide"), logits, strict=True)):
        p = {k: jax.tree.map(np.asarray, params["params"][f"{k}{i}"]) for k in ("head", "out")}
        z = h[name] @ p["head"]["kernel"] + p["head"]["bias"]
        expected = (z / (1 + np.exp(-z))) @ p["out"]["kernel"] + p["out"]["bias"]
        np.testing.assert_allclose(out, expected[..., 0], rtol=1e-4, atol=1e-5)
