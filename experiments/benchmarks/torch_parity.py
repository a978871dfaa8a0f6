"""The small U-Net here and in PyTorch: the same weights, the same outputs, and the time of each.

    pip install -e '.[parity]'
    python experiments/benchmarks/torch_parity.py

The PyTorch network below is written plainly and takes its weights from the Flax parameters; outputs must agree before
anything is timed. Then one training step (forward, backward, Adam; batch 64) and 50 steps of DDIM (batch 16) are run in
turn, ours compiled, PyTorch's eager, on the same cores.

Two CPU cores, jax 0.10.2, torch 2.13.0, 2026-11-23; medians, outputs differ by 4e-7 of the largest:

    training step   diffjax 0.277 s   PyTorch 0.131 s   PyTorch / diffjax 0.47
    50-step DDIM    diffjax 0.856 s   PyTorch 0.618 s   PyTorch / diffjax 0.72
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.tree_util import Partial

import diffjax as dj
from diffjax import precondition, times, train
from diffjax.losses import DSM, weightings
from diffjax.nn import presets
from diffjax.runs.experiment import wrapped

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print(__doc__)
    raise SystemExit(
        0 if {"-h", "--help"} & set(sys.argv) else "PyTorch is missing: pip install -e '.[parity]'"
    ) from None


class TorchUNet(torch.nn.Module):
    """`presets.small()`: x [B, 1, 28, 28], c_noise [B] -> [B, 1, 28, 28]."""

    def __init__(self, params: dict):
        super().__init__()
        leaves, _ = jax.tree_util.tree_flatten_with_path(params["params"])
        for path, leaf in leaves:
            name = "/".join(key.key for key in path)
            w = torch.tensor(np.array(leaf))
            if name.endswith("kernel"):
                w = w.permute(3, 2, 0, 1) if w.ndim == 4 else w.T
            self.register_parameter(name.replace("/", "_"), torch.nn.Parameter(w.contiguous()))

    def weight(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return getattr(self, f"{name}_kernel"), getattr(self, f"{name}_bias")

    def conv(self, name: str, x: torch.Tensor) -> torch.Tensor:
        w, b = self.weight(name)
        return F.conv2d(x, w, b, padding=w.shape[-1] // 2)

    def dense(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, *self.weight(name))

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        scale, bias = getattr(self, f"{name}_scale"), getattr(self, f"{name}_bias")
        return F.group_norm(x, min(x.shape[1] // 4, 32), scale, bias, eps=1e-6)

    def block(self, name: str, x: torch.Tensor, emb: torch.Tensor, resize: Callable | None = None) -> torch.Tensor:
        h = F.silu(self.norm(f"{name}_norm0", x))
        if resize is not None:
            h, x = resize(h), resize(x)
        h = self.conv(f"{name}_conv0", h) + self.dense(f"{name}_emb", emb)[:, :, None, None]
        h = self.conv(f"{name}_conv1", F.silu(self.norm(f"{name}_norm1", h)))
        if hasattr(self, f"{name}_skip_kernel"):
            x = self.conv(f"{name}_skip", x)
        return 0.5**0.5 * (x + h)

    def attention(self, name: str, x: torch.Tensor) -> torch.Tensor:
        B, C, H, W = x.shape
        h = self.norm(f"{name}_norm", x)
        q, k, v = (self.conv(f"{name}_{part}", h).flatten(2).mT[:, None] for part in ("query", "key", "value"))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.reshape(B, C, H, W)
        return 0.5**0.5 * (x + self.conv(f"{name}_out", h))

    def forward(self, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        frequencies = torch.exp(-np.log(1e4) * torch.arange(32) / 31)
        angle = c_noise[:, None] * frequencies
        emb = torch.cat([angle.sin(), angle.cos()], 1)
        for i in range(2):
            emb = F.silu(self.dense(f"embedding_dense{i}", emb))
        B, C, H, W = x.shape  # space to depth in the order (row, column, channel)
        h = x.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(B, 4 * C, H // 2, W // 2)
        hs = [self.conv("conv_in", h)]
        hs.append(self.block("down0_block0", hs[-1], emb))
        hs.append(self.block("down0", hs[-1], emb, partial(F.avg_pool2d, kernel_size=2)))
        hs.append(self.block("down1_block0", hs[-1], emb))
        h = self.block("mid_block0", hs[-1], emb)
        h = self.block("mid_block1", self.attention("mid_attention", h), emb)
        for i in range(2):
            h = self.block(f"up1_block{i}", torch.cat([h, hs.pop()], 1), emb)
        h = self.block("up1", h, emb, partial(F.interpolate, scale_factor=2, mode="nearest"))
        for i in range(2):
            h = self.block(f"up0_block{i}", torch.cat([h, hs.pop()], 1), emb)
        h = self.conv("conv_out", F.silu(self.norm("norm_out", h)))
        h = h.reshape(B, 2, 2, C, H // 2, W // 2).permute(0, 3, 4, 1, 5, 2)
        return h.reshape(B, C, H, W)


def alternate(ours: Callable, theirs: Callable, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each, in turn, after one call of each that is not counted."""
    timings: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for fn, seconds in zip((ours, theirs), timings, strict=True):
            start = time.perf_counter()
            fn()
            if i:
                seconds.append(time.perf_counter() - start)
    return timings


def sampling(net, params, torch_net: TorchUNet, n: int = 50, batch: int = 16) -> tuple[Callable, Callable]:
    sde, key = dj.VP(), jax.random.key(0)
    ts, x = times.uniform(sde, n), dj.prior_sample(key, sde, (batch, 28, 28, 1))
    denoise = precondition.from_v(sde, Partial(net.apply, params))
    grid = [(float(t), float(sde.alpha(t)), float(sde.sigma(t))) for t in ts]
    start = torch.tensor(np.array(x)).permute(0, 3, 1, 2)

    def ours():
        return np.asarray(dj.sample(key, denoise, sde, dj.DDIM(), ts, x))

    @torch.no_grad()
    def theirs():
        x = start
        for (t, alpha, sigma), (_, alpha_s, sigma_s) in itertools.pairwise(grid):
            v = torch_net(x, torch.full((batch,), 999 * t))
            x0, eps = alpha * x - sigma * v, sigma * x + alpha * v
            x = alpha_s * x0 + sigma_s * eps
        return x.permute(0, 2, 3, 1).numpy()

    return ours, theirs


def training(net, params, torch_net: TorchUNet, batch: int = 64) -> tuple[Callable, Callable]:
    sde, key = dj.VP(), jax.random.key(0)
    images = np.asarray(jax.random.normal(key, (batch, 28, 28, 1)))
    tx = train.adam(1e-4)
    loss = DSM(sde, times.Uniform(), net.apply, precondition.from_v, weightings.v)
    step = train.jit_train_steps(loss, tx)
    state = [train.TrainState.create(key, params, tx)]
    optimiser = torch.optim.Adam(torch_net.parameters(), 1e-4)
    x0 = torch.tensor(images).permute(0, 3, 1, 2)

    def ours():
        state[0], metrics = step(state[0], images[None])
        jax.block_until_ready(metrics)

    def theirs():
        t = torch.rand(batch) * (1 - 1e-5) + 1e-5
        log_alpha = (-0.25 * t**2 * 19.9 - 0.05 * t)[:, None, None, None]
        alpha, sigma = log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()
        eps = torch.randn_like(x0)
        error = torch_net(alpha * x0 + sigma * eps, 999 * t) - (alpha * eps - sigma * x0)
        optimiser.zero_grad()
        (error**2).mean().backward()
        optimiser.step()

    return ours, theirs


def main() -> None:
    net, x = presets.small(), jax.random.normal(jax.random.key(1), (4, 28, 28, 1))
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, 0.0)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape) * p.size**-0.3, p.dtype), shapes)
    torch_net, t = TorchUNet(params), np.array([1.0, 200.0, 500.0, 900.0], np.float32)
    theirs = torch_net(torch.tensor(np.array(x)).permute(0, 3, 1, 2), torch.tensor(t)).permute(0, 2, 3, 1)
    ours = np.asarray(jax.jit(net.apply)(params, x, t))
    gap = np.abs(ours - theirs.detach().numpy()).max() / np.abs(ours).max()
    print(f"jax {jax.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"outputs differ by {gap:.1e} of the largest")
    if gap > 1e-4:
        raise AssertionError("the two networks are not the same: the timings would mean nothing")
    for name, pair, rounds in (("training step", training, 20), ("50-step DDIM", sampling, 7)):
        ours, theirs = alternate(*pair(net, params, torch_net), rounds)
        for who, seconds in (("diffjax", ours), ("PyTorch", theirs)):
            print(f"{name:<14} {who}  min {min(seconds):.3f} s, median {statistics.median(seconds):.3f} s")
        print(f"{name:<14} PyTorch / diffjax: {statistics.median(theirs) / statistics.median(ours):.2f}")


if __name__ == "__main__":
    tyro.cli(main, description=wrapped(__doc__))
