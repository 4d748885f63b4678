# Two commands matter: `make run` (an experiment, end to end) and `make test` (every check that CI runs).
#
#   make run ARGS="seed=1"                 Hydra overrides, of both quickstarts
#   make test PIP_FLAGS=--no-cache-dir     extra flags for every pip call
#   make run PYTHON=python3.12             another interpreter for the virtual environment

PYTHON    ?= python3
VENV      ?= .venv
PIP_FLAGS ?=
ARGS      ?=
PORT      ?= 5000

BIN     := $(VENV)/bin
PIP      = $(BIN)/python -m pip
PINS    ?= constraints.txt
INSTALL  = $(PIP) install $(PIP_FLAGS) -c $(PINS)
EXTRAS  := experiments energy sweeps serve
ALL     := experiments energy sweeps serve sklearn backbones text vision edge audit
LOWEST  := tests/unit tests/conformance tests/integration/test_cli_run.py
comma   := ,
space   := $(subst ,, )

# An environment is rebuilt (that is, pip is asked again) when any of these is newer than its stamp.
INPUTS := pyproject.toml constraints.txt Makefile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-lowest docs pretrained ui lint format lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.stamp-run ## run the two quickstart experiments (more overrides: ARGS="seed=1")
	$(BIN)/python -m adapt -m experiment=quickstart,quickstart_physics $(ARGS)

# One thread each: two test processes with as many threads as there are cores are in each other's way. Three take as long
# as two, on two cores.
# Files in their order, which ends with short ones: by number of tests, the longest would come last.
# What is compiled is kept, which containers often turn off: two processes and those they start compile the same.
test: lint ## lint, types, import contracts and tests: what CI runs (pytest flags: ARGS="-k heads")
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# What pyproject.toml says that the package works with, at its lowest. Not part of `make test`: it downloads much.
# Libraries of that age warn of what came after them: warnings are shown, and are no errors.
test-lowest: ## the tests of the library and the command line with the lowest versions allowed (ARGS="-k heads")
	rm -rf $(VENV)-uv && $(PYTHON) -m venv $(VENV)-uv
	$(VENV)-uv/bin/python -m pip install $(PIP_FLAGS) --quiet uv
	$(VENV)-uv/bin/uv pip compile --quiet --no-annotate --resolution lowest-direct --group dev \
		$(foreach extra,$(ALL),--extra $(extra)) --output-file lowest.txt pyproject.toml
	$(MAKE) VENV=$(VENV)-lowest PINS=lowest.txt EXTRAS="$(ALL)" $(VENV)-lowest/.stamp-test
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		-W default $(LOWEST) $(ARGS)
	rm -rf $(VENV)-uv $(VENV)-lowest lowest.txt

docs: $(VENV)/.stamp-test ## the documentation as a site, in site/index.html; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

pretrained: $(VENV)/.stamp-run ## regenerate the shipped backbone and adapters (about half an hour on two cores)
	$(BIN)/python -m adapt experiment=pretrain_glyphs output=adapt/pretrained/conv4_glyphs
	$(BIN)/python -m adapt experiment=meta_glyphs output=adapt/pretrained/conv4_glyphs_film
	$(BIN)/python -m adapt experiment=meta_lotka_volterra output=adapt/pretrained/rollout_lotka_volterra
	$(BIN)/python -m adapt experiment=meta_vision_domain task=emblems output=outputs/starts/emblems
	for task in omniglot glyphs; do \
		$(BIN)/python -m adapt experiment=meta_vision_domain task=$$task task.transform.invert=0.5 output=outputs/starts/$$task || exit 1; \
	done
	$(BIN)/python -m adapt experiment=meta_vision_start 'meta.starts=[outputs/starts/emblems,outputs/starts/omniglot,outputs/starts/glyphs]' \
		output=adapt/pretrained/efficientnet_lite0_start
	for task in sinusoid vehicle_dynamics; do \
		$(BIN)/python -m adapt experiment=meta_$$task output=adapt/pretrained/mlp_$$task && \
		$(BIN)/python -m adapt experiment=meta_$$task meta=maml inner=backprop output=adapt/pretrained/mlp_$${task}_maml && \
		$(BIN)/python -m adapt experiment=meta_$$task meta=cavia inner=cavia output=adapt/pretrained/mlp_$${task}_cavia || exit 1; \
	done

ui: $(VENV)/.stamp-run ## open the runs in the MLflow UI (another port: PORT=5001)
	-$(BIN)/python -m adapt.tracking.sync
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --port $(PORT)

lint: $(VENV)/.stamp-test ## ruff, mypy and import contracts, and which results are old; no tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy adapt tasks
	$(BIN)/lint-imports
	$(BIN)/python -m bench.ages

format: $(VENV)/.stamp-test ## rewrite the code: import order, safe fixes, layout
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment, caches and build artefacts; runs (mlflow.db, mlruns, outputs) stay
	rm -rf $(VENV) $(VENV)-lock $(VENV)-uv $(VENV)-lowest lowest.txt build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find adapt tasks conf tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# To move one of the held packages, edit its line in constraints.txt first (torch and torchvision go together).
lock: ## resolve constraints.txt afresh, but for pip, torch, torchvision, gym and learn2learn
	rm -rf $(VENV)-lock && mkdir -p $(VENV)-lock
	grep -E '^(pip|torch|torchvision|gym|learn2learn)==' constraints.txt > $(VENV)-lock/held.txt
	$(MAKE) VENV=$(VENV)-lock PINS=$(VENV)-lock/held.txt $(VENV)-lock/.stamp-test
	$(VENV)-lock/bin/python -m pip freeze --all --exclude-editable > $(VENV)-lock/freeze.txt
	head -n 1 constraints.txt > $(VENV)-lock/constraints.txt
	grep -vE ' @ |^(nvidia-|cuda-|triton)' $(VENV)-lock/freeze.txt | sed 's/+[a-z0-9.]*$$//' >> $(VENV)-lock/constraints.txt
	mv $(VENV)-lock/constraints.txt constraints.txt
	$(VENV)-lock/bin/python -m bench.pages.licences
	$(MAKE) requirements.lock
	rm -rf $(VENV)-lock

# The same versions with the hashes of their files, on every platform, for `pip install --require-hashes`. What
# torch from the package index needs on Linux (CUDA) is in it. `make lock` makes it too.
requirements.lock: pyproject.toml constraints.txt
	rm -rf $(VENV)-uv && $(PYTHON) -m venv $(VENV)-uv
	$(VENV)-uv/bin/python -m pip install $(PIP_FLAGS) --quiet uv
	$(VENV)-uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-config \
		$(foreach extra,$(EXTRAS),--extra $(extra)) --constraint constraints.txt --custom-compile-command "make lock" \
		--output-file $@ pyproject.toml
	rm -rf $(VENV)-uv

# ---- environment: each stamp is one layer of .venv ---------------------------------------------------

$(VENV)/.stamp-venv: $(INPUTS)
	@echo "==> $(VENV): virtual environment with the pinned pip"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another one with PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --quiet --upgrade pip
	@touch $@

$(VENV)/.stamp-run: $(VENV)/.stamp-venv
	@echo "==> $(VENV): the package and what experiments need"
	$(INSTALL) -e ".[$(subst $(space),$(comma),$(EXTRAS))]"
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-run $(VENV)/.stamp-learn2learn
	@touch $@

# timm and learn2learn need torchvision. It comes first and without dependencies, so that it cannot replace the
# installed torch; if it was built for another torch, adapt/backbones/libraries.py makes its import work.
$(VENV)/.stamp-dev: $(VENV)/.stamp-run
	@echo "==> $(VENV): tests, linters, what the baselines need, and the networks of the benchmarks"
	$(INSTALL) --no-deps torchvision
	$(INSTALL) --group dev
	@touch $@

# learn2learn 0.2.0 (its last release) ships C files that Cython generated for older Pythons: on 3.11 and later
# they do not compile. `build_ext` makes its setup.py translate the .pyx files afresh, with the Cython, setuptools
# and wheel that group `baselines` has put into this environment (hence no build isolation). Its declared
# dependencies cannot all be met (qpth wants numpy<2; gsutil is never imported), hence --no-deps: group `baselines`
# holds those that `import learn2learn` does need. gym, unmaintained too, is built with the same pinned setuptools
# rather than with whatever is newest. A C compiler is needed.
$(VENV)/.stamp-learn2learn: $(VENV)/.stamp-dev
	@echo "==> $(VENV): learn2learn, built from source"
	$(INSTALL) --no-build-isolation gym
	$(INSTALL) --use-pep517 --no-build-isolation --no-deps --config-settings=--global-option=build_ext learn2learn
	@touch $@
