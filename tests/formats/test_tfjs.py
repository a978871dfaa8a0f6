"""Weights of TensorFlow.js: dequantisation by hand, several groups and files, and what can be wrong."""

import json

import numpy as np
import pytest

from diffjax.formats.tfjs import load_manifest

Q8 = np.array([[0, 1, 255], [7, 100, 200]], np.uint8)
Q16 = np.array([0, 65535], "<u2")
PLAIN = np.array([0.1, -2.5], "<f4")
COUNT = np.array(3, "<i4")


def entry(name, x, dtype="float32", quantization=None):
    how = {"quantization": quantization} if quantization else {}
    return {"name": name, "shape": list(x.shape), "dtype": dtype, **how}


@pytest.fixture
def manifest(tmp_path):
    q8 = {"dtype": "uint8", "scale": 0.5, "min": -3.0}
    q16 = {"dtype": "uint16", "scale": 1e-3, "min": 1.0}
    raw = Q8.tobytes() + PLAIN.tobytes()
    (tmp_path / "one.bin").write_bytes(raw[:5])  # an array may lie in two files
    (tmp_path / "two.bin").write_bytes(raw[5:])
    (tmp_path / "three.bin").write_bytes(Q16.tobytes() + COUNT.tobytes())
    groups = [
        {"paths": ["one.bin", "two.bin"], "weights": [entry("a/b", Q8, quantization=q8), entry("plain", PLAIN)]},
        {"paths": ["three.bin"], "weights": [entry("q16", Q16, quantization=q16), entry("count", COUNT, "int32")]},
    ]
    path = tmp_path / "m-weights_manifest.json"
    path.write_text(json.dumps(groups))
    return path


def test_values(manifest):
    arrays = load_manifest(manifest)
    assert arrays.keys() == {"a/b", "plain", "q16", "count"}
    np.testing.assert_array_equal(arrays["a/b"], [[-3.0, -2.5, 124.5], [0.5, 47.0, 97.0]])
    np.testing.assert_allclose(arrays["q16"], [1.0, 66.535], rtol=1e-6)
    np.testing.assert_array_equal(arrays["plain"], PLAIN)
    assert arrays["a/b"].dtype == arrays["q16"].dtype == np.float32
    assert arrays["count"].shape == () and arrays["count"] == 3


def test_missing_files(manifest):
    (manifest.parent / "two.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"two\.bin.*make data"):
        load_manifest(manifest)
    with pytest.raises(FileNotFoundError, match="make data"):
        load_manifest(manifest.parent)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"\0"])
def test_truncated_or_longer_weights(manifest, change):
    file = manifest.parent / "three.bin"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ValueError, match=r"does not fit its files, three\.bin"):
        load_manifest(manifest)


@pytest.mark.parametrize("change", [lambda text: text[:-9], lambda text: "{}x", lambda text: '[{"paths": []}]'])
def test_no_manifest(manifest, change):
    manifest.write_text(change(manifest.read_text()))
    with pytest.raises(ValueError, match="truncated or no manifest"):
        load_manifest(manifest)


def test_unknown_dtype(manifest):
    manifest.write_text(manifest.read_text().replace("uint16", "string"))
    with pytest.raises(ValueError, match="string"):
        load_manifest(manifest)
