# Targets a newcomer types. Everything is installed into .venv, with the versions of constraints.txt.
#   make demo    install the base package, curate the bundled sample corpus, show what happened (under 3 minutes)
#   make experiment-smoke   two arms through all training stages, compared (under 10 minutes)
#   make test    install the development extras, lint, run the whole default test suite (under 15 minutes)
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: trl112 ci experiment-smoke hidden-objective-smoke spark-parts flink-parts hdfs-parts spark-demo flink-demo cloud-test help install demo test lint bench readme sample constraints clean

# The first interpreter between 3.11 and 3.13 that really starts (a shim on the path may not).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
TRL_WITH_PPO ?= .venv-trl112
INSIDE := test_an_engine_inside_its_job_server_with_workers_in_the_driver_writes_the_bytes_of_one_machine
comma := ,
export PYTHONUTF8 := 1

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found: set PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# uv installs the same wheels several times faster than pip; where it has no wheel, pip does the work.
define install_into_venv
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install -q uv || true
	@if $(BIN)/python -m uv --version >/dev/null 2>&1; \
	  then VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/python -m uv pip install -q -c constraints.txt -e '.$(1)' </dev/null; \
	  else $(BIN)/python -m pip install -q -c constraints.txt -e '.$(1)' </dev/null; fi
endef

$(VENV)/.base-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(call install_into_venv,)
	@touch $@

# torch (4 GB with what it brings), and TRL to measure against; TRL 1.12.0 is the last with a PPO trainer and lies apart.
$(VENV)/.dev-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(call install_into_venv,[dev$(comma)train$(comma)oracle])
	@$(MAKE) -s trl112
	@touch $@ $(VENV)/.base-installed

install: $(VENV)/.base-installed

demo: $(VENV)/.base-installed
	$(BIN)/headwater curate examples/curate_sample.yaml

# TRL 1.12.0, the last with a PPO trainer, for the test that measures against it.
trl112: | $(BIN)/python
	$(BIN)/python -m pip install -q --no-deps --upgrade --target $(TRL_WITH_PPO) trl==1.12.0

# Two arms, two seeds, every stage and the report on the corpus of the demo, at 160,000 parameters.
experiment-smoke: $(VENV)/.dev-installed
	$(BIN)/headwater curate examples/curate_sample.yaml
	set -o pipefail; OMP_NUM_THREADS=1 $(BIN)/headwater run examples/experiment_smoke.yaml | tee runs/experiment-smoke.txt
	$(BIN)/headwater compare $$(tail -1 runs/experiment-smoke.txt)
	$(BIN)/headwater report $$(tail -1 runs/experiment-smoke.txt)

# The experiment on hidden objectives, on the arms of the demo, at 160,000 parameters.
hidden-objective-smoke: $(VENV)/.dev-installed
	$(BIN)/headwater curate examples/curate_sample.yaml
	OMP_NUM_THREADS=1 $(BIN)/headwater hidden-objective examples/hidden_objective_smoke.yaml

test: $(VENV)/.dev-installed lint
	$(BIN)/python -m pytest

# `make test` with real clusters. Their parts come by package name, once a machine: up to 700 MB, two processor minutes and
# one. Where Java, Maven or a registry is not to be had, the tests on clusters are skipped, and the summary says why. An
# engine inside its job server is left to `make test`: the same bytes come from two nodes here.
ci:
	for engine in spark flink; do \
	  timeout 900 $(MAKE) -s $$engine-parts || echo "no $$engine: its tests will be skipped" >&2; done
	PYTEST_ADDOPTS="-rs --deselect tests/integration/test_clusters.py::$(INSIDE) $(PYTEST_ADDOPTS)" $(MAKE) test

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev-installed
	$(BIN)/python -m benchmarks

# Run the demo and put its real output into README.md.
readme: $(VENV)/.dev-installed
	$(BIN)/python docs/refresh_readme.py

# Write examples/sample_corpus/ again; a test checks that the committed files are what this writes.
sample: $(VENV)/.base-installed
	$(BIN)/python examples/make_sample_corpus.py examples/sample_corpus

constraints: $(VENV)/.dev-installed
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m uv pip freeze | grep -v -E '^(-e|headwater|pip==|setuptools==|uv==)' \
	  | LC_ALL=C sort -f; } > constraints.new && mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) $(TRL_WITH_PPO) runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A local Spark or Flink cluster, by package name (PyPI, Maven; Java and Maven have to be there): up to 700 MB, once.
spark-parts flink-parts hdfs-parts: $(VENV)/.base-installed
	$(BIN)/python -m beam_jobs.deploy.parts $(@:-parts=)

# The sample corpus on such a cluster; says whether the bytes are those of a run on one machine.
spark-demo flink-demo: $(VENV)/.base-installed
	$(BIN)/python -m beam_jobs.deploy.demo $(@:-demo=)

# Tests that need Google's, Amazon's and HDFS's client libraries, in an environment of their own: with them installed, every
# start of Beam takes 5 processor seconds instead of 1.
cloud-test: | $(BIN)/python
	test -x .venv-cloud/bin/python || $(BIN)/python -m venv .venv-cloud
	.venv-cloud/bin/python -m pip install -q -c constraints.txt -c beam_jobs/deploy/requirements.txt \
	  -e '.[dev,gcp,aws,hdfs]' 'moto[server]==5.2.5'
	.venv-cloud/bin/python -m pytest tests/unit/beam_jobs/test_dataflow.py tests/integration/test_object_store.py \
	  tests/integration/test_hdfs.py
