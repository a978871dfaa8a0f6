"""Condition dropout and the noisy classifier's loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import losses, nn, times
from diffjax.losses.condition import drop
from diffjax.train import TrainState, adam, jit_train_step


def seen(params, key, batch):
    """A loss that tells what it was given."""
    return batch["cond"]["label"].astype(float), {"text": batch["cond"]["text"][:, 0]}


NULL = {"label": 10, "text": jnp.full(3, -1.0)}


def test_conditions_are_dropped_whole_at_the_given_rate(key):
    n = 10_000
    batch = {"image": jnp.zeros((n, 1)), "cond": {"label": jnp.arange(n) % 10, "text": jnp.ones((n, 3))}}
    labels, aux = losses.DropCondition(seen, NULL, 0.1)({}, key, batch)
    dropped = np.asarray(labels) == 10
    assert abs(dropped.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / n)  # 4 sigma
    np.testing.assert_array_equal(np.asarray(aux["text"]) == -1, dropped)  # an example's parts go together
    np.testing.assert_array_equal(np.asarray(labels)[~dropped], (np.arange(n) % 10)[~dropped])
    for p, share in ((0.0, 0), (1.0, 1)):
        labels, _ = losses.DropCondition(seen, NULL, p)({}, key, batch)
        assert (np.asarray(labels) == 10).mean() == share


def test_an_example_is_dropped_by_its_own_key(key):
    keys = dj.arrays.example_keys(key, 64)
    batch = {"image": jnp.zeros((64, 1)), "label": jnp.arange(64) % 10}
    loss = losses.DropCondition(lambda p, k, b: (b["cond"]["label"], {}), {"label": 10}, 0.5)
    whole, _ = loss({}, keys, batch)
    part, _ = loss({}, keys[5:9], jax.tree.map(lambda a: a[5:9], batch))
    np.testing.assert_array_equal(part, whole[5:9])


def test_the_null_row_is_trained(key):
    """A network that is a table of outputs: with dropout every row gets a gradient, without it the null row none."""

    def network(params, x, c_noise, cond, *, train, rngs):
        return x + params[cond["label"]][:, None]

    def grad(p):
        dsm = losses.DSM(dj.VP(), times.Uniform(), network, dj.precondition.from_v)
        batch = {"image": jnp.ones((32, 2)), "label": jnp.arange(32) % 3}
        loss = losses.DropCondition(dsm, {"label": 3}, p)
        return jax.jit(jax.grad(lambda table: loss(table, key, batch)[0].mean()))(jnp.zeros(4))

    assert jnp.all(grad(0.5) != 0)
    assert jnp.all(grad(0.0)[:3] != 0) and grad(0.0)[3] == 0


def test_scales_are_drawn_for_each_example_and_joined_to_its_condition(key):
    """Uniform on [2, 5]: mean 3.5, variance 9/12; 4 sigma of 10,000."""
    n = 10_000
    batch = {"image": jnp.zeros((n, 1)), "label": jnp.arange(n)}
    keys = dj.arrays.example_keys(key, n)
    loss = losses.DrawScale(lambda p, k, b: (b["cond"]["scale"], {"label": b["label"]}), 2.0, 5.0)
    scale, aux = loss({}, keys, batch)
    assert scale.min() >= 2 and scale.max() <= 5 and abs(scale.mean() - 3.5) < 4 * np.sqrt(0.75 / n)
    np.testing.assert_array_equal(aux["label"], batch["label"])
    np.testing.assert_array_equal(loss({}, keys[5:9], jax.tree.map(lambda a: a[5:9], batch))[0], scale[5:9])
    alone = losses.DrawScale(lambda p, k, b: (b["cond"]["scale"], {}))
    assert alone({}, key, jnp.zeros((2, 1)))[0].shape == (2,)
    with pytest.raises(ValueError, match="a condition that is a dict"):
        alone({}, key, {"image": jnp.zeros((2, 1)), "cond": jnp.zeros(2)})


def test_errors(key):
    loss = losses.DropCondition(seen, NULL)
    with pytest.raises(ValueError, match="needs a batch with the fields"):
        loss({}, key, jnp.zeros((2, 1)))
    with pytest.raises(ValueError, match="another structure"):
        drop({"label": jnp.zeros(2)}, NULL, jnp.array([True, False]))


def test_cross_entropy_of_noisy_images(key):
    """Logits that know the noise level: the loss is -log softmax at x_t, and a hit the argmax."""
    sde, w = dj.VP(), jnp.array([[1.0, -1.0], [0.5, 2.0]])

    def network(params, x, c_noise, *, train, rngs):
        return x @ params + c_noise[:, None] / 999

    batch = {"image": jax.random.normal(key, (5, 2)), "label": jnp.array([0, 1, 0, 1, 1])}
    loss = losses.CrossEntropy(sde, times.Fixed(0.3), network)
    values, aux = loss(w, key, batch)
    eps = dj.arrays.normal(dj.arrays.fold(key, 1), batch["image"])
    logits = np.asarray(dj.gaussian.perturb(sde, batch["image"], 0.3, eps) @ w)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(values, -log_p[np.arange(5), np.asarray(batch["label"])], rtol=1e-4)
    np.testing.assert_array_equal(aux["hit"], logits.argmax(1) == np.asarray(batch["label"]))


CLASSES = nn.MLP(width=8, depth=1, num_classes=3)


@pytest.fixture(scope="module")
def with_classes():
    params = nn.init(
        CLASSES, jax.random.key(0), {"image": jax.ShapeDtypeStruct((4, 2), float), "label": jnp.zeros(4, int)}
    )
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32), params)


def dsm(network, **how):
    return losses.DSM(dj.VP(), times.Uniform(), network, dj.precondition.from_v, **how)


@pytest.mark.slow
def test_fields_of_a_batch_reach_the_networks_that_take_them(key, with_classes):
    """Labels move a network with classes; one without is not given them; a plain function has every field."""
    x, labels = jnp.ones((4, 2)), jnp.array([0, 1, 2, 0])
    loss = jax.jit(dsm(CLASSES.apply))
    by_field = loss(with_classes, key, {"image": x, "label": labels})[0]
    by_cond = loss(with_classes, key, {"image": x, "cond": {"label": labels}})[0]
    np.testing.assert_array_equal(by_field, by_cond)
    assert not np.allclose(by_field, loss(with_classes, key, {"image": x, "label": labels[::-1]})[0])
    plain = nn.MLP(width=8, depth=1)
    params = nn.init(plain, key, x)
    loss = jax.jit(dsm(plain.apply))
    with_fields = loss(params, key, {"image": x, "label": labels, "index": labels})[0]
    np.testing.assert_array_equal(with_fields, loss(params, key, x)[0])
    seen = []
    foreign = lambda params, x, c_noise, cond: (seen.append(cond), x)[1]  # noqa: E731  takes neither train nor rngs
    jax.eval_shape(dsm(foreign), {}, key, {"image": x, "label": labels, "text": x})
    jax.eval_shape(dsm(foreign), {}, key, x)
    assert sorted(seen[0]) == ["label", "text"] and seen[1] is None


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ({"image": np.ones((4, 2))}, ValueError, "trained without labels"),
        ({"label": np.array([0, 1, 3, 4])}, ValueError, "from 0 to 3 .3 is the null label., got 0 to 4"),
        ({"label": np.array([0, -1, 2, 0])}, ValueError, "got -1 to 2"),
        ({"label": np.array([0.0, 1, 2, 0])}, TypeError, "labels are integers, got float32"),
        ({"label": np.eye(4, 3)}, TypeError, "labels are integers"),
        ({"label": np.eye(4, 3, dtype=int)}, ValueError, "take the argmax"),
        ({"label": np.zeros(3, int)}, ValueError, "for 4 examples"),
        ({"cond": {"labels": np.zeros(4, int)}}, ValueError, "takes the condition entries"),
        ({"cond": np.zeros(4, int)}, TypeError, "a dict such as"),
        (
            {"label": np.zeros(4, int), "cond": {"scale": np.ones(4)}},
            ValueError,
            "initialised without a guidance scale",
        ),
        ({"x": np.ones((4, 2))}, ValueError, 'data under "image"'),
        ({"image": np.full((4, 2), 200, np.uint8)}, ValueError, "x / 127.5 - 1"),
        ({"image": (np.ones((4, 2)), np.zeros(4))}, TypeError, "got a tuple"),
    ],
)
def test_batches_that_do_not_fit_are_refused(key, with_classes, batch, error, message):
    batch = batch if {"image", "x"} & set(batch) else {"image": np.ones((4, 2)), **batch}
    with pytest.raises(error, match=message):
        dsm(CLASSES.apply)(with_classes, key, batch)


def test_traced_labels_out_of_range_give_nan_and_no_other_class(key, with_classes):
    run = jax.jit(lambda label: dsm(CLASSES.apply)(with_classes, key, {"image": jnp.ones((4, 2)), "label": label})[0])
    np.testing.assert_array_equal(np.isfinite(run(jnp.array([-1, 3, 4, -4]))), [False, True, False, False])


@pytest.mark.parametrize("make", [lambda loss: loss, lambda loss: losses.DropCondition(loss, {"label": 3})])
def test_labels_that_begin_at_1_are_refused_before_a_step(key, with_classes, make):
    """The largest is the null label's number, so that a step itself would take it."""
    step = jit_train_step(make(dsm(CLASSES.apply)), adam(1e-3))
    state, x = TrainState.create(key, with_classes, adam(1e-3)), np.ones((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"0 to 2, got 3 at \(2,\).*begin at 1"):
        step(state, {"image": x, "label": np.array([1, 2, 3])})
    with pytest.raises(ValueError, match=r"got -1 at \(0,\)"):
        step(state, {"image": x, "label": np.array([-1, 2, 0])})
    with pytest.raises(TypeError, match="the field 'text' of a batch holds <U5"):
        step(state, {"image": x, "label": np.zeros(3, int), "text": np.array(["a cat"] * 3)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dsm(CLASSES), "the module MLP itself"),
        (lambda: losses.DSM(dj.VP(), times.Uniform(), CLASSES.apply, "v"), "`precondition` to be a function"),
        (lambda: dsm(CLASSES.apply, weight=1.0), "`weight` to be a function"),
        (lambda: losses.DropCondition(dsm(CLASSES.apply), {"label": 3}, 2.0), "p must be"),
        (lambda: losses.DropCondition(dsm(CLASSES.apply), {"label": 3}, -1.0), "p must be"),
        (
            lambda: losses.DropCondition(dsm(CLASSES.apply), {"label": 1}),
            "the null label of a network",
        ),
        (lambda: losses.DropCondition(dsm(CLASSES.apply), {"label": 4}), "labels go from 0 to 3"),
        (lambda: losses.DropCondition(dsm(CLASSES.apply), {"label": -1}), "labels go from 0 to 3"),
        (lambda: losses.DropCondition(dsm(CLASSES.apply), 0.1), "the probability is p=0.1"),
        (lambda: dsm(CLASSES.apply)(None, jax.random.key(0), jnp.ones((4, 2))), "parameters are None"),
        (lambda: dsm(CLASSES.apply)({"w": 1.0}, jax.random.key(0), jnp.ones((4, 2))), "parameters"),
        (
            lambda: dsm(lambda p, x, c, d: x, weight=lambda sde, t: t[:3])({}, jax.random.key(0), jnp.ones((4, 2))),
            "weight",
        ),
    ],
)
def test_fields_that_do_not_fit_are_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_weights_and_losses_are_finite_at_both_ends(key):
    """At sigma = 0 and at alpha = 0, on each process."""
    names = ("simple", "truncated_snr", "likelihood", "v", "velocity", "x0", "score", "edm")
    for sde in (dj.VP(), dj.Flow(), dj.Cosine(), dj.EDM()):
        for name in names:
            assert np.isfinite(getattr(losses.weightings, name)(sde, jnp.array([0.0, sde.T]))).all(), (sde, name)
    t = jnp.array([0.3, 0.8])
    w = losses.weightings
    np.testing.assert_allclose(w.edm(dj.VP(), t), (lambda s: (s**2 + 0.25) / (s * 0.5) ** 2)(
        dj.VP().sigma(t) / dj.VP().alpha(t)), rtol=1e-5)  # fmt: skip
    np.testing.assert_allclose(w.velocity(dj.Flow(), t), 1 / t**2, rtol=1e-5)
    g2 = dj.gaussian.diffusion(dj.VP(), t) ** 2
    np.testing.assert_allclose(w.likelihood(dj.VP(), t), g2 * w.score(dj.VP(), t), rtol=1e-4)


def test_the_loss_of_pixels_is_their_mean_cross_entropy(key):
    p = np.array([0.2, 0.3, 0.5])
    loss = losses.PixelCrossEntropy(
        dj.VP(), times.Fixed(0.0), lambda params, x, c_noise, **_: jnp.broadcast_to(jnp.log(p), (*x.shape[:3], 3))
    )
    labels = np.array([[[0, 1], [2, 2]], [[2, 2], [2, 2]]], np.uint8)
    batch = {"image": jnp.zeros((2, 2, 2, 1)), "map": labels}
    values, aux = loss({}, key, batch)
    np.testing.assert_allclose(values, -np.log(p)[labels].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(aux["hit"], [0.5, 1])
    values, _ = loss({}, key, {**batch, "map": labels + np.array([[[1]], [[0]]], np.uint8)})
    assert np.isnan(values[0]) and np.isfinite(values[1])
    for wrong, error, message in (
        ({"map": labels.astype(float)}, TypeError, "holds integers"),
        ({"map": labels[:, :1]}, ValueError, r"a map is \[B, H, W\]"),
    ):
        with pytest.raises(error, match=message):
            loss({}, key, batch | wrong)
    with pytest.raises(ValueError, match='a field "map"'):
        loss({}, key, {"image": batch["image"]})
