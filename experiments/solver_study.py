"""All solvers against network evaluations: on one trained network, and on an exact denoiser in two dimensions.

    python experiments/solver_study.py                    # every solver at 5 to 50 evaluations, and a reference of 500
    python experiments/solver_study.py --samples 256      # quicker, and rougher

The network is the VP model of Fashion-MNIST whose weights are part of the repository (`score_sde.py`, preset cpu-long).
Each solver starts from the same noise. `FD` is the Fréchet distance in 64 classifier features, `error` the root mean
square distance of the images from those of the adaptive ODE solver (deterministic solvers only), `exact` the largest
distance from the ODE's solution on a mixture of four Gaussians whose denoiser is known. A row is measured once: a run
that was stopped goes on where it was.

FD of 1,000 samples, two CPU cores, jax 0.10.2, 2026-11-25, half an hour of CPU time; the figure shows the others:

    evaluations              5      10      20      50
    PNDM, uniform t       21.9    4.59    4.64    5.04
    DEIS                  11.5    4.84    4.82    5.14
    DPM++ 2M              9.40    5.46    5.15    5.19
    UniPC-2               8.05    5.55    5.07    5.17
    UniPC-3               33.1    5.93    5.07    5.16
    DPM++ 3M              25.9    6.73    5.12    5.17
    DPM++ 2M SDE          17.9    6.10    4.85    4.23
    DPM-Solver-2          1042    7.78    4.97    5.11
    DDIM, uniform t       15.3    7.28    5.27    4.93
    Ancestral             61.3    23.0    11.4    4.75

500 evaluations of DDIM: 5.07; test images: 1.61. At ten evaluations the best solver is 0.90 of the reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import diffjax as dj
from diffjax import data, metrics, samplers, times
from diffjax.runs import experiment
from diffjax.typing import SDE, Denoiser, Sampler


@dataclasses.dataclass(frozen=True)
class Solver:
    sampler: Sampler
    cost: int = 1  # evaluations a step
    grid: Callable = times.uniform_logsnr
    stochastic: bool = False


SOLVERS: dict[str, Solver] = {
    "DDIM": Solver(dj.DDIM()),
    "DDIM, uniform t": Solver(dj.DDIM(), grid=times.uniform),
    "Heun, uniform t": Solver(dj.Heun(), 2, times.uniform),
    "DPM-Solver-2": Solver(dj.DPMSolver(2), 2),
    "DPM-Solver-3": Solver(dj.DPMSolver(3), 3),
    "DPM++ 2S": Solver(dj.DPMpp2S(), 2),
    "DPM++ 2M": Solver(dj.DPMpp2M()),
    "DPM++ 3M": Solver(dj.DPMpp3M()),
    "UniPC-2": Solver(dj.UniPC(2)),
    "UniPC-3": Solver(dj.UniPC(3)),
    "LMS": Solver(dj.LMS(4)),
    "DEIS": Solver(dj.DEIS(3)),
    "PNDM, uniform t": Solver(dj.PNDM(4), grid=times.uniform),
    "DPM++ 2M SDE": Solver(dj.DPMpp2M(1.0), stochastic=True),
    "DPM++ 3M SDE": Solver(dj.DPMpp3M(1.0), stochastic=True),
    "Ancestral": Solver(dj.Ancestral(), stochastic=True),
    "Euler-Maruyama, uniform t": Solver(dj.EulerMaruyama(), 1, times.uniform, stochastic=True),
}
REFERENCE = "DDIM, uniform t"


@dataclasses.dataclass(frozen=True)
class Config:
    budgets: tuple[int, ...] = (5, 10, 20, 50)
    """Network evaluations for every solver."""
    reference: int = 500
    """Evaluations of the reference, DDIM with uniform t."""
    exact_budgets: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500, 1000)
    """Evaluations of the exact denoiser."""
    samples: int = 1000
    """Images for each distance, more than 64."""
    solvers: tuple[str, ...] = tuple(SOLVERS)
    """Which of them to measure."""
    data_dir: Path | None = None
    seed: int = 0
    workdir: Path = Path("runs/solver_study")


def main(config: Config) -> dict[str, Any]:
    unknown = set(config.solvers) - set(SOLVERS)
    if unknown:
        raise SystemExit(f"unknown solvers {sorted(unknown)}; choose among {', '.join(SOLVERS)}")
    if config.samples <= 64:
        raise SystemExit(f"distances in 64 features need more than 64 samples, got {config.samples}")
    experiment.start(config.workdir, config, shared=True)
    table = experiment.Table(config.workdir / "rows.json", {"samples": config.samples, "seed": config.seed})
    exact(config, table)
    learned(config, table)
    figure(config, table, config.workdir / "solver_study.png")
    report(config, table)
    reference = table[f"network/{REFERENCE}/{config.reference}/fd"]
    summary = {"reference_fd": reference, "floor_fd": table["floor"]}
    at_10 = [(table[f"network/{name}/10/fd"], name) for name in config.solvers if f"network/{name}/10/fd" in table.rows]
    if at_10:
        fd, name = min(at_10)
        summary |= {"best_at_10": name, "fd_at_10": fd, "ratio": fd / reference}
    experiment.finish(config.workdir, summary)
    return summary


def exact(config: Config, table: experiment.Table) -> None:
    """The largest error of each deterministic solver on four Gaussians, in float64."""
    with jax.enable_x64(True):
        means = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        mixture = dj.GaussianMixture(jnp.full(4, 0.25), means, jnp.tile(0.04 * jnp.eye(2), (4, 1, 1)))
        sde = dj.VP()
        x = jnp.array([[0.6, 0.2], [-0.4, 0.8], [0.14, -1.0], [2.0, -0.6]])
        denoise = mixture.denoiser(sde)
        end, key = dj.sample_ode(denoise, sde, x, rtol=1e-11, atol=1e-12).x, jax.random.key(0)

        def draw(denoise, sde, sampler, ts):
            return dj.sample(key, denoise, sde, sampler, ts, x)

        def error(name: str, n: int) -> dict[str, float]:
            return {"max": float(jnp.abs(run(SOLVERS[name], denoise, sde, n, draw) - end).max())}

        for name in config.solvers:
            for n in () if SOLVERS[name].stochastic else config.exact_budgets:
                if n >= SOLVERS[name].cost:
                    table.measure(f"exact/{name}/{n}", lambda name=name, n=n: error(name, n))


def run(solver: Solver, denoise: Denoiser, sde: SDE, budget: int, draw: Callable) -> Any:
    """`draw(denoise, sde, sampler, ts)` with as many steps as the budget allows, one at least."""
    return draw(denoise, sde, solver.sampler, solver.grid(sde, budget // solver.cost))


def learned(config: Config, table: experiment.Table) -> None:
    """Fréchet distance, and distance from the ODE's solution, of each solver on the trained network."""
    model = dj.load("fashion-vp")
    sde, denoise = model.sde, model.denoise
    images = data.load("fashion_mnist", config.data_dir)
    features = metrics.fashion_features()
    train = features(data.to_float(images.train_images))
    real = metrics.moments(train)
    key = jax.random.key(config.seed)
    shape = (config.samples, *images.shape)
    held_out = features(data.to_float(images.test_images[: config.samples]))
    table.rows["floor"] = metrics.frechet_distance(real, held_out)
    solution = ode(config, denoise, sde, shape)

    def draw(denoise, sde, sampler, ts):
        return samplers.generate(key, denoise, sde, sampler, ts, shape)

    def judge(name: str, n: int) -> dict[str, float]:
        solver = SOLVERS[name]
        x = run(solver, denoise, sde, n, draw)
        result = {"fd": metrics.frechet_distance(real, features(x))}
        return result if solver.stochastic else result | {"error": float(np.sqrt(np.mean((x - solution) ** 2)))}

    for n in config.budgets:
        for name in config.solvers:
            if n >= SOLVERS[name].cost:
                table.measure(f"network/{name}/{n}", lambda name=name, n=n: judge(name, n))
    table.measure(f"network/{REFERENCE}/{config.reference}", lambda: judge(REFERENCE, config.reference))


def ode(config: Config, denoise: Denoiser, sde: SDE, shape: tuple[int, ...]) -> np.ndarray:
    """The images of the adaptive solver, from the noise that `samplers.generate` starts from."""
    path = config.workdir / "ode.npy"
    if path.exists():
        return np.load(path)
    k_prior, _ = jax.random.split(jax.random.key(config.seed))
    x = dj.prior_sample(k_prior, sde, shape)
    chunks = [np.asarray(dj.sample_ode(denoise, sde, x[i : i + 50]).x) for i in range(0, len(x), 50)]
    np.save(path, np.concatenate(chunks))
    return np.concatenate(chunks)


def report(config: Config, table: experiment.Table) -> None:
    """The table, as text: FD for each budget, then the error."""
    for what in ("fd", "error"):
        print(f"{what:<28}" + "".join(f"{n:>9}" for n in config.budgets))
        for name in config.solvers:
            cells = (table.rows.get(f"network/{name}/{n}/{what}") for n in config.budgets)
            print(f"{name:<28}" + "".join(f"{'' if c is None else format(c, '.4g'):>9}" for c in cells))


def figure(config: Config, table: experiment.Table, path: Path) -> None:
    """Error on the exact denoiser, distance from the ODE's images, and FD, against evaluations."""
    plot = Figure(figsize=(14, 4.2), layout="constrained")
    panels = {
        "exact/{}/{}/max": "exact denoiser: largest error",
        "network/{}/{}/error": "network: distance from the ODE",
        "network/{}/{}/fd": "network: FD",
    }
    for i, (what, title) in enumerate(panels.items(), start=1):
        axes = plot.add_subplot(1, 3, i, title=title, xscale="log", yscale="log", xlabel="network evaluations")
        budgets = config.exact_budgets if i == 1 else config.budgets
        axes.set_xticks(budgets, [str(n) for n in budgets], minor=False)
        axes.minorticks_off()
        for j, name in enumerate(config.solvers):
            points = [(n, table.rows[what.format(name, n)]) for n in budgets if what.format(name, n) in table.rows]
            if points:
                line = f"C{j % 10}.{'-' if j < 10 else '--'}"
                axes.plot(*zip(*points, strict=True), line, label=name, linewidth=1)
        if i > 1:
            axes.set_ylim(((0.01, 1), (1, 100))[i - 2])  # singlestep solvers of order 2 and 3 diverge in two steps
        if i == 3:
            axes.axhline(table["floor"], color="grey", linestyle=":", label="floor (test images)")
            axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    plot.savefig(path, dpi=130)


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))
