"""Pytree classes: the tree structure holds the type, and jit never runs one class's code on another."""

import dataclasses
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import pytest

import diffjax as dj
from diffjax.typing import as_partial, pytree, static


def public_classes():
    classes = set()
    for info in pkgutil.walk_packages(dj.__path__, "diffjax."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__.startswith("diffjax."):
                instance = object.__new__(value)
                for field in dataclasses.fields(value):
                    object.__setattr__(instance, field.name, 0.0)
                if not jax.tree_util.all_leaves([instance]):  # it is a pytree
                    classes.add((value.__name__, jax.tree.structure(instance)))
    return classes


def test_all_public_classes_have_different_tree_structures():
    classes = public_classes()
    assert len(classes) >= 22, sorted(name for name, _ in classes)
    structures = [structure for _, structure in classes]
    assert all(a != b for i, a in enumerate(structures) for b in structures[:i])


@pytest.mark.slow
def test_100_types_through_one_jitted_function_never_mix():
    def make(i):
        return pytree(
            type(f"Fields{i}", (), {"__annotations__": {"x": float}, "x": 1.0, "value": lambda self: self.x * i})
        )

    types = [make(i) for i in range(100)]
    value = jax.jit(lambda instance: instance.value())
    for _ in range(2):
        assert [int(value(cls(2.0))) for cls in types] == [2 * i for i in range(100)]


def test_static_fields_are_structure_and_others_leaves():
    @pytree
    class Fields:
        a: float
        n: int = static(default=3)

    assert jax.tree.leaves(Fields(2.0)) == [2.0]
    assert jax.tree.structure(Fields(2.0, 3)) == jax.tree.structure(Fields(5.0, 3))
    assert jax.tree.structure(Fields(2.0, 3)) != jax.tree.structure(Fields(2.0, 4))
    assert jax.tree.map(lambda a: 2 * a, Fields(2.0)) == Fields(4.0)
    assert jax.tree_util.keystr(jax.tree_util.tree_flatten_with_path(Fields(2.0))[0][0][0]) == ".a"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Fields(1.0).a = 2.0  # type: ignore[misc]


def test_classes_survive_vmap_over_a_stack():
    stack = dj.VP(jnp.array([0.1, 0.2]), jnp.array([10.0, 20.0]), jnp.ones(2), jnp.full(2, 1e-3))
    alphas = jax.vmap(lambda sde: sde.alpha(0.5))(stack)
    assert jnp.allclose(alphas, jnp.array([dj.VP(0.1, 10.0).alpha(0.5), dj.VP(0.2, 20.0).alpha(0.5)]))


def test_as_partial():
    fn = as_partial(lambda x: x + 1)
    assert jax.tree.leaves(fn) == [] and fn(1) == 2
    assert as_partial(fn) is fn
    with pytest.raises(TypeError, match="expected a function"):
        as_partial(3)  # type: ignore[arg-type]


@pytree
class Doubled:
    factor: float
    order: int = static(default=1)

    def __call__(self, x):
        return self.factor * x

    def twice(self, x):
        return 2 * self(x)


def test_a_method_of_a_pytree_is_bound_to_it_as_an_argument():
    """So that `jit` neither bakes its arrays in, nor compiles anew for another object."""
    traces = []

    @jax.jit
    def call(f, x):
        traces.append(0)
        return f(x)

    for factor in (2.0, 3.0):
        assert call(as_partial(Doubled(jnp.asarray(factor)).twice), 1.0) == 2 * factor
    assert len(traces) == 1
    assert jax.jit(Doubled(jnp.arange(3.0)))(2.0).tolist() == [0, 2, 4]  # hashed by identity
    assert hash(Doubled(2.0)) == hash(Doubled(2.0))


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, jnp.ones(2)], ids=["list", "dict", "set", "array"])
def test_static_fields_are_hashable(value):
    with pytest.raises(TypeError, match="order of Doubled is static, and so must be hashable"):
        Doubled(1.0, value)


def test_the_decorator_is_exported_and_takes_classes():
    assert dj.pytree is pytree and dj.static is static
    with pytest.raises(TypeError, match="decorates a class, without parentheses"):
        pytree(3)  # type: ignore[arg-type]
