import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from diffjax.files import replacing
from diffjax.formats import load_params, read_metadata, save_params
from diffjax.parameters import graft, unflatten

PARAMS = {"params": {"conv": {"kernel": np.arange(6.0).reshape(2, 3) / 8, "bias": np.float32(0.5)}, "n": np.arange(3)}}


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    return True


def test_round_trip_with_names_dtypes_and_metadata(tmp_path):
    path = tmp_path / "deep" / "p.safetensors"
    save_params(path, PARAMS, metadata={"network": "small"}, dtype="float16")
    assert read_metadata(path) == {"network": "small"}
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == {"params/conv/kernel", "params/conv/bias", "params/n"}
        assert file.metadata().keys() == {"network", "crc32", "metadata_crc32"} and read_metadata(path) == {
            "network": "small"
        }
        assert file.get_tensor("params/conv/kernel").dtype == np.float16
    loaded = load_params(path, like=PARAMS)
    assert same(loaded, PARAMS)  # multiples of 1/8: exact in float16
    assert loaded["params"]["conv"]["kernel"].dtype == np.float64  # as in `like`
    assert loaded["params"]["conv"]["bias"].shape == ()
    assert loaded["params"]["n"].dtype == np.arange(3).dtype  # integers stay as they are


def test_types_are_kept(tmp_path):
    path = tmp_path / "p.safetensors"
    x = {"a": np.array([1 + 2.0**-40]), "b": np.array([0.1], np.float32), "c": np.array([0.1], np.float16)}
    x |= {"d": np.array([0.1], jnp.bfloat16), "e": np.array([True]), "f": np.array([2**40])}
    save_params(path, x)
    assert read_metadata(path) == {}
    types = lambda tree: [str(leaf.dtype) for leaf in tree.values()]  # noqa: E731
    assert types(load_params(path)) == ["float64", "float32", "float32", "float32", "bool", "int64"]
    for loaded in (load_params(path, like=x), load_params(path, dtype="stored")):
        assert types(loaded) == types(x) and same(loaded, x)
    like = {name: jax.ShapeDtypeStruct((1,), np.float16 if name < "e" else leaf.dtype) for name, leaf in x.items()}
    assert types(load_params(path, like)) == ["float16"] * 4 + ["bool", "int64"]
    assert types(load_params(path, dtype=jnp.bfloat16))[:4] == ["bfloat16"] * 4
    with pytest.raises(ValueError, match="'f' holds int64, but the network needs float32"):
        load_params(path, like | {"f": np.zeros(1, np.float32)})


def test_jax_and_transposed_arrays(tmp_path):
    path = tmp_path / "p.safetensors"
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    save_params(path, {"t": x.T, "j": jnp.asarray(x)})
    assert same(load_params(path), {"t": x.T, "j": x})
    shapes = jax.eval_shape(lambda: {"t": jnp.zeros((3, 2)), "j": jnp.zeros((2, 3))})
    assert same(load_params(path, like=shapes), {"t": x.T, "j": x})


def test_a_file_is_the_same_to_the_last_bit_each_time(tmp_path):
    """safetensors itself writes the metadata in a random order."""
    files = set()
    for _ in range(9):
        save_params(tmp_path / "p.safetensors", PARAMS, {"b": "1", "a": "2", "\u00e9": "\u00fc"})
        files.add((tmp_path / "p.safetensors").read_bytes())
    assert len(files) == 1 and read_metadata(tmp_path / "p.safetensors") == {"b": "1", "a": "2", "\u00e9": "\u00fc"}


def test_bfloat16(tmp_path):
    path = tmp_path / "p.safetensors"
    save_params(path, {"b": jnp.array([0.5, 3.0], jnp.bfloat16)})
    loaded = load_params(path)
    assert loaded["b"].dtype == np.float32 and same(loaded, {"b": np.array([0.5, 3.0])})
    save_params(path, {"b": np.array([0.5, 3.0])}, dtype=jnp.bfloat16)
    assert same(load_params(path), {"b": np.array([0.5, 3.0])})


def test_other_byte_orders_and_eight_bit_floats(tmp_path):
    path = tmp_path / "p.safetensors"
    save_params(path, {"a": np.arange(3).astype(">f4"), "b": np.arange(3, dtype=">i8")})
    assert same(load_params(path), {"a": np.arange(3, dtype=np.float32), "b": np.arange(3)})
    for params, dtype in (({"a": jnp.ones(2)}, jnp.float8_e4m3fn), ({"a": jnp.ones(2, jnp.float8_e5m2)}, None)):
        with pytest.raises(TypeError, match="use float16"):
            save_params(path, params, dtype=dtype)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_a_foreign_file_whose_names_do_not_nest(names):
    with pytest.raises(ValueError, match=r"'a(/b)?(/c)?' (lies below|is an array)"):
        unflatten({name: np.zeros(2) for name in names})


def test_missing_truncated_and_foreign_files(tmp_path):
    path = tmp_path / "p.safetensors"
    for read in (load_params, read_metadata):
        for nothing in (path, tmp_path):  # no file, a folder
            with pytest.raises(FileNotFoundError, match="no weights at"):
                read(nothing)
    save_params(path, PARAMS)
    whole = path.read_bytes()
    for broken in (whole[:-3], whole[:20], b"", b"PK\x03\x04 some zip file"):
        path.write_bytes(broken)
        for read in (load_params, read_metadata):
            with pytest.raises(ValueError, match="truncated or no safetensors file"):
                read(path)


@pytest.mark.parametrize(
    "first, what",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PK\x03\x04 some zip file", "a pickle under another name"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a page or a message of the server"),
    ],
)
def test_what_a_file_is_in_place_of_safetensors_is_said(tmp_path, first, what):
    path = tmp_path / "p.safetensors"
    path.write_bytes(first)
    with pytest.raises(ValueError, match=what):
        load_params(path)


def test_differences_from_like_are_named(tmp_path):
    path = tmp_path / "p.safetensors"
    save_params(path, {"a": {"w": np.zeros((2, 3))}, "b": np.zeros(4)})
    with pytest.raises(ValueError, match=r"'a/w' has the shape \(2, 3\), but the network needs \(3, 2\)"):
        load_params(path, like={"a": {"w": np.zeros((3, 2))}, "b": np.zeros(5)})
    with pytest.raises(ValueError, match=r"lacks 'a/bias', of shape \(7,\)"):
        load_params(path, like={"a": {"w": np.zeros((2, 3)), "bias": np.zeros(7)}, "b": np.zeros(4)})
    with pytest.raises(ValueError, match="holds 'b', of shape"):
        load_params(path, like={"a": {"w": np.zeros((2, 3))}})


def test_bad_params(tmp_path):
    path = tmp_path / "p.safetensors"
    cases = [
        (np.zeros(3), TypeError, "nested dict"),
        ({"a": {1: np.zeros(3)}}, TypeError, "string keys"),
        ({"a/b": np.zeros(3)}, ValueError, "'/'"),
        ({"": np.zeros(3)}, ValueError, "empty"),
        ({"a": {}}, ValueError, "nothing to store: the dict 'a'"),
        ({"a": None}, TypeError, "'a' is no array"),
        ({"a": "text"}, TypeError, "'a' is no array of real numbers but <U4"),
        ({"a": np.ones(2, complex)}, TypeError, "'a' is no array of real numbers but complex128"),
        ({"a": jax.random.key(0)}, TypeError, "'a' is no array of numbers"),
        ({"a": np.array([1e6])}, ValueError, "'a' holds numbers too large for float16"),
    ]
    for params, error, message in cases:
        with pytest.raises(error, match=message):
            save_params(path, params, dtype="float16")
    with pytest.raises(TypeError, match="metadata must be a dict of strings"):
        save_params(path, PARAMS, {"steps": 3})
    with pytest.raises(TypeError, match="dtype must be a floating type"):
        save_params(path, PARAMS, dtype=np.int8)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.safetensors"
    save_params(path, PARAMS)
    with pytest.raises(RuntimeError, match="power cut"), replacing(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError("power cut")
    assert same(load_params(path), PARAMS)
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]


def test_a_student_takes_its_teachers_weights_and_keeps_what_it_has_alone():
    student = jax.tree.map(lambda x: np.zeros_like(x), PARAMS) | {"embedding": {"end": {"kernel": np.ones(2)}}}
    taken = graft(student, PARAMS)
    assert same(taken, PARAMS | {"embedding": student["embedding"]})
    with pytest.raises(
        ValueError, match=r"'params/conv/kernel' has the shape \(2, 3\), but the network needs \(3, 3\)"
    ):
        graft({"params": {**PARAMS["params"], "conv": {"kernel": np.ones((3, 3)), "bias": np.float32(0)}}}, PARAMS)
    with pytest.raises(ValueError, match="the teacher lacks 'other'"):
        graft(PARAMS | {"other": np.ones(2)}, PARAMS)
    with pytest.raises(ValueError, match=r"'params/n', of shape .*, which the network does not have"):
        graft({"params": {"conv": PARAMS["params"]["conv"]}}, PARAMS)
