# make demo: install, then segment a street picture.  make test: install what the tests need and run them.
# make bench: measure the networks on this machine, and write the README's table and plot of speeds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench install lint clean

demo: $(VENV)/.installed
	$(BIN)/lwrefinenet predict examples/street.jpg --overwrite

install: $(VENV)/.installed

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/training
	$(BIN)/python -m pytest tests/training  # these kill processes and send signals, which other workers must not feel

bench: $(VENV)/.installed-dev
	$(BIN)/lwrefinenet benchmark rf_lw_resnet50 rf_lw_mobilenetv2.camvid rf_lw_efficientnet_lite0.camvid \
		rf_lw_nano_efficientnet_lite0.camvid --against torchvision:lraspp_mobilenet_v3_large,smp:fpn-mobilenet_v2 \
		--rounds 10 --output results/inference.json --plot docs/pictures/accuracy_speed.png
	$(BIN)/python scripts/make_docs.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) output build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.installed
