"""Whole runs against those of diffusers' schedulers (`make_loops.py`), and grids against the published ones."""

import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import constraints, guidance, precondition
from diffjax.formats.tensors import read_tensors, read_tensors_metadata
from diffjax.pipelines import loading, solvers
from diffjax.pretrained import stable_diffusion as sd
from diffjax.pretrained.stable_diffusion import layout

FILE = Path(__file__).with_name("loops.safetensors")
NETWORK = Path(__file__).parents[1] / "pretrained" / "stable_diffusion.safetensors"
CASES = {case: json.loads(text) for case, text in read_tensors_metadata(FILE).items()}
# where times are fractional, diffusers interpolates sigma and we log abar: the network gets another time
TOLERANCES = {"euler linspace": 1e-4, "euler_karras": 1e-4}
QUICK = ("ddim", "ddim trailing", "euler", "euler trailing", "dpmpp_2m", "dpmpp_2m leading")  # two programs


@cache
def network():
    arrays = read_tensors(NETWORK)
    net = sd.unet_from_config(json.loads(read_tensors_metadata(NETWORK)["sd1"]))
    weights = {n.removeprefix("sd1/weights/"): x for n, x in arrays.items() if n.startswith("sd1/weights/")}
    params, _ = layout.from_tensors(layout.hub_layout(net), weights, "the fixture")
    net = net.clone(dtype=jnp.float64)
    apply = jax.jit(lambda params, x, c_noise, cond: net.apply(params, x, c_noise, cond))  # traced once for all solvers
    return Partial(apply, jax.tree.map(lambda x: np.asarray(x, np.float64), params))


def rounded(sde, t):
    return jnp.round(precondition.time_index(sde, t))


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_run_ends_where_diffusers_does(x64, monkeypatch, case):
    name, config, n = CASES[case]
    schedule = sd.schedule_from_config({"_class_name": name, **config})
    plan = solvers.plan(case.replace(",", "").split()[0], schedule, n)
    for module in ("ddim", "dpm_solver_pp", "renoise"):  # the noise of each step is 1, but for a last one of diffusers'
        monkeypatch.setattr(f"diffjax.samplers.{module}.normal", lambda key, x: jnp.ones_like(x))
    arrays = {n: jnp.asarray(x) for n, x in read_tensors(FILE).items()}
    sde = loading.process(schedule)
    predict = {"eps": precondition.from_eps, "v": precondition.from_v}[schedule.prediction]
    c_noise = rounded if case == "dpmpp_2m_karras" else precondition.time_index  # as diffusers has it there
    denoise = predict(sde, network(), c_noise)
    denoise = guidance.cfg(denoise, 7.5, {"context": arrays["null"]}, batched=True)
    ts = constraints.pad_grid(plan.ts, 7)
    x = plan.noise * arrays["latents"]
    cond = {"context": arrays["context"]}
    z = dj.sample(jax.random.key(0), denoise, sde, dj.constraints.Padded(plan.sampler), ts, x, cond)
    error = float(jnp.abs(z - arrays[case]).max() / jnp.abs(arrays[case]).max())
    assert error < TOLERANCES.get(case, 1e-6), error


VERSION_1 = sd.schedule_from_config(
    dict(_class_name="PNDMScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
         set_alpha_to_one=False)
)  # fmt: skip
LEADING = [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]


@pytest.mark.parametrize(("name", "n", "spacing", "index", "noise"), [
    ("ddim", 10, None, [*LEADING, 0], 1), ("pndm", 10, "leading", [*LEADING, 0], 1),
    ("ddim", 10, "trailing", [999, 899, 799, 699, 599, 499, 399, 299, 199, 99, 0], 1),
    ("ddim", 10, "linspace", [999, 888, 777, 666, 555, 444, 333, 222, 111, 0, 0], 1),
    ("euler", 10, None, [999, 888, 777, 666, 555, 444, 333, 222, 111, 0, -1], 14.61464123),
    ("euler_a", 10, "leading", [*LEADING, -1], None),
    ("euler", 5, None, [999, 749.25, 499.5, 249.75, 0, -1], 14.61464123),
    ("euler", 10, "trailing", [999, 899, 799, 699, 599, 499, 399, 299, 199, 99, -1], 14.61464123),
    ("dpmpp_2m", 10, None, [999, 899, 799, 699, 599, 500, 400, 300, 200, 100, -1], 1),
    ("unipc", 10, "leading", [901, 811, 721, 631, 541, 451, 361, 271, 181, 91, -1], 1),
    ("lcm", 1, None, [999, -1], 1), ("lcm", 4, None, [999, 759, 499, 259, -1], 1),
    ("lcm", 8, None, [999, 879, 759, 639, 499, 379, 259, 139, -1], 1),
    ("dpmpp_2m_karras", 10, None,
     [999, 916.284, 815.045, 687.153, 523.199, 327.147, 145.939, 40.857, 6.732, 0, -1], 1),
])  # fmt: skip
def test_grids_and_starts_are_the_published_ones(name, n, spacing, index, noise):
    plan = solvers.plan(name, VERSION_1, n, spacing)
    np.testing.assert_allclose(plan.ts - 1, index, atol=0.03 if "karras" in name else 1e-9)
    sde = loading.process(VERSION_1)
    alpha = float(sde.alpha(plan.ts[0]))
    expected = 1 if noise in (1, None) else noise * alpha  # diffusers works on x/alpha
    assert plan.noise == pytest.approx(expected, rel=1e-5)


def test_sdxl_s_grid_of_30_steps():
    xl = VERSION_1._replace(solver="EulerDiscreteScheduler")
    plan = solvers.plan("euler", xl, 30)
    assert plan.ts[0] - 1 == 958 and plan.noise == 1 and solvers.own_solver(xl) == "euler"
    sigma = dj.gaussian.noise_to_signal(loading.process(xl), plan.ts[0])
    assert float(sigma) == pytest.approx(11.47685, rel=1e-5)


def test_levels_that_end_without_signal_have_a_grid_for_every_solver():
    betas = sd.schedule_from_config(
        dict(_class_name="DDIMScheduler", rescale_betas_zero_snr=True, prediction_type="v_prediction")
    ).betas
    for name in solvers.names():
        plan = solvers.plan(name, VERSION_1._replace(betas=betas), 5, "trailing")
        assert plan.ts[0] == 1000 and (np.diff(plan.ts) < 0).all() and plan.noise == pytest.approx(1, abs=1e-7)
    with pytest.raises(ValueError, match=r"no signal .* noise alone does not say"):
        sd.schedule_from_config(dict(_class_name="DDIMScheduler", rescale_betas_zero_snr=True))


def test_ddpm_ends_without_noise_whatever_ddim_is_told():
    """DDPMScheduler has no set_alpha_to_one: its last step goes to abar = 1 (diffusers, issue 6926)."""
    assert not VERSION_1.final_one
    assert [solvers.plan(name, VERSION_1, 10).ts[-1] for name in ("ddpm", "ddim", "pndm")] == [0, 1, 1]


def test_as_many_steps_as_there_are_levels():
    assert np.array_equal(solvers.plan("ddim", VERSION_1, 1000, "trailing").ts, [*range(1000, 0, -1), 1])
    assert np.array_equal(solvers.plan("ddpm", VERSION_1._replace(offset=0), 1000).ts, range(1000, -1, -1))
    for name, spacing in (("dpmpp_2m", "trailing"), ("ddim", "leading")):  # one space more; an offset of 1
        with pytest.raises(ValueError, match=r"number of steps must be .* 999|begin at 1000, beyond 999"):
            solvers.plan(name, VERSION_1, 1000, spacing)


@pytest.mark.parametrize(("config", "says"), [
    (dict(_class_name="DEISMultistepScheduler"), "has DEISMultistepScheduler, which is not here"),
    (dict(_class_name="UniPCMultistepScheduler", solver_order=3), "solver_order = 3"),
    (dict(_class_name="DPMSolverMultistepScheduler", algorithm_type="dpmsolver", solver_order=1),
     "solver_order = 1 and algorithm_type = 'dpmsolver'"),
])  # fmt: skip
def test_another_solver_in_place_of_the_model_s_is_announced(config, says):
    with pytest.warns(UserWarning, match=says):
        sd.schedule_from_config(config)


def test_lcm_takes_its_steps_from_its_teacher_s_grid():
    schedule = sd.schedule_from_config(dict(_class_name="LCMScheduler", original_inference_steps=100))
    assert (solvers.plan("lcm", schedule, 4).ts - 1).tolist() == [999, 749, 499, 249, -1]
    with pytest.raises(ValueError, match=r"LCM's steps must be .* 100"):
        solvers.plan("lcm", schedule, 101)


def test_names():
    assert solvers.own_solver(VERSION_1) == "pndm"
    assert (
        solvers.own_solver(VERSION_1._replace(solver="DPMSolverMultistepScheduler", karras=True)) == "dpmpp_2m_karras"
    )
    assert solvers.own_solver(VERSION_1._replace(solver="DPMSolverMultistepScheduler", sde=True)) == "dpmpp_2m_sde"
    for webui, name in (("DPM++ 2M SDE Karras", "dpmpp_2m_sde_karras"), ("DPM++ 2S a", "dpmpp_2s_a")):
        assert solvers.plan(webui, VERSION_1, 5).sampler == solvers.plan(name, VERSION_1, 5).sampler
    with pytest.raises(ValueError, match=r"'DPM\+\+ SDE Karras', perhaps \['dpmpp"):
        solvers.plan("DPM++ SDE Karras", VERSION_1, 5)
    for name in solvers.names():
        for n in (1, 2, 20):
            plan = solvers.plan(name, VERSION_1, n)
            assert len(plan.ts) == n + 1 and (np.diff(plan.ts) < 0).all() and 0 <= plan.ts[-1] <= 1
    for synonym in ("DPM++ 2M Karras", "DPM++ 2S a", "Euler a", "euler-ancestral", "PLMS", "UniPC", "k_lms"):
        assert isinstance(solvers.plan(synonym, VERSION_1, 5).sampler, object)
    for wrong in ("ddpmm", "lcm_karras", ""):
        with pytest.raises(ValueError, match="there is no solver"):
            solvers.plan(wrong, VERSION_1, 5)
