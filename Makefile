# make demo: install, then segment a street picture.  make test: install what the tests need and run them.
# make bench: measure the networks and weights on this machine, and write the tables and the plot of their speeds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Whose milliseconds stand beside their scores.
WEIGHTS := $(notdir $(basename $(wildcard src/lwrefinenet/shipped/*.safetensors)))
PUBLISHED := rf_lw_resnet50 rf_lw_resnet101 rf_lw_resnet152 mt_lw_mobilenetv2

.PHONY: demo test bench install lint clean

demo: $(VENV)/.installed
	$(BIN)/lwrefinenet predict examples/street.jpg --overwrite

install: $(VENV)/.installed

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/training
	$(BIN)/python -m pytest -n auto --dist loadfile tests/training  # these send signals, which workers with other tests must not feel

bench: $(VENV)/.installed-dev
	$(BIN)/lwrefinenet benchmark rf_lw_resnet50 rf_lw_mobilenetv2.camvid rf_lw_efficientnet_lite0.camvid \
		rf_lw_nano_efficientnet_lite0.camvid --against torchvision:lraspp_mobilenet_v3_large,smp:fpn-mobilenet_v2 \
		--rounds 10 --output results/inference.json --plot docs/pictures/accuracy_speed.png
	$(BIN)/lwrefinenet benchmark $(WEIGHTS) $(PUBLISHED) --backends pytorch,openvino --rounds 10 --output results/weights_speed.json
	$(BIN)/python scripts/make_docs.py
	$(BIN)/python scripts/make_cards.py

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
