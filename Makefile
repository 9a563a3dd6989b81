# Isotherm's commands. Each sets up what it needs first; nothing here asks a question.
# Tests run in three processes, since they wait for brokers and boards more than they compute; WORKERS=0 runs them in one.
# Knows no machine's paths: PYTHON names the interpreter to start from, MICROPYTHON and ISOTHERM_TRACES are passed on.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak bench check install uninstall lock sbom audit brokers clean

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

EXTRA ?= host

setup: ## Install what the host tools need: .venv, mosquitto, MicroPython, umqtt.simple (EXTRA=cloud: the lake as well)
	@$(PYTHON) host_tools/bootstrap.py $(EXTRA)

demo: setup ## Run boards, broker, gateway and receiver for a minute, and reconcile (ARGS="--boards 10")
	@$(BIN)/isotherm demo $(ARGS)

test: ## Run the checks and all tests (ISOTHERM_TRACES=folder adds the runs on recorded traces)
	@$(PYTHON) host_tools/bootstrap.py test
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

soak: ## Run the long fault campaigns, which print their seeds and ledgers (ARGS="-k board")
	@$(PYTHON) host_tools/bootstrap.py test
	@$(BIN)/python -m pytest -m soak -s --timeout 21600 $(ARGS)

bench: ## Measure the whole path here, median of five (BENCH_RUNS=1 BENCH_ROWS_MILLION=10 ARGS="--only drain --json FILE")
	@$(PYTHON) host_tools/bootstrap.py test
	@PYTHONPATH=.:firmware $(BIN)/python -m tests.bench $(ARGS)

check: ## Run ruff and mypy
	@$(PYTHON) host_tools/bootstrap.py test
	@status=0; $(BIN)/python -m ruff check . || status=1; $(BIN)/python -m mypy || status=1; exit $$status

# DESTDIR for packages; DEPENDENCIES=no when paho-mqtt, urllib3 and click come from elsewhere. PI: what the pins of a
# Raspberry Pi need besides; auto is yes on a 64-bit one.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
DEPENDENCIES ?= yes
PI ?= auto
INSTALL = $(PYTHON) gateway/system/install.py --prefix "$(PREFIX)" --sysconfdir "$(SYSCONFDIR)" --destdir "$(DESTDIR)"

install: ## Install the gateway and its systemd unit (DESTDIR, PREFIX, SYSCONFDIR, DEPENDENCIES=no, PI=yes|no)
	@$(INSTALL) --dependencies "$(DEPENDENCIES)" --pi "$(PI)" install

uninstall: ## Remove the gateway; configuration and readings stay
	@$(INSTALL) uninstall

# One resolution for all, so that a package has one version in all: the largest first, which binds the others.
LOCK = $(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --custom-compile-command "make lock" pyproject.toml

lock: ## Resolve the five locks of dependencies anew (needs the network)
	@$(PYTHON) host_tools/bootstrap.py test
	@$(BIN)/python -m pip install --quiet uv==0.13.9
	@$(LOCK) --upgrade --extra build --extra zstd --extra terminal --extra host --extra cloud --extra test -o tests/requirements.lock
	@$(LOCK) --upgrade -c tests/requirements.lock --extra build --extra zstd --extra terminal --extra host -o host_tools/requirements.lock
	@$(LOCK) --upgrade -c tests/requirements.lock --extra build --extra zstd --extra terminal --extra host --extra cloud -o host_tools/requirements-cloud.lock
	@$(LOCK) --upgrade -c tests/requirements.lock --extra build --extra zstd --extra terminal -o gateway/requirements.lock
	@$(LOCK) --upgrade -c tests/requirements.lock --extra build --extra zstd --extra terminal --extra pi -o gateway/requirements-pi.lock

sbom: ## Write the bill of materials, CycloneDX (ARGS=FILE)
	@$(PYTHON) host_tools/sbom.py $(ARGS)

audit: ## Ask what weaknesses the locked packages are known for (needs the network)
	@$(PYTHON) host_tools/audit.py $(ARGS)

brokers: ## Unpack newer brokers into .tools, for MOSQUITTO=PATH (needs the network and Debian)
	@$(PYTHON) -c "import sys; sys.path.insert(0, '.'); from host_tools.setup.brokers import main; sys.exit(main())"

clean: ## Remove what set-up and tools made: .venv, .tools, caches
	@rm -rf .venv .tools build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name .git -prune -o -type d -name __pycache__ -exec rm -rf {} +
