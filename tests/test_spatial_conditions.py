"""Conditions that say where: boxes as tokens and back, maps and masks on the grid of latents, and who takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import cards, conditions, guidance, losses, nn, precondition
from diffjax.data import scenes
from diffjax.parameters import flatten, widen
from diffjax.spatial_conditions import BoxTokens, class_map, masked_latents, small_picture

TOKENS = BoxTokens((6, 8))
NULL = {"context": 0.0, "concat": conditions.Kept()}


class Means:
    """An autoencoder whose latent is the mean of 4 x 4 pixels, in place of a network."""

    def encode(self, x):
        return small_picture(x, (x.shape[1] // 4, x.shape[2] // 4))

    def decode(self, z):
        return z.repeat(4, 1).repeat(4, 2)

    def apply(self, params, x, method):
        return getattr(self, method)(x)


def test_layouts_become_tokens_and_layouts_again():
    drawn = scenes.make(range(40))
    tokens = TOKENS.encode(drawn.boxes, drawn.classes, drawn.colours)
    assert tokens.shape == (40, 3, TOKENS.width) == (40, 3, 6 + 8 + 48) and tokens.dtype == np.float32
    boxes, shapes, colours = TOKENS.decode(tokens)
    np.testing.assert_allclose(boxes, drawn.boxes, atol=1e-6)
    np.testing.assert_array_equal(shapes, drawn.classes)
    np.testing.assert_array_equal(colours, drawn.colours)
    absent = drawn.classes < 0
    assert absent.any() and (tokens[absent] == 0).all()  # a scene without objects is the null condition
    edge = np.array([0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(TOKENS.decode(TOKENS.encode(edge, 0, 7))[0], edge, atol=1e-6)


@pytest.mark.parametrize(
    ("boxes", "values", "message"),
    [
        ([[0.1, 0.2, 0.3, 0.4]], ([0],), "2 arrays"),
        ([[0.1, 0.2, 0.3, 0.4]], ([0], [0, 1]), "boxes .* and 2 arrays"),
        ([[0.1, 0.2, 0.3, 0.4]], ([0], [8]), "from 0 to 7"),
        ([[0.1, 0.2, 0.3, 0.4]], ([0], [-1]), "all of an absent object are -1"),
        ([[0.1, 0.2, 0.3, 0.4]], ([-2], [1]), r"from 0 to 5, or are -1 .* got \[-2\]"),
        ([[0.3, 0.2, 0.1, 0.4]], ([0], [1]), "x_0 < x_1"),
        ([[0.1, 0.2, 0.3, np.nan]], ([0], [1]), "x_0 < x_1"),
        ([[0.1, 0.2, 0.3, 1.4]], ([0], [1]), r"in \[0, 1\]"),
    ],
)
def test_layouts_that_are_none_are_refused(boxes, values, message):
    with pytest.raises(ValueError, match=message):
        TOKENS.encode(boxes, *values)
    with pytest.raises(ValueError, match=r"tokens are \[..., 62\]"):
        TOKENS.decode(np.zeros((2, 61)))


def test_classes_are_integers_and_a_picture_may_have_no_object():
    for values in (([0.5], [1]), (["ring"], ["red"])):
        with pytest.raises(TypeError, match="classes are integers from 0 to 5"):
            TOKENS.encode([[0.1, 0.2, 0.3, 0.4]], *values)
    assert TOKENS.encode(np.zeros((0, 4)), [], []).shape == (0, 62)
    with pytest.raises(TypeError, match=r"size is .h, w., got 8"):
        small_picture(np.zeros((1, 8, 8, 3), np.float32), 8)


def test_maps_and_pictures_become_shares_and_means_of_cells():
    labels = np.random.default_rng(0).integers(0, 3, (2, 6, 4))
    shares = class_map(labels, 3, (3, 2))
    assert shares.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-6)
    assert shares[1, 2, 0, 1] == np.mean(labels[1, 4:, :2] == 1)
    x = np.random.default_rng(1).uniform(-1, 1, (2, 6, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(small_picture(x, (3, 2))[1, 2, 0], x[1, 4:, :2].mean((0, 1)), atol=1e-6)
    for wrong, error, message in (
        (lambda: class_map(labels.astype(float), 3, (3, 2)), TypeError, "holds integers"),
        (lambda: class_map(labels, 2, (3, 2)), ValueError, "from 0 to 1, got 0 to 2"),
        (lambda: class_map(labels[0], 3, (3, 2)), ValueError, r"are \[B, H, W\]"),
        (lambda: class_map(labels, 3, (4, 2)), ValueError, "6 x 4 pixels do not divide into 4 x 2"),
        (lambda: small_picture(x, (0, 2)), ValueError, "do not divide"),
        (lambda: small_picture((127 * x).astype(np.int32), (3, 2)), TypeError, "int32"),
    ):
        with pytest.raises(error, match=message):
            wrong()


def test_what_is_hidden_does_not_reach_the_condition():
    codec = dj.Codec(Means(), {}, (8, 8, 3))
    x = np.random.default_rng(2).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    mask = np.zeros((1, 8, 8, 1), np.float32)
    mask[:, :4, 4:] = 1
    seen = masked_latents(codec, x, mask)
    assert seen.shape == (1, 2, 2, 4)
    np.testing.assert_array_equal(seen[0, ..., 0], [[0, 1], [0, 0]])
    np.testing.assert_allclose(seen[0, 1, 0, 1:], x[0, 4:, :4].mean((0, 1)), atol=1e-6)
    np.testing.assert_array_equal(masked_latents(codec, np.where(mask == 1, 0.7, x), mask), seen)
    np.testing.assert_array_equal(masked_latents(codec, np.where(mask == 1, np.nan, x), mask), seen)
    thin = np.zeros_like(mask)
    thin[:, 3, 1:7] = 1  # no pixel above and to the left in its cell
    np.testing.assert_array_equal(masked_latents(codec, x, thin)[0, ..., 0], [[1, 1], [0, 0]])
    with pytest.raises(ValueError, match=r"is \[1, 8, 8, 1\], got \[1, 2, 2, 1\]"):
        masked_latents(codec, x, mask[:, ::4, ::4])
    for values in (255, 0.5, np.nan):
        with pytest.raises(ValueError, match=r"threshold other values first"):
            masked_latents(codec, x, values * mask)


@pytest.mark.parametrize("joined", [0, 1, 3, 5])
def test_a_network_whose_channels_do_not_fit_its_condition_is_refused(joined, key):
    batch = {"image": jnp.zeros((1, 8, 8, 4)), "context": jnp.zeros((1, 3, 6))}
    batch |= {"concat": jnp.zeros((1, 8, 8, joined))} if joined else {}
    for channels in (4, 5, 7, 9):
        net = nn.ConditionalUNet(
            channels, channels=(4,), layers=1, attention=(False,), heads=1, groups=2, context_width=6
        )
        make = lambda net=net: dj.Model.init(key, net, dj.VP(), precondition.from_v, batch)  # noqa: E731
        if channels == 4 + joined:
            assert jax.eval_shape(make).params["params"]["conv_in"]["kernel"].shape == (3, 3, channels, 4)
            continue
        wants, needs = f'needs a cond."concat". of {channels - 4} channels', f"this input in_channels = {4 + joined}"
        with pytest.raises(ValueError, match=f"in_channels = {channels}, but x has 4 .* {wants}, and {needs}"):
            jax.eval_shape(make)


def test_a_kept_entry_is_neither_guided_nor_dropped(key):
    def denoise(x, t, cond):
        return cond["context"].sum((1, 2))[:, None] + 10 * cond["concat"]

    x, cond = jnp.zeros((4, 1)), {"context": jnp.ones((4, 2, 3)), "concat": jnp.arange(4.0)[:, None]}
    for batched in (False, True):
        guided = guidance.cfg(denoise, 3.0, NULL, batched=batched)(x, 0.5, cond)
        np.testing.assert_allclose(guided, 18 + 10 * cond["concat"])  # 3 times 6, and the map once
        with pytest.raises(ValueError, match=r"keeps \['concat'\] of the condition, which has only \['context'\]"):
            guidance.cfg(denoise, 3.0, NULL, batched=batched)(x, 0.5, {"context": cond["context"]})
    form = cards.to_json(NULL)
    assert cards.from_json(form)["context"] == 0 and isinstance(cards.from_json(form)["concat"], conditions.Kept)
    both = lambda params, key, batch: (batch["cond"]["context"].sum((1, 2)), {k: batch.get(k) for k in ("concat",)})  # noqa: E731
    values, aux = losses.DropCondition(both, NULL, 1.0)({}, key, {"image": x, **cond})
    assert (values == 0).all() and (aux["concat"] == cond["concat"]).all()
    inside = lambda params, key, batch: (batch["cond"]["concat"][:, 0] + batch["cond"]["context"].sum((1, 2)), {})  # noqa: E731
    values, _ = losses.DropCondition(inside, NULL, 1.0)({}, key, {"image": x, "cond": cond})
    np.testing.assert_array_equal(values, cond["concat"][:, 0])


def test_a_network_with_further_inputs_begins_as_the_one_without(key):
    small = nn.ConditionalUNet(4, channels=(4,), layers=1, attention=(False,), heads=1, groups=2, context_width=6)
    large = small.clone(in_channels=9)
    x, context = jax.random.normal(key, (2, 4, 4, 4)), jax.random.normal(key, (2, 3, 6))
    make = lambda net, cond: jax.jit(net.init)(key, x, jnp.ones(2), cond)  # noqa: E731
    noise = lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape)  # noqa: E731
    kept = jax.tree.map(noise, make(small, {"context": context}))
    cond = {"context": context, "concat": jax.random.normal(key, (2, 4, 4, 5))}
    params, done = widen(make(large, cond), kept)
    assert done["widened"] == ["params/conv_in/kernel"] and not done["new"]
    assert set(done["taken"]) == set(flatten(kept)) - {"params/conv_in/kernel"}
    before = jax.jit(small.apply)(kept, x, jnp.ones(2), {"context": context})
    np.testing.assert_allclose(jax.jit(large.apply)(params, x, jnp.ones(2), cond), before, atol=1e-5)
    assert jnp.abs(before).max() > 0.1
    other = large.clone(context_width=8)  # keys and values of another context are new
    shapes = jax.eval_shape(other.init, key, x, jnp.ones(2), cond | {"context": jnp.zeros((2, 3, 8))})
    filled = jax.tree.map(lambda s: jnp.ones(s.shape), shapes)
    _, done = widen(filled, kept)
    assert len(done["widened"]) == 3 and {name.split("/")[-2] for name in done["widened"]} == {
        "conv_in",
        "key",
        "value",
    }
    with pytest.raises(ValueError, match="no array that fits"):
        widen({"a": jnp.zeros(3)}, {"a": jnp.zeros(4)})
