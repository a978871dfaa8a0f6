"""CLIP's text tower: pooling, masks, what it refuses. Its numbers are compared in tests/pretrained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nn import TextEncoder

NET = TextEncoder(vocabulary=12, positions=6, width=8, layers=2, heads=2, end=9, projection=5)
IDS = np.array([[8, 1, 9, 9, 9], [8, 2, 11, 9, 0]])  # 11 is a token that was added


@pytest.fixture(scope="module")
def params():
    return NET.init(jax.random.key(0), IDS)


@pytest.mark.slow
def test_the_vector_of_a_text_is_at_its_first_end_or_largest_id(params):
    for pool, places in (("first_end", (2, 3)), ("largest", (2, 2))):
        out = NET.clone(pool=pool).apply(params, IDS)
        for i, place in enumerate(places):
            np.testing.assert_array_equal(out.pooled[i], out.context[i, place])
        np.testing.assert_allclose(out.projected, out.pooled @ params["params"]["projection"]["kernel"], rtol=1e-5)


def test_states_before_the_end_and_before_normalization(params):
    out = NET.apply(params, IDS)
    assert len(out.states) == 3 and out.projected.shape == (2, 5)
    raw = NET.apply(params, IDS, skip=1, normalize=False)
    np.testing.assert_array_equal(raw.context, out.states[1])
    normal = NET.apply(params, IDS, skip=1).context
    np.testing.assert_allclose(normal.mean(-1), 0, atol=1e-6)
    np.testing.assert_array_equal(raw.pooled, out.pooled)
    assert NET.clone(projection=0).apply(params, IDS).projected is None


def test_a_state_depends_on_the_tokens_before_it_only(params):
    changed = IDS.copy()
    changed[:, 4] = 3
    a, b = NET.apply(params, IDS).context, NET.apply(params, changed).context
    np.testing.assert_array_equal(a[:, :4], b[:, :4])
    assert (jnp.abs(a[:, 4] - b[:, 4]).max(-1) > 1e-4).all()


@pytest.mark.slow
def test_bfloat16_is_close_and_returns_float32(params):
    out, low = (net.apply(params, IDS) for net in (NET, NET.clone(dtype=jnp.bfloat16)))
    assert {x.dtype for x in jax.tree.leaves(low)} == {jnp.dtype("float32")}
    assert jnp.linalg.norm(out.context - low.context) / jnp.linalg.norm(out.context) < 2e-2


def test_ids_that_cannot_be_are_refused_or_nan(params):
    for ids, message in (
        (IDS + 0.5, "integers"), (IDS[0], "integers"), (np.full((1, 7), 9), "has 6 positions, got 7"),
        (IDS + 3, "ids go from 0 to 11, got 3 to 14"), (IDS * 0, "no end token, whose id is 9"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            NET.apply(params, ids)
    out = jax.jit(NET.apply)(params, IDS * np.array([[1], [0]]))
    assert jnp.isfinite(out.pooled[0]).all() and jnp.isnan(out.pooled[1]).all() and jnp.isfinite(out.context).all()
    with pytest.raises(ValueError, match="skip must be from 0 to 2"):
        NET.apply(params, IDS, skip=3)
    with pytest.raises(ValueError, match="first_end"):
        TextEncoder(pool="mean")  # pyright: ignore[reportArgumentType]
