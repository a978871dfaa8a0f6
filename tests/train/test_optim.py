import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax.train import TrainState, adam, ema_warmup, train_step


def numpy_adam(gradients, theta, *, lr, warmup, clip, betas, eps, weight_decay):
    """Kingma and Ba's Algorithm 1 with warm-up, clipping and decoupled decay, in float64."""
    m = v = np.zeros_like(theta)
    for n, g in enumerate(gradients, start=1):
        g = g * min(1.0, clip / np.linalg.norm(g))
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** n), v / (1 - betas[1] ** n)
        theta = theta - lr * min(n / warmup, 1.0) * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * theta)
    return theta


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_with_warmup_and_clipping_is_that_of_numpy(weight_decay):
    settings = dict(lr=0.05, warmup=4, clip=1.0, betas=(0.8, 0.95), eps=1e-3, weight_decay=weight_decay)
    rng = np.random.default_rng(0)
    gradients, theta = rng.normal(size=(9, 3)) * rng.uniform(0.1, 3, size=(9, 1)), rng.normal(size=3)
    assert (np.linalg.norm(gradients, axis=1) < 1).any() and (np.linalg.norm(gradients, axis=1) > 1).any()
    tx = adam(**settings)
    params = jnp.asarray(theta, jnp.float32)
    state = tx.init(params)
    for g in gradients:
        update, state = tx.update(jnp.asarray(g, jnp.float32), state, params)
        params = optax.apply_updates(params, update)
    np.testing.assert_allclose(params, numpy_adam(gradients, theta, **settings), rtol=1e-5, atol=1e-6)


def test_a_schedule_is_scaled_by_the_warmup():
    tx = adam(lambda count: 1.0 / (1 + count), warmup=2, eps=0.0)
    state, moves = tx.init(jnp.zeros(())), []
    for _ in range(4):  # Adam moves by the learning rate where the gradient is constant
        update, state = tx.update(jnp.ones(()), state)
        moves.append(-float(update))
    np.testing.assert_allclose(moves, [0.5, 1 / 2, 1 / 3, 1 / 4], rtol=1e-4)


def test_k_small_batches_make_the_update_of_one_large_batch(line, key):
    k, decays = 4, (0.9, ema_warmup(0.99))
    settings = dict(lr=0.1, warmup=3, clip=0.5)
    whole, parts = adam(**settings), adam(**settings, accumulate=k)
    large = jax.jit(lambda s, b: train_step(line.quiet_loss, whole, decays, s, b)[0])
    small = jax.jit(lambda s, b: train_step(line.quiet_loss, parts, decays, s, b)[0])
    a = TrainState.create(key, line.params, whole, decays)
    b = TrainState.create(key, line.params, parts, decays)
    for n in range(3):
        batch, before = line.batch(n, size=8 * k), b
        a = large(a, batch)
        for i in range(k):
            line.equal((b.params, b.ema), (before.params, before.ema))  # nothing moves between updates
            b = small(b, jax.tree.map(lambda x, i=i: x[8 * i : 8 * i + 8], batch))
        for x, y in zip(jax.tree.leaves((a.params, a.ema)), jax.tree.leaves((b.params, b.ema)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert int(a.step) == 3 and int(b.step) == 3 * k


@pytest.mark.parametrize(
    "wrap", [lambda tx: optax.apply_if_finite(tx, 5), lambda tx: optax.chain(optax.identity(), tx)]
)
def test_averages_count_updates_wherever_gradients_are_accumulated(line, key, wrap):
    plain = adam(0.1, accumulate=3)
    states = []
    for tx in (plain, wrap(plain)):
        step = jax.jit(lambda s, b, tx=tx: train_step(line.quiet_loss, tx, (0.9,), s, b)[0])
        state = TrainState.create(key, line.params, tx, (0.9,))
        for n in range(7):
            state = step(state, line.batch(n))
        states.append((state.params, state.ema))
    line.equal(*states)


def test_the_warmed_decay_grows_to_its_value():
    n = np.arange(1, 200)
    np.testing.assert_allclose(ema_warmup(0.9)(n), np.minimum(0.9, (1 + n) / (10 + n)), rtol=1e-6)
    assert ema_warmup(0.9)(n)[0] == pytest.approx(2 / 11) and ema_warmup(0.9)(n)[-1] == pytest.approx(0.9)


@pytest.mark.parametrize("bad", [dict(accumulate=0), dict(warmup=-1), dict(clip=0.0)])
def test_values_that_cannot_be_meant_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        adam(1e-3, **bad)
