# Two commands are the whole set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME_EXTRAS := gateway,worker,cpu,store,cli

.PHONY: install install-dev demo serve check test test-boards test-attacks test-chart mutations test-system test-clients test-compose test-arm64 image-arm64 lock images chaos soak against bench clean

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt wheels.txt
	@$(PYTHON) -c 'import sys; sys.exit("rkllama needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME_EXTRAS)]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r wheels.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed wheels-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME_EXTRAS),dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r wheels-dev.txt
	@touch $@

demo: install
	$(BIN)/python -m rkllama_cli.demo build/demo

serve: install
	$(BIN)/rkllama serve

check: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Some minutes: boards that die, fetch, run full or share conversations, and the clients' own SDKs.
test-boards: install-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m boards

# A minute or two: schemathesis over our own OpenAPI document.
test-attacks: install-dev
	$(BIN)/python -m pytest -m attacks

# A minute, and some seconds more the first time: the Helm chart, rendered in every way that helm/rkllama/ci has. x86-64 only.
CHART := build/chart
test-chart: install-dev $(CHART)/.installed
	$(BIN)/python -m pytest -m chart tests/chart

$(CHART)/.installed: tests/chart/requirements.txt tests/chart/tools.py
	$(BIN)/python -m tests.chart.tools
	@touch $@

# Two minutes: each of the gateway's rules broken on purpose, which a row of the conformance table notices.
mutations: install-dev
	$(BIN)/python -m pytest -m mutations

# As root, two minutes: disks that are full or read-only, and Debian's Prometheus watching a stack.
PROMETHEUS := build/prometheus
test-system: install-dev $(PROMETHEUS)/.installed
	$(BIN)/python -m pytest -m system

$(PROMETHEUS)/.installed: tests/system/prometheus.sh
	tests/system/prometheus.sh $(PROMETHEUS)
	@touch $@

# Three minutes, and four more the first time: Node and frameworks from npm and PyPI, pinned, in environments of their own.
CLIENTS := build/clients
test-clients: install-dev $(CLIENTS)/.installed
	$(BIN)/python -m pytest -m clients tests/clients

$(CLIENTS)/.installed: tests/clients/requirements.txt tests/clients/requirements-litellm.txt tests/clients/requirements-sources.txt tests/clients/js/package-lock.json
	$(PYTHON) -m venv $(CLIENTS)/venv
	$(PYTHON) -m venv $(CLIENTS)/litellm
	$(CLIENTS)/venv/bin/pip install --quiet --no-compile --no-deps -r tests/clients/requirements.txt
	$(CLIENTS)/litellm/bin/pip install --quiet --no-compile --no-deps -r tests/clients/requirements-litellm.txt
	$(CLIENTS)/venv/bin/pip download --quiet --no-deps --no-binary :all: --require-hashes -d $(CLIENTS)/sources -r tests/clients/requirements-sources.txt
	tar xzf $(CLIENTS)/sources/ollama-*.tar.gz -C $(CLIENTS)/sources --strip-components=1
	cd tests/clients/js && PATH="$(CURDIR)/$(CLIENTS)/venv/bin:$$PATH" npm ci --no-audit --no-fund
	@touch $@

# As root, some ten minutes: the binding tests on aarch64 under qemu-user.
test-arm64:
	tests/arm64/with-qemu.sh tests/arm64/run.sh

# As root, some ten minutes, less than one when it was built before: the worker's image for arm64, imported whole, under qemu-user.
image-arm64:
	tests/arm64/image.sh

# The versions and hashes that the images install, after a change of constraints.txt.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
	services/lock.sh build/lock/bin/uv

# For this machine, with VERSION and so on as docker-bake.hcl has them; as root, an engine is brought up where none runs.
images:
	tests/compose/with-engine.sh docker buildx bake

# Five minutes: the images, and compose.yaml with them; processes killed, a disk full, a network cut.
test-compose: install-dev
	tests/compose/run.sh

# A minute of load while processes are killed and stopped, from a printed seed; CHAOS="--seconds 600 --seed 7".
chaos: install-dev
	$(BIN)/python -m tests.chaos $(CHAOS)

# A hundred kill -9 during pulls, and a file of 8 GB: some seven minutes, 9 GB of temporary space.
soak: install-dev
	$(BIN)/python -m services.model-store.tests.soak_pulls --kills 100 --gigabytes 8

# Five minutes on a machine that does nothing else: the simulator held against the real stack; AGAINST="--seed 2".
against: install-dev
	$(BIN)/python -m bench.against $(AGAINST)

# Some ten minutes on a machine with nothing else to do; BENCH="--only first-token --rounds 20" is a part of it.
bench: install-dev
	$(BIN)/python -m bench $(BENCH)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist build
