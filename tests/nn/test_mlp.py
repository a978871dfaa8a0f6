import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nn import MLP, RefineNet
from diffjax.parameters import graft


def test_contract(key):
    net, x = MLP(width=16, num_classes=2), jax.random.normal(key, (3, 2))
    out, params = jax.jit(net.init_with_output)(key, x, 0.0)
    assert not np.any(out)  # it starts at zero
    params, apply = jax.tree.map(lambda p: np.asarray(p) + np.float32(0.1), params), jax.jit(net.apply)
    out = apply(params, x, jnp.array([1.0, 500.0, 1.0]), {"label": jnp.array([0, 1, 2])})
    assert (out.shape, out.dtype) == (x.shape, jnp.float32)
    np.testing.assert_allclose(apply(params, x[1:2], 500.0, {"label": jnp.array([1])}), out[1:2], rtol=1e-5)
    np.testing.assert_allclose(apply(params, x[2:], 1.0), out[2:], rtol=1e-5)  # no label: the null label
    low = jax.eval_shape(MLP(width=16, num_classes=2, dtype=jnp.bfloat16).apply, params, x, 1.0)
    assert low.dtype == jnp.float32
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        net.apply(params, jnp.zeros((2, 4, 4, 1)), 0.0)


@pytest.mark.slow
def test_a_network_of_two_levels_begins_as_its_teacher_of_one(key):
    net, x, t, s = MLP(width=16), jax.random.normal(key, (2, 2)), jnp.array([1.0, 50.0]), jnp.array([0.5, 2.0])
    rng, apply = np.random.default_rng(0), jax.jit(net.apply)
    zeros = lambda *inputs: jax.tree.map(jnp.zeros_like, jax.eval_shape(net.init, key, *inputs))  # noqa: E731
    teacher = jax.tree.map(lambda p: 0.3 * rng.normal(size=p.shape).astype(np.float32), zeros(x, t))
    student = graft(zeros(x, (t, s)), teacher)
    first = jax.jit(lambda: net.init(key, x, (t, s))["params"]["embedding"]["end"])()  # the rest is pruned
    assert not first["kernel"].any()
    np.testing.assert_array_equal(apply(student, x, (t, s)), apply(student, x, (t, 0 * s)))
    np.testing.assert_allclose(apply(student, x, (t, s)), apply(teacher, x, t), rtol=1e-6)
    assert jax.tree.structure(jax.tree.map(jnp.shape, teacher)) != jax.tree.structure(student)
    # the second level is used as soon as its matrix has a gradient, which it has from the first step
    grads = jax.jit(jax.grad(lambda p: (apply(p, x, (t, s)) ** 2).sum()))(student)
    assert jnp.abs(grads["params"]["embedding"]["end"]["kernel"]).max() > 0
    moved = jax.tree.map(lambda p, g: p - 0.1 * np.sign(g), student, grads)
    assert not np.allclose(apply(moved, x, (t, s)), apply(moved, x, (t, 0 * s)))
    # scalars, and one example alone
    np.testing.assert_allclose(apply(moved, x[:1], (1.0, 0.5)), apply(moved, x, (t, s))[:1], rtol=1e-5)
    # a guidance scale is taken in the same way
    cond = {"scale": jnp.array([2.0, 7.0])}
    student_of_scale = graft(zeros(x, (t, s), cond), student)
    np.testing.assert_allclose(apply(student_of_scale, x, (t, s), cond), apply(teacher, x, t), rtol=1e-6)
    student_of_scale["params"]["embedding"]["guidance"]["kernel"] = jnp.ones((64, 16))
    assert not np.allclose(apply(student_of_scale, x, (t, s), cond), apply(student_of_scale, x, (t, s), {"scale": 3.0}))
    with pytest.raises(ValueError, match='must have a "scale"'):
        net.apply(student_of_scale, x, (t, s))
    with pytest.raises(ValueError, match="must be a pair"):
        net.apply(student, x, t)
    with pytest.raises(ValueError, match="one per example"):
        net.apply(student, x, (t, jnp.ones(3)))
    with pytest.raises(ValueError, match="'params/emb0/bias' has the shape"):
        graft(jax.eval_shape(MLP(width=8).init, key, x, (t, s)), teacher)
    with pytest.raises(ValueError, match="cannot be a flow map's"):
        jax.eval_shape(RefineNet(levels=0, width=8).init, key, jnp.zeros((2, 8, 8, 1)), (0.5, 0.1))
