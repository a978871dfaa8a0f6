"""Nouns: the tree structure knows the type, and jit never runs one noun's code on another."""

import dataclasses
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import pytest

import diffjax as dj
from diffjax.typing import as_partial, pytree, static


def public_nouns():
    nouns = set()
    for info in pkgutil.walk_packages(dj.__path__, "diffjax."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__.startswith("diffjax."):
                noun = object.__new__(value)
                for field in dataclasses.fields(value):
                    object.__setattr__(noun, field.name, 0.0)
                if not jax.tree_util.all_leaves([noun]):  # it is a pytree
                    nouns.add((value.__name__, jax.tree.structure(noun)))
    return nouns


def test_all_public_nouns_have_different_tree_structures():
    nouns = public_nouns()
    assert len(nouns) >= 22, sorted(name for name, _ in nouns)
    structures = [structure for _, structure in nouns]
    assert all(a != b for i, a in enumerate(structures) for b in structures[:i])


def test_150_types_through_one_jitted_function_never_mix():
    def make(i):
        return pytree(
            type(f"Noun{i}", (), {"__annotations__": {"x": float}, "x": 1.0, "value": lambda self: self.x * i})
        )

    types = [make(i) for i in range(150)]
    value = jax.jit(lambda noun: noun.value())
    for _ in range(2):
        assert [int(value(cls(2.0))) for cls in types] == [2 * i for i in range(150)]


def test_static_fields_are_structure_and_others_leaves():
    @pytree
    class Noun:
        a: float
        n: int = static(default=3)

    assert jax.tree.leaves(Noun(2.0)) == [2.0]
    assert jax.tree.structure(Noun(2.0, 3)) == jax.tree.structure(Noun(5.0, 3))
    assert jax.tree.structure(Noun(2.0, 3)) != jax.tree.structure(Noun(2.0, 4))
    assert jax.tree.map(lambda a: 2 * a, Noun(2.0)) == Noun(4.0)
    assert jax.tree_util.keystr(jax.tree_util.tree_flatten_with_path(Noun(2.0))[0][0][0]) == ".a"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Noun(1.0).a = 2.0  # type: ignore[misc]


def test_nouns_survive_vmap_over_a_stack():
    stack = dj.VP(jnp.array([0.1, 0.2]), jnp.array([10.0, 20.0]), jnp.ones(2), jnp.full(2, 1e-3))
    alphas = jax.vmap(lambda sde: sde.alpha(0.5))(stack)
    assert jnp.allclose(alphas, jnp.array([dj.VP(0.1, 10.0).alpha(0.5), dj.VP(0.2, 20.0).alpha(0.5)]))


def test_as_partial():
    fn = as_partial(lambda x: x + 1)
    assert jax.tree.leaves(fn) == [] and fn(1) == 2
    assert as_partial(fn) is fn
    with pytest.raises(TypeError, match="expected a function"):
        as_partial(3)  # type: ignore[arg-type]
