"""Every notebook runs from top to bottom as it is, and so does the README's example."""

import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import nbformat
import numpy as np
import pytest
from jax.tree_util import Partial
from nbclient import NotebookClient

import diffjax as dj

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook(path, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")  # kernels run for longer than they compile
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1")
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    pictures = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 5


@pytest.mark.slow
def test_readme_example():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    for there, here in (("28, 28", "8, 8"), ("(16, ", "(2, "), ("small()", "small(width=8)")):
        assert there in code
        code = code.replace(there, here)
    names: dict = {}
    exec(code, names)
    assert names["x"].shape == (2, 8, 8, 1) and np.isfinite(names["logp"]).all()
    assert isinstance(names["x"], jax.Array)


def test_readme_s_tasks():
    """With a network that is hardly one."""
    code = re.search(r"```python\n([^`]*dj\.DDRM.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    key, sde, x = jax.random.key(0), dj.VP(), jax.random.normal(jax.random.key(1), (2, 28, 28, 1))
    denoise = dj.precondition.from_v(sde, lambda x, c_noise, cond: 0.5 * x)
    names = dict(dj=dj, key=key, sde=sde, denoise=denoise, ts=dj.times.uniform(sde, 6), x=x, y=jnp.zeros((2, 7, 7, 1)))
    names |= dict(image=x, painting=x, mask=jnp.zeros((28, 28, 1)).at[:14].set(1.0))
    names["log_prob"] = lambda x, t, cond: -(x**2).sum((1, 2, 3))
    exec(code, names)
    for name in ("restored", "filled", "edited"):
        assert names[name].shape == x.shape and np.isfinite(names[name]).all()
    np.testing.assert_allclose(names["filled"][:, :14], x[:, :14], atol=1e-5)


def test_readme_s_flow_map():
    """On points in place of images."""
    code = re.search(r"```python\n([^`]*SelfDistillation.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    key, sde, net, x = jax.random.key(0), dj.VP(), dj.nn.MLP(width=8), jnp.ones((4, 2))
    denoise = dj.precondition.from_v(sde, lambda x, c_noise, cond: 0.5 * x)
    names = dict(dj=dj, jax=jax, Partial=Partial, key=key, sde=sde, net=net, denoise=denoise, x=x)
    names["params"] = net.init(key, x, 0.0)
    exec(code, names)
    assert names["x"].shape == x.shape and (names["loss"](names["params"], key, {"image": x})[0] > 0).all()
