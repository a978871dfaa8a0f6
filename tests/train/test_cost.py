from functools import partial

import jax
import jax.numpy as jnp
import pytest

from diffjax.train import TrainState, adam, count, products, step_cost, train_step

B, D, K = 64, 300, 500


def loss(params, keys, batch):
    return ((batch @ params["w"] + params["b"]) ** 2).sum(1), {}


def test_the_cost_of_a_matrix_product_without_any_array():
    tx = adam(1e-3)

    def create(key):
        return TrainState.create(key, {"w": jnp.zeros((D, K)), "b": jnp.zeros(K)}, tx, (0.9,))

    state = jax.eval_shape(create, jax.random.key(0))
    batch = jax.ShapeDtypeStruct((B, D), jnp.float32)
    cost = step_cost(partial(train_step, loss, tx, (0.9,)), state, batch, compile=True)
    parameters = D * K + K
    assert cost["parameters"] == parameters == count(state.params)
    # parameters, two moments and one average in float32; the step, Adam's count and the key's two words besides
    assert cost["state_bytes"] == 4 * (4 * parameters + 1 + 1 + 2)
    products = 2 * 2 * B * D * K  # forward and the weights' gradient: multiply and add
    assert cost["flops"] == pytest.approx(products, rel=0.2) and cost["flops"] > products
    # the new state takes the place of the old one; besides there are the batch and at least the gradient
    assert 4 * (B * D + parameters) < cost["memory_bytes"] - cost["state_bytes"] < cost["state_bytes"]


def test_products_are_counted_in_every_turn_of_a_loop():
    x, kernel = jax.ShapeDtypeStruct((3, 3), jnp.float32), jax.ShapeDtypeStruct((5, 3, 3, 3), jnp.float32)
    images = jax.ShapeDtypeStruct((2, 3, 8, 8), jnp.float32)
    square = jax.jit(lambda a: a @ a)
    assert products(square, x) == 27
    assert products(lambda x: jax.lax.scan(lambda c, _: (square(c), None), x, length=5)[0], x) == 5 * 27
    assert products(lambda x: jax.lax.fori_loop(0, 5, lambda _, c: square(c), x), x) == 5 * 27
    assert products(lambda x: jax.lax.cond(x[0, 0] > 0, square, lambda a: a @ a @ a, x), x) == 2 * 27
    assert products(jax.checkpoint(square), x) == 27
    convolved = lambda x, k: jax.lax.conv(x, k, (1, 1), "SAME")  # noqa: E731
    forward = 2 * 5 * 64 * 27
    assert products(convolved, images, kernel) == forward
    gradient = jax.grad(lambda x, k: convolved(x, k).sum(), (0, 1))
    assert products(gradient, images, kernel) == 3 * forward
    strided = lambda x, k: jax.lax.conv(x, k, (2, 2), "SAME").sum()  # noqa: E731
    assert products(jax.grad(strided), images, kernel) == pytest.approx(2 * forward / 4, rel=0.1)
