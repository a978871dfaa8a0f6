"""Prompt-to-Prompt: its identities, which are exact, on a small network with random weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import control
from diffjax.control import alignment
from diffjax.data import packages
from diffjax.nn.attention import plain, probabilities
from diffjax.text import CLIP_VOCABULARY, load_tokenizer
from diffjax.typing import Site

RNG = np.random.default_rng(0)
CROSS, SELF = Site(("cross",), 4, 4, True), Site(("self",), 4, 4, False)


class Words:
    """Words at spaces; one with a hyphen has two tokens."""

    def __init__(self, length=10):
        self.length = length

    def split(self, text):
        return [(word, 1 + word.count("-")) for word in text.split()]


WORDS = Words()


@pytest.fixture(scope="module")
def model():
    """A small U-Net of latents 8 x 8 with a context, all of whose weights are random, so that nothing is 0."""
    net = dj.nn.ConditionalUNet(
        channels=(8,), in_channels=4, layers=1, attention=(True,), heads=2, context_width=12, groups=4
    )
    batch = {"image": jnp.zeros((2, 8, 8, 4)), "context": jnp.zeros((2, WORDS.length, 12))}
    start = dj.Model.init(jax.random.key(1), net, dj.VP(), dj.precondition.from_v, batch, null={"context": 0.0})
    rng = np.random.default_rng(2)
    return start.replace(
        params=jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), start.params)
    )


def contexts(n, length=WORDS.length):
    return jnp.asarray(RNG.normal(size=(n, length, 12)), jnp.float32)


def drawn(model, context, attend=None, steps=4, sampler=None, scale=3.0):
    n = len(context)
    keys = jnp.stack([jax.random.key(3)] * n)
    cond = {"context": context} | ({} if attend is None else {"attend": attend})
    return model.sample(keys, n, sampler or dj.DDIM(), steps=steps, cond=cond, guidance_scale=scale)


def test_a_prompt_swapped_for_itself_is_bit_equal(model):
    """Whatever else is in the batch; the other pair shows that the control acts."""
    prompts = ["a red ring", "a red ring", "a big-star", "a blue disk"]
    context = contexts(4).at[1].set(0)
    context = context.at[1].set(context[0])
    attend = control.prompt_to_prompt(WORDS, prompts, [0, 0, 2, 2])
    x, free = drawn(model, context, attend), drawn(model, context)
    np.testing.assert_array_equal(x[0], x[1])
    assert np.abs(x[3] - free[3]).max() > 1e-3
    np.testing.assert_allclose(x[jnp.array([0, 2])], free[jnp.array([0, 2])], atol=1e-5)  # sources are left alone


def test_no_window_is_independent_generation(model):
    context, T = contexts(4), model.sde.T
    prompts = ["a red ring", "a blue ring", "a large red ring", "a star"]
    attend = control.prompt_to_prompt(WORDS, prompts, [0, 0, 0, 3], until=T, self_until=T, weights={"blue": 5})
    np.testing.assert_allclose(drawn(model, context, attend), drawn(model, context), atol=1e-5)


def test_weight_1_is_the_identity_and_weight_0_takes_a_word_away(model):
    prompts, context = ["a red ring", "a red ring"], contexts(1).repeat(2, 0)
    one = control.prompt_to_prompt(WORDS, prompts, [0, 0], weights={"red": 1.0})
    same = drawn(model, context, one)
    np.testing.assert_array_equal(same[0], same[1])
    none = control.prompt_to_prompt(WORDS, prompts, [0, 0], weights={"red": 0.0}).at(0.5)
    q, k, v = (jnp.asarray(RNG.normal(size=(2, n, 2, 4)), jnp.float32) for n in (16, 10, 10))
    k, other = k.at[1].set(k[0]), v.at[:, 2].add(7.0)  # token 2 is "red", behind the start and "a"
    np.testing.assert_array_equal(none(CROSS, q, k, v)[1], none(CROSS, q, k, other)[1])
    assert np.abs(none(CROSS, q, k, v)[0] - none(CROSS, q, k, other)[0]).max() > 0.1


def test_guidance_does_not_control_the_unconditional_half(model):
    """At scale 0 there is nothing but the null condition, and the control changes no bit."""
    context = contexts(2)
    attend = control.prompt_to_prompt(WORDS, ["a red ring", "a blue ring"], [0, 0])
    x = drawn(model, context, attend, scale=0.0)
    np.testing.assert_array_equal(x, drawn(model, context, scale=0.0))
    np.testing.assert_array_equal(x[0], x[1])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_a_window_ends_with_its_share_of_the_steps(model, share):
    """Control of the first steps, then none: two runs in one."""
    ts, context = dj.times.uniform_logsnr(model.sde, 10), contexts(2)
    attend = control.prompt_to_prompt(
        WORDS, ["a red ring", "a blue ring"], [0, 0], until=(end := control.time_after(ts, share)), self_until=end
    )
    cond, n = {"context": context}, round(share * 10)
    always = {**cond, "attend": control.prompt_to_prompt(WORDS, ["a red ring", "a blue ring"], [0, 0])}
    x = dj.prior_sample(jnp.stack([jax.random.key(3)] * 2), model.sde, (2, *model.shape))
    run = lambda x, ts, cond: dj.sample(jax.random.key(0), model.denoise, model.sde, dj.DDIM(), ts, x, cond)  # noqa: E731
    halves = x if n == 0 else run(x, ts[: n + 1], always)
    halves = halves if n == 10 else run(halves, ts[n:], cond)
    np.testing.assert_allclose(run(x, ts, {**cond, "attend": attend}), halves, atol=2e-5)


def test_one_program_serves_all_windows_weights_and_prompts(model):
    context, ts = contexts(2), dj.times.uniform_logsnr(model.sde, 3)
    denoise = dj.precondition.from_v(model.sde, Partial(_counted, model.denoise.network))

    def run(prompts, **options):
        cond = {"context": context, "attend": control.prompt_to_prompt(WORDS, prompts, [0, 0], **options)}
        return dj.sample(jax.random.key(0), denoise, model.sde, dj.DDIM(), ts, jnp.ones((2, 8, 8, 4)), cond)

    run(["a red ring", "a blue ring"], until=0.3)
    before = len(TRACES)
    run(["a star", "a large star"], until={"large": 0.5, "default_": 0.1}, self_until=0.7, weights={"star": 2.0})
    assert before and len(TRACES) == before


TRACES = []


def _counted(network, x, c, cond=None):
    TRACES.append(1)
    return network(x, c, cond)


DETERMINISTIC = (dj.DDIM(), dj.Heun(), dj.DPMSolver(2), dj.DPMpp2S(), dj.DPMpp2M(), dj.UniPC(2), dj.DEIS(2), dj.PNDM(2))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=str)
def test_every_deterministic_solver_keeps_the_identity(model, sampler):
    context = contexts(3).at[1].set(0)
    context = context.at[1].set(context[0])
    attend = control.prompt_to_prompt(WORDS, ["a red ring", "a red ring", "a blue ring"], [0, 0, 0], until=0.4)
    x = drawn(model, context, attend, sampler=sampler, scale=None)
    np.testing.assert_array_equal(x[0], x[1])
    assert np.isfinite(x).all() and np.abs(x[2] - x[0]).max() > 1e-3


def test_replaced_attention_is_the_source_s_and_refined_words_keep_their_own():
    q, k = (jnp.asarray(RNG.normal(size=(3, n, 2, 4)), jnp.float32) for n in (16, 10))
    attend = control.prompt_to_prompt(WORDS, ["a red ring", "a blue ring", "a red big ring"], [0, 0, 0]).at(1.0)
    own, got = probabilities(q, k), attend.probabilities(CROSS, q, k)
    np.testing.assert_array_equal(got[1], own[0])
    np.testing.assert_array_equal(got[2][..., [0, 1, 2, 4]], own[0][..., [0, 1, 2, 3]])  # start, a, red, ring
    np.testing.assert_array_equal(got[2][..., 3], own[2][..., 3])
    np.testing.assert_allclose(got[:2].sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(attend.probabilities(SELF, q, q)[1:], probabilities(q, q)[jnp.zeros(2, int)])


def test_words_of_other_lengths_share_the_source_s_attention():
    mapper, taken = control.replace(WORDS, "a red-ish ring", "a blue ring")
    assert taken.all() and mapper[2, 2] == mapper[3, 2] == 1 and mapper[4, 3] == 1
    np.testing.assert_allclose(mapper.sum(1), 1)  # no attention is lost, that to the padding neither
    mapper, _ = control.replace(WORDS, "a blue ring", "a red-ish ring")
    assert mapper[2, 2] == mapper[2, 3] == 0.5 and mapper[3, 4] == 1
    np.testing.assert_allclose(mapper.sum(1), 1)


@pytest.mark.parametrize(
    ("source", "text", "pairs"),
    [
        ("a ring", "a red ring", [(0, 0), (1, 2)]),
        ("a red ring and a star", "a ring and a large star", [(0, 0), (2, 1), (3, 2), (4, 3), (5, 5)]),
        ("a b", "c d", []),
        ("", "a", []),
        ("a a a", "a a", [(1, 0), (2, 1)]),
    ],
)
def test_alignment(source, text, pairs):
    found = alignment._common(source.split(), text.split())
    assert len(found) == len(pairs)
    assert all(source.split()[i] == text.split()[j] for i, j in found)
    assert found == sorted(found) and (source.startswith("a a") or found == pairs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(weights={"green": 2.0}), "has the word 'green'; their words are"),
        (dict(until={"green": 0.2}), "has the word 'green'"),
        (dict(weights={"red": np.nan}), "finite|NaN|nan"),
        (dict(until="early"), "must be a number"),
        (dict(method="swap"), 'method is "replace", "refine" or None'),
        (dict(source=[0]), "one integer for each of the 2 prompts"),
        (dict(source=[0, 2]), "count into the 2 prompts"),
        (dict(source=[1, 0]), "no edit itself"),
        (dict(source=[0.0, 0.0]), "one integer for each"),
        (dict(prompts="a red ring"), "a list of prompts"),
        (dict(prompts=["a red ring", "a blue"], method="replace"), "has 3 words and 'a blue' has 2"),
        (dict(prompts=["a", "a a a a a a a a a"]), "has 11 tokens, of which 10 are read"),
    ],
)
def test_wrong_calls_say_so(change, message):
    given = dict(prompts=["a red ring", "a blue ring"], source=[0, 0]) | change
    with pytest.raises((TypeError, ValueError), match=message):
        control.prompt_to_prompt(WORDS, **given)


def test_other_batches_contexts_and_a_missing_time_are_refused(model):
    attend = control.prompt_to_prompt(WORDS, ["a red ring", "a blue ring"], [0, 0])
    with pytest.raises(ValueError, match="sees them all in one batch, got 3"):
        drawn(model, contexts(3), attend)
    with pytest.raises(ValueError, match="of 10 tokens a prompt got 7"):
        drawn(model, contexts(2, 7), attend)
    q = jnp.ones((2, 4, 2, 4))
    with pytest.raises(ValueError, match="needs the time"):
        attend(SELF, q, q, q)
    assert attend.at(0.5)(SELF, q, q, q).shape == plain(SELF, q, q, q).shape


@pytest.mark.parametrize("ts", [[1.0], [0.0, 1.0], np.ones((2, 2))])
def test_a_window_of_no_grid_is_refused(ts):
    with pytest.raises(ValueError, match="times"):
        control.time_after(ts, 0.5)


def test_maps_are_those_of_the_condition_and_sum_to_1(model):
    context, x = contexts(2), jnp.asarray(RNG.normal(size=(2, 8, 8, 4)), jnp.float32)
    guided = dj.guidance.cfg(model.denoise, 3.0, model.null)
    maps = jax.jit(lambda x: control.attention_maps(guided, x, 0.5, {"context": context}))(x)
    assert {(site.height, site.is_cross) for site in maps} == {(8, True), (8, False)}
    for site, p in maps.items():
        assert p.shape == (2, 2, site.height * site.width, WORDS.length if site.is_cross else site.height * site.width)
        np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    words = control.word_maps(maps, 8)
    assert words.shape == (2, 8, 8, WORDS.length)
    np.testing.assert_allclose(words.sum(-1), 1, rtol=1e-5)
    attend = control.prompt_to_prompt(WORDS, ["a red ring", "a blue ring"], [0, 0])
    controlled = control.attention_maps(model.denoise, x, 0.5, {"context": context, "attend": attend})
    first = next(site for site in controlled if site.is_cross)
    np.testing.assert_array_equal(controlled[first][0], controlled[first][1])
    with pytest.raises(ValueError, match=r"no cross-attention is 5 pixels high; there are some of \[8\]"):
        control.word_maps(maps, 5)
    with pytest.raises(ValueError, match="no attention layer"):
        control.attention_maps(lambda x, t, cond: x, x, 0.5, {})


def test_local_blend_leaves_the_rest_of_the_picture(model):
    """Outside of the mask the pair is bit-equal at the end of each step, inside it is not."""
    prompts, context = ["a red ring", "a blue ring"], 8 * contexts(2)  # so that attention has a place
    words = control.tokens_of_words(WORDS, prompts, ["red", "blue"])
    np.testing.assert_array_equal(words, np.eye(WORDS.length, dtype=bool)[[2, 2]])
    attend = control.prompt_to_prompt(WORDS, prompts, [0, 0], until=0.8, self_until=0.8)
    blend = dj.constraints.LocalBlend(dj.DDIM(), attend.source, words, threshold=0.97, height=8)
    x = drawn(model, context, attend, sampler=blend)
    equal = np.all(x[0] == x[1], -1)
    assert 0.2 < equal.mean() < 1
    free = drawn(model, context, attend)
    assert np.all(free[0] == free[1], -1).mean() < 0.1
    np.testing.assert_allclose(x[0], free[0], atol=1e-5)
    late = dataclasses.replace(blend, start=0.0)
    np.testing.assert_allclose(drawn(model, context, attend, sampler=late), free, atol=1e-5)
    with pytest.raises(ValueError, match="LocalBlend has words"):
        drawn(model, context, attend, sampler=dataclasses.replace(blend, words=words[:, :5]))


def test_words_of_clip_s_tokenizer_have_all_tokens_of_the_text():
    try:
        tokenizer = load_tokenizer(packages.find(*CLIP_VOCABULARY))
    except FileNotFoundError:
        pytest.skip("CLIP's vocabulary, of `make data`, is not here")
    text = "a photorealistic ring, Ring"
    found = tokenizer.split(text)
    assert [word for word, _ in found] == ["a", "photorealistic", "ring", ",", "Ring"]
    assert [n for _, n in found] == [len(tokenizer.encode(word)) for word, _ in found]
    assert sum(n for _, n in found) == len(tokenizer.encode(text))
