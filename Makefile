# Everything a newcomer needs: `make demo`, `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
TRIES := 10
QUICK := W1 W2 W3 W4 W5 W6 W7
MOUNTING := tests/integration/mount tests/integration/gateway tests/integration/test_interactive.py
BIN := $(VENV)/bin
SNAKEFILES := Snakefile workflow tests/integration/small.smk tests/integration/sequences.smk tools/reliability/Snakefile tools/bench/Snakefile tools/bench/many.smk tests/slurm/sums.smk tools/reliability/outputs.smk

.PHONY: install demo test test-unit test-slow test-long test-s3fs test-slurm test-ceph lint format docs gallery site links faults bench bench-quick scaling system clean

install: $(VENV)/demo.done system ## the workflow, its plugin and the command s3fuse, in .venv
	@PYTHONPATH=tools $(BIN)/python -c "from register_profile import registered_profile as r; print('snakemake --profile', r())"

demo: $(VENV)/demo.done system ## run the workflow on real data, with an S3 server of its own
	@$(BIN)/python tools/demo.py $(CONFIG)

test: $(VENV)/test.done system lint ## all checks and tests
	@tools/system_packages.sh tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not long and not slurm and not ceph"

test-unit: $(VENV)/test.done ## tests that need neither s3fs, FUSE, an S3 server nor a network (20 seconds)
	@$(BIN)/python -m pytest -q -n 2 tests/unit

test-slow: $(VENV)/test.done $(VENV)/stores.done $(VENV)/s3rver.done system ## stores that fail, other servers, long runs
	@tools/system_packages.sh browser
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not long and not ceph" --tries $(TRIES)

test-long: $(VENV)/test.done system ## what takes minutes, one after the other; comparisons of times
	@$(BIN)/python -m pytest -m long

test-s3fs: $(VENV)/test.done system ## what mounts, with the s3fs of Debian 13 and with the newest one (on Debian)
	@for suite in trixie sid; do \
	    tools/newer_s3fs.sh $$suite $(VENV)/s3fs-$$suite && \
	    PATH="$(CURDIR)/$(VENV)/s3fs-$$suite/bin:$$PATH" \
	        $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not long" $(MOUNTING) || exit; \
	done

test-slurm: system ## a cluster of two nodes on this machine (as root, on Debian)
	@tools/system_packages.sh slurm
	@$(MAKE) --no-print-directory VENV=$(VENV)-slurm $(VENV)-slurm/executors.done
	@$(VENV)-slurm/bin/python -m pytest tests/slurm -m "slurm and not ceph" --tries $(TRIES)

test-ceph: $(VENV)/test.done system ## a Ceph RADOS Gateway on this machine (as root, on Debian)
	@tools/system_packages.sh ceph
	@$(BIN)/python -m pytest -m ceph --tries $(TRIES)

lint: $(VENV)/test.done
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/snakefmt --check $(SNAKEFILES)

format: $(VENV)/test.done ## put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt $(SNAKEFILES)

gallery: $(VENV)/test.done system ## draw the pictures of the gallery, from its configurations
	@PYTHONPATH=tools $(BIN)/python tools/gallery.py

site: $(VENV)/test.done system ## the documentation, into build/site; a broken link ends it
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky -b html docs build/site

links: $(VENV)/test.done ## ask the sites that the documentation leads to
	@$(BIN)/python -m sphinx -q -b linkcheck docs build/links

faults: $(VENV)/test.done system ## break 740 runs, and count what is lost (90 minutes)
	@PYTHONPATH=tools $(BIN)/python -m reliability

bench: $(VENV)/bench.done system ## compare with every way to do it by hand
	@PYTHONPATH=tools $(BIN)/python -m bench

bench-quick: $(VENV)/bench.done system ## count requests and bytes, which no machine changes
	@PYTHONPATH=tools $(BIN)/python -m bench --rounds 1 --exactly --side s3fuse $(QUICK:%=--only %)

scaling: $(VENV)/bench.done system ## how cost grows with jobs, objects and bytes
	@PYTHONPATH=tools $(BIN)/python -m bench.scaling

docs: $(VENV)/test.done ## write the parts of the documentation that come from the code
	@$(BIN)/python tools/reference.py
	@$(BIN)/python -m pytest -q tests/formats --write-pages

system: ## s3fs from the distribution, where it is missing
	@tools/system_packages.sh

# Made anew when the dependencies change.
$(VENV)/%.done: pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@

# An S3 server of the npm registry, for tests.
$(VENV)/s3rver.done: $(VENV)/test.done
	@PATH="$(BIN):$$PATH" npm install --silent --no-audit --no-fund --prefix $(VENV)/s3rver s3rver@3.7.1
	@touch $@

clean: ## remove what the demo and the tests made; buckets of the demo included
	rm -rf .demo .snakemake logs results .pytest_cache .mypy_cache .ruff_cache
