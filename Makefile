# make demo   train a score model on real images, sample it, judge it (about ten minutes on two CPU cores)
# make test   the whole test suite (under ten minutes on two CPU cores)
# Each makes its own virtual environment first; nothing else is needed but Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test lint data clean

demo: $(VENV)/demo.stamp data
	$(VENV)/bin/python experiments/score_sde.py --preset cpu --workdir runs/demo --resume

test: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest -n auto
	@echo "Tests passed. Timings and failures are above; the suite lies in tests/, the environment in $(VENV)/."

lint: $(VENV)/test.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

# Fashion-MNIST: Debian's package where we may install it; otherwise the library downloads it
data:
	@if [ ! -d /usr/share/datasets/fashion-mnist ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    { apt-get update -qq && apt-get install -y -qq --no-install-recommends dataset-fashion-mnist; } \
	    || echo "The Debian package dataset-fashion-mnist cannot be had here; the data will be downloaded instead."; \
	fi

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --upgrade pip

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -q -e .
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -q -e '.[test]'
	@touch $@ $(VENV)/demo.stamp

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache
