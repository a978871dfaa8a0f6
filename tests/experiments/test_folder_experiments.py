"""The conditional experiments on a folder of one's own pictures, with networks that compile at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from PIL import Image

import diffjax as dj
from diffjax import data, metrics, nn, precondition, pretrained
from diffjax.data import folder, packages
from diffjax.formats import save_params
from diffjax.metrics.features import SmallClassifier
from diffjax.pretrained import face
from diffjax.runs import experiment, judges
from diffjax.runs.own_pictures import OwnPictures, model_of

SIZE = 16
SHAPE = (SIZE, SIZE, 3)
COLOURS = {"red": (230, 20, 30), "blue": (20, 40, 220)}
NAMES = (
    "guidance", "noisy_classifier", "fashion_classifier", "inpainting", "inverse_problems", "autoencoder", "sdedit",
    "mpgd", "emoji_clip", "guided_student",
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 140 pictures in two classes, which their colours tell apart; 13 or so are held out."""
    path, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (path / name).mkdir()
        for i in range(70):
            image = np.clip(np.array(colour) + rng.normal(0, 12, (18, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(path / name / f"{name}_thing-{i % 12}_{'abcdef'[i // 12]}.png")
    return path


@pytest.fixture
def options(pictures):
    return {"data": "folder", "data_path": pictures, "data_size": SIZE}


def zeros(path, net, *inputs):
    """The file of a network whose parameters are all 0, with inputs of these shapes."""
    like = jax.eval_shape(net.init, jax.random.key(0), *(jnp.zeros((1, *shape)) for shape in inputs))
    return dj.save(path, dj.Trained(net, jax.tree.map(lambda x: np.zeros(x.shape, np.float32), like), inputs))


@pytest.fixture
def pixel_model(pixelwise):
    """A model whose network is one linear map."""

    def model(classes=0, **changes):
        made = dj.Model.init(
            jax.random.key(0), pixelwise(3, classes), dj.VP(), precondition.from_v, jnp.zeros((1, *SHAPE))
        )
        return made.replace(**changes)

    return model


@pytest.fixture
def model(pixel_model, tmp_path):
    """The file of one."""
    return dj.save(tmp_path / "model", pixel_model())


@pytest.fixture
def model_of_classes(pixel_model, tmp_path):
    return dj.save(tmp_path / "classes", pixel_model(2))


@pytest.fixture
def networks(monkeypatch):
    """In place of the pretrained ones."""
    vectors = np.random.default_rng(0).normal(size=(500, 384)).astype(np.float32)
    monkeypatch.setattr(packages, "find", lambda *_: None)
    monkeypatch.setattr(metrics, "lite0_layers", lambda: Partial(lambda x: (x, x[:, ::2, ::2], jnp.tanh(x))))
    monkeypatch.setattr(pretrained, "load_face_net", lambda _: Partial(lambda _, x: x.mean((1, 2)), None))
    monkeypatch.setattr(face, "stages", lambda _, x: [x] * 8)
    monkeypatch.setattr(pretrained, "sentence_vectors", lambda _, texts: vectors[: len(texts)])

    def lite0(shape, parts=1):  # as many numbers as the network has
        return lambda x: np.resize(np.asarray(x).reshape(len(x), -1), (len(x), 112 * parts**2))

    monkeypatch.setattr(metrics, "lite0_features", lite0)


def loop(config, steps=2):
    return dataclasses.replace(config.loop, steps=steps, log_every=steps, checkpoint_every=steps)


@pytest.mark.parametrize("name", NAMES)
def test_one_spelling_of_the_options(load, name):
    given = ["--data", "folder", "--data.path", "my/pictures", "--data.size", "48"]
    config = experiment.configure({"cpu": load(name).Config}, "", given)
    assert (config.data, str(config.data_path), config.data_size) == ("folder", "my/pictures", 48)


def test_a_folder_is_read_in_an_order_by_chance(pictures, options):
    images, sorted_by_name = OwnPictures(**options).load("emoji"), folder.load(pictures, size=SIZE)
    assert images.shape == (SIZE, SIZE, 3) and images.class_names == ("blue", "red")
    assert set(images.train_labels[:12]) == {0, 1}
    for part in ("train", "test"):
        x, labels, captions = (getattr(images, f"{part}_{kind}") for kind in ("images", "labels", "captions"))
        np.testing.assert_array_equal(x[..., 0].mean((1, 2)) > 125, labels)  # still each with its own
        assert [caption.split()[0] for caption in captions] == [images.class_names[label] for label in labels]
        assert sorted(captions) == sorted(getattr(sorted_by_name, f"{part}_captions"))


def test_what_is_missing_of_the_pictures(pictures, options, tmp_path):
    def load(changes, **needs):
        return OwnPictures(**(options | changes)).load("emoji", **needs)

    with pytest.raises(SystemExit, match=r"--data\.path DIR"):
        load({"data_path": None})
    with pytest.raises(SystemExit, match="needs --data folder"):
        load({"data": None})
    with pytest.raises(SystemExit, match=r"--data\.size 16 needs --data folder"):
        load({"data": None, "data_path": None})
    with pytest.raises(SystemExit, match="there is no folder"):
        load({"data_path": tmp_path / "none"})
    with pytest.raises(SystemExit, match=r"no classes in .*red: put the pictures of each into a folder"):
        load({"data_path": pictures / "red"}, classes=True)
    with pytest.raises(SystemExit, match="this experiment needs 100, so about 1000 pictures"):
        load({}, held_out=100)


def test_what_is_missing_of_the_weights(options, tmp_path):
    config, own = OwnPictures(**options), tmp_path / "own.safetensors"
    own.touch()
    with pytest.raises(
        SystemExit, match=r"need --model PATH. `python experiments/score_sde.py --data folder --data.path"
    ):
        config.find(None, own, "--model", "score_sde.py")
    with pytest.raises(SystemExit, match=r"--model: there is no .*other.*score_sde.py`"):
        OwnPictures().find(tmp_path / "other", own, "--model", "score_sde.py")
    assert OwnPictures().find(None, own, "--model", "score_sde.py") == own


def test_the_model_of_a_file_or_of_a_run_s_folder(pixel_model, tmp_path):
    saved = pixel_model(2, params=jax.tree.map(jnp.ones_like, pixel_model(2).params))
    dj.save(tmp_path / "ema.safetensors", saved)
    for path in (tmp_path, tmp_path / "ema.safetensors"):
        found = OwnPictures().model_of(
            path, None, "--model", "score_sde.py", sde=dj.VP(), shape=SHAPE, classes=2, prediction=precondition.from_v
        )
        assert found.network == saved.network and found.sde == dj.VP()
        jax.tree.map(np.testing.assert_array_equal, found.params, saved.params)


def test_files_that_are_no_model_for_the_experiment(pixel_model, tmp_path):
    """The message says what the file is, or that there is none, and what is needed."""

    def refused(path, says, **needs):
        with pytest.raises(SystemExit, match=says):
            model_of(path, **{"sde": dj.VP(), "shape": SHAPE, **needs})

    path = dj.save(tmp_path / "model", pixel_model())
    refused(path, r"model\.safetensors is .* of shape \(16, 16, 3\), but .* needs \(28, 28, 1\)", shape=(28, 28, 1))
    refused(path, r"model\.safetensors is a model of 0 classes, but .* needs 2", classes=2)
    refused(path, "is a model of .*from_v.*, but .* needs from_eps", prediction=precondition.from_eps)
    refused(path, r"does not fit this experiment: .*made for VP.*used under VE", sde=dj.VE())
    refused(path, r"does not fit this experiment: .*beta_max=20.*beta_max=10", sde=dj.VP(beta_max=10.0))
    bare = tmp_path / "bare.safetensors"
    save_params(bare, pixel_model().params)
    refused(bare, "has no model card")
    refused(zeros(tmp_path / "judge", SmallClassifier(2), SHAPE), "holds no diffusion model but .*SmallClassifier")
    refused(tmp_path / "none", "there is no .*none")
    refused(tmp_path, r"holds no ema\.safetensors, which an experiment leaves there")
    bare.write_bytes(path.read_bytes()[:-7])
    refused(bare, "truncated")


def test_files_that_are_no_network_for_the_experiment(pixel_model, tmp_path):
    judge = zeros(tmp_path / "judge", SmallClassifier(2), SHAPE)

    def trained(path, inputs=(SHAPE,), classes=2):
        return OwnPictures().trained(path, None, "--judge", "fashion_classifier.py", inputs=inputs, classes=classes)

    assert trained(judge).network == SmallClassifier(2)
    for call, says in (
        (lambda: trained(judge, ((28, 28, 1),)), r"inputs \(\(16, 16, 3\),\), but .* \(\(28, 28, 1\),\)"),
        (lambda: trained(judge, (SHAPE, ())), r"inputs \(\(16, 16, 3\),\), but .* \(\(16, 16, 3\), \(\)\)"),
        (lambda: trained(judge, classes=3), "2 classes, but .* needs 3"),
        (lambda: trained(dj.save(tmp_path / "model", pixel_model())), "holds no such network but a diffusion model"),
        (lambda: trained(tmp_path / "none"), "--judge: there is no .*none.*fashion_classifier.py"),
    ):
        with pytest.raises(SystemExit, match=says):
            call()


def test_a_network_of_classes_has_those_of_the_folder(load, options):
    config = load("score_sde").cpu_classes()
    assert config.net.num_classes == 10
    assert dataclasses.replace(config, **options).net.num_classes == 2


@pytest.mark.slow
def test_classifier_of_noisy_pictures(load, options, tmp_path):
    """Where all logits are 0 the first class is the answer, at every time."""
    noisy = load("noisy_classifier")
    weights = zeros(tmp_path / "zeros", nn.Classifier(2), SHAPE, ())
    config = noisy.Config(**options, weights=weights, test_times=(0.0, 1.0), workdir=tmp_path)
    summary = noisy.main(config)
    share = np.mean(config.load("fashion_mnist").test_labels == 0)
    assert summary == {f"accuracy at t = {t}": pytest.approx(share) for t in (0, 1)} and 0 < share < 1


def test_what_guidance_needs(load, options, model_of_classes, model, tmp_path):
    guidance = load("guidance")
    clean, many = (zeros(tmp_path / f"{n}", nn.Classifier(n), SHAPE, ()) for n in (2, 3))
    three = zeros(tmp_path / "three", SmallClassifier(3), SHAPE)
    config = guidance.Config(**options, samples=8, classifier=(), model=model_of_classes, clean=clean, workdir=tmp_path)
    for changes, command in (
        ({"model": None}, "score_sde.py --preset cpu-classes --data folder"),
        ({"clean": None}, "noisy_classifier.py --preset clean --data folder"),
        ({"classifier": (1.0,)}, "noisy_classifier.py --preset noisy --data folder"),
        ({}, "fashion_classifier.py --epochs 100 --weights PATH --data folder"),
        ({"samples": 3}, "--samples must be two of each class or more, 4"),
        ({"model": model}, "model of 0 classes, but this experiment needs 2"),
        ({"clean": many}, "network of 3 classes, but this experiment needs 2"),
        ({"judge": three}, "network of 3 classes, but this experiment needs 2"),
    ):
        with pytest.raises(SystemExit, match=command):
            guidance.main(dataclasses.replace(config, **changes))


@pytest.mark.slow
def test_guidance_by_a_folder_s_classes(load, options, model_of_classes, tmp_path):
    """The judge, trained here, has the classes."""
    guidance, judging = load("guidance"), load("fashion_classifier")
    weights = tmp_path / "judge.safetensors"
    with pytest.raises(SystemExit, match="--weights"):
        judging.main(judging.Config(**options))
    judging.main(judging.Config(**options, epochs=8, batch_size=32, weights=weights))
    images = OwnPictures(**options).load("fashion_mnist")
    see = judges.ClassJudge(dj.load(weights), images)
    assert see(data.to_float(images.test_images), images.test_labels)["accuracy"] > 0.9

    clean = zeros(tmp_path / "clean", nn.Classifier(2), SHAPE, ())
    scales = dict(cfg=(2.0,), classifier=(), ordinary=(), dps=(), mpgd=(0.05,))
    config = guidance.Config(**options, **scales, samples=8, steps=2, workdir=tmp_path)
    summary = guidance.main(dataclasses.replace(config, model=model_of_classes, clean=clean, judge=weights))
    assert {"cfg 2, accuracy", "ordinary, MPGD 0.05, diversity"} <= set(summary)
    assert np.isfinite(list(summary.values())).all() and (tmp_path / "guidance.png").is_file()


@pytest.mark.slow
def test_guidance_is_distilled(load, options, model_of_classes, tmp_path):
    guided, run = load("guided_student"), tmp_path / "run"
    net, x = SmallClassifier(2), jnp.zeros((1, *SHAPE))
    judge = dj.save(tmp_path / "judge", dj.Trained(net, net.init(jax.random.key(0), x), (SHAPE,)))
    small = dict(scales=(1.0, 2.0), samples=8, batch_size=8, model=model_of_classes, judge=judge, workdir=run)
    config = guided.Config(**options, **small)
    config = dataclasses.replace(config, loop=loop(config))
    summary = guided.main(config)
    assert {"teacher, 4, scale 1, apart", "student, 2, scale 2, diversity", "teacher, 50, scale 2, accuracy"} <= set(
        summary
    )
    assert np.isfinite(list(summary.values())).all() and (run / "guided_student.png").is_file()
    student = dj.load(run)
    assert np.abs(student.params["params"]["guidance"]["kernel"]).max() > 0  # it was 0
    cond = {"label": jnp.arange(2), "scale": jnp.full(2, 3.0)}
    assert student.sample(jax.random.key(0), 2, cond=cond).shape == (2, *SHAPE)
    for changes, command in (
        ({"model": None}, "score_sde.py --preset cpu-classes --data folder"),
        ({"judge": None}, "fashion_classifier.py --epochs 100 --weights PATH --data folder"),
        ({"samples": 3}, "--samples must be two of each class or more, 4"),
    ):
        with pytest.raises(SystemExit, match=command):
            guided.main(dataclasses.replace(config, **changes))


@pytest.mark.slow
def test_inpainting(load, options, model, networks, tmp_path):
    inpainting = load("inpainting")
    problems = ("upper half", "grey")
    config = inpainting.Config(images=6, methods=("Ancestral",), problems=problems, **options, workdir=tmp_path)
    summary = inpainting.main(dataclasses.replace(config, model=model))
    assert summary["upper half, original, features"] < 1e-6 < summary["upper half, Ancestral, features"]
    assert summary["grey, Ancestral, grey"] < 1e-5 and np.isfinite(list(summary.values())).all()
    assert "upper half, original, agreement" not in summary and (tmp_path / "inpainting.png").is_file()
    for problem in problems:
        with pytest.raises(SystemExit, match="need --model PATH"):
            inpainting.main(dataclasses.replace(config, problems=(problem,)))


@pytest.mark.slow
def test_inverse_problems_and_their_autoencoder(load, options, model, networks, tmp_path):
    coding, inverse = load("autoencoder"), load("inverse_problems")
    trained = coding.Config(**options, workdir=tmp_path / "ae")
    summary = coding.main(dataclasses.replace(trained, loop=loop(trained), batch_size=8))
    assert summary["steps"] == 2 and np.isfinite(summary["psnr"])
    kept = tmp_path / "ae"
    given = dict(images=2, methods=("DDNM", "MPGD-Z"), problems=("pool x 4",), model=model, workdir=tmp_path)
    config = inverse.Config(**options, **given, autoencoder=kept)
    summary = inverse.main(config)
    assert {"pool x 4, DDNM/psnr", "pool x 4, MPGD-Z/features"} <= set(summary)
    assert np.isfinite(list(summary.values())).all() and (tmp_path / "inverse_problems.png").is_file()
    for missing, command in (
        ({"model": None}, "score_sde.py --data folder"),
        ({"autoencoder": tmp_path / "none"}, "--autoencoder: there is no .*autoencoder.py --data folder"),
    ):
        with pytest.raises(SystemExit, match=command):
            inverse.main(dataclasses.replace(config, **missing))


@pytest.mark.slow
def test_sdedit(load, options, model, networks, tmp_path):
    sdedit = load("sdedit")
    config = sdedit.Config(steps=1, t_0=(0.1, 0.5), **options, workdir=tmp_path)
    summary = sdedit.main(dataclasses.replace(config, model=model))
    assert summary["t_0 0.1, distance"] < summary["t_0 0.5, distance"]
    assert np.isfinite(list(summary.values())).all() and (tmp_path / "sdedit.png").is_file()
    with pytest.raises(SystemExit, match="need --model PATH"):
        sdedit.main(config)


@pytest.mark.slow
def test_a_clip_of_a_folder_guides_and_judges(load, options, model, networks, tmp_path):
    clip, mpgd = load("emoji_clip"), load("mpgd")
    tiny, paths = nn.CLIP(nn.Classifier(128, width=8, multipliers=(1,))), {}
    for name, config in (("tiny", clip.Config(net=tiny)), ("judge", clip.linear())):
        config = dataclasses.replace(config, **options)
        config = dataclasses.replace(config, loop=loop(config), batch_size=8, workdir=tmp_path / name)
        if config.estimates:
            with pytest.raises(SystemExit, match="need --model PATH"):
                clip.main(config)
        summary = clip.main(dataclasses.replace(config, model=model))
        assert summary["steps"] == 2 and 0 <= summary["top 5"] <= 1 < summary["captions"]
        paths["guide" if name == "tiny" else name] = config.workdir
    small = dict(scales=(0.0, 0.1), samples=6, steps=3, batch_size=3, workdir=tmp_path, model=model)
    config = dataclasses.replace(mpgd.PRESETS["style"](), **options, **paths, **small)
    summary = mpgd.main(config)
    assert summary["scale 0.1, style"] < summary["scale 0, style"]  # guided towards the reference
    assert np.isfinite(list(summary.values())).all() and (tmp_path / "mpgd.png").is_file()
    for missing, command in (
        ("model", "score_sde.py --preset cpu-emoji --data folder"),
        ("guide", "emoji_clip.py --model PATH --data folder"),
        ("judge", "emoji_clip.py --preset judge --data folder"),
    ):
        with pytest.raises(SystemExit, match=command):
            mpgd.main(dataclasses.replace(config, **{missing: None}))
    for option, other in (("judge", "guide"), ("guide", "judge")):
        with pytest.raises(SystemExit, match="holds a network of inputs"):
            mpgd.main(dataclasses.replace(config, **{option: paths[other]}))


@pytest.mark.slow
def test_identity_of_a_folder_s_faces(load, options, model, networks, tmp_path):
    mpgd = load("mpgd")
    small = dict(scales=(0.0, 20.0), samples=4, steps=3, batch_size=2, workdir=tmp_path, model=model)
    summary = mpgd.main(dataclasses.replace(mpgd.PRESETS["identity"](), **options, **small))
    assert summary["scale 20, distance"] < summary["scale 0, distance"]


def test_a_judge_of_styles(networks):
    """With maps that are the picture itself, by hand."""
    styles = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)
    grams = np.einsum("bijc,bijd->bcd", styles, styles) / styles[0].size
    apart = np.sqrt(3) * np.linalg.norm(grams[0] - grams[1])  # three maps, all alike
    which = np.array([0, 1, 1])
    see = judges.style_judge(styles, which)
    assert see(styles[which]) == {"judged": pytest.approx(0, abs=1e-6), "nearest": 1}
    assert see(styles[[0, 0, 1]]) == {"judged": pytest.approx(apart / 3, rel=1e-5), "nearest": pytest.approx(2 / 3)}
    assert set(judges.style_judge(styles[:1], np.zeros(3, int))(styles[which])) == {"judged"}
