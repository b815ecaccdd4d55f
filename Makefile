# Two commands are the whole set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME_EXTRAS := gateway,worker,cpu,store,cli

.PHONY: install install-dev demo serve check test test-arm64 soak bench clean

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt wheels.txt
	@$(PYTHON) -c 'import sys; sys.exit("rkllama needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME_EXTRAS)]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r wheels.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME_EXTRAS),dev]'
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

# As root, some ten minutes: the binding tests on aarch64 under qemu-user.
test-arm64:
	tests/arm64/run.sh

# A hundred kill -9 during pulls, and a file of 8 GB: a quarter of an hour, 8 GB of temporary space.
soak: install-dev
	$(BIN)/python -m services.model-store.tests.soak_pulls --kills 100 --gigabytes 8

bench: install-dev
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist build
