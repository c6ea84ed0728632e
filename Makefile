# SPDX-License-Identifier: Apache-2.0
# Everything from a fresh checkout: `make demo` shows it, `make test` checks it. See README.md.

PYTHON ?= python3
BAG ?= out/demo.mcap
OUT ?= out/demo
TASKS ?= detection

VENV := .venv
BIN := $(VENV)/bin
PERCEPTION := $(BIN)/perception
comma := ,
# With ROS 2 sourced (ROS_DISTRO set) its own packages serve; elsewhere the wheels bring ROS 2.
RUNTIME := $(if $(ROS_DISTRO),,[ros])
WORKSHOP := $(if $(ROS_DISTRO),[workshop$(comma)tensorrt$(comma)test],[ros$(comma)workshop$(comma)tensorrt$(comma)test])
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

# The wheels set these for their own Python; another environment's values would mislead this one's.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport PYTHONHOME

.DELETE_ON_ERROR:
.PHONY: help demo test lint workshop venv clean

help:
	@echo "make demo      replay and evaluate a simulated drive, or any bag: make demo BAG=drive.mcap"
	@echo "make test      tests, then ruff and mypy"
	@echo "make lint      ruff and mypy only"
	@echo "make workshop  what training and export need (PyTorch, ONNX, TensorRT builder)"
	@echo "make clean     remove .venv and out"

demo: $(VENV)/.runtime $(BAG)
	$(PERCEPTION) replay $(BAG) --tasks $(TASKS) --out $(OUT)
	$(PERCEPTION) evaluate $(BAG) --tasks $(TASKS) --out $(OUT)/in_process
	@echo "Report of the ROS 2 nodes:        $(abspath $(OUT))/report.html"
	@echo "Report of the pipelines alone:    $(abspath $(OUT))/in_process/report.html"

out/demo.mcap: $(wildcard models/simulation/*.py) | $(VENV)/.runtime
	$(PERCEPTION) simulate drive $@ --seconds 10 --sensor hdl64

test: $(VENV)/.workshop
	$(BIN)/python -m pytest
	@$(MAKE) --no-print-directory lint

lint: $(VENV)/.workshop
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tools

workshop: $(VENV)/.workshop

venv: $(VENV)/.runtime

$(VENV)/.python: tools/preflight.py
	@$(PYTHON) tools/preflight.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet pip==26.3
	@mkdir -p $(VENV)/typing
	@ln -sfn ../../models $(VENV)/typing/perception_models
	@ln -sfn ../../perception_nodes $(VENV)/typing/perception_nodes
	@touch $@

$(VENV)/.runtime: $(VENV)/.python setup.py setup.cfg constraints.txt tools/build_interfaces.py $(shell find tools/interfaces -type f)
	@echo "Installing dependencies (once) ..."
	$(INSTALL) --editable ".$(RUNTIME)"
	$(BIN)/python tools/build_interfaces.py
	@touch $@

# PyTorch's plain wheel brings CUDA on Linux. Where pip is told of an index with CPU wheels (PIP_EXTRA_INDEX_URL or
# PIP_FIND_LINKS), it takes the CPU build of the same version, which is all the tests need.
$(VENV)/.workshop: $(VENV)/.runtime
	@echo "Installing the workshop: PyTorch, TensorRT builder, test tools (once) ..."
	$(INSTALL) --editable ".$(WORKSHOP)"
	@touch $@

clean:
	rm -rf $(VENV) out build install log .mypy_cache .ruff_cache .pytest_cache *.egg-info
