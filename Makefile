# SecureCloud. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
COLLECTION := collections/ansible_collections/trend/securecloud
WHEELS := $(COLLECTION)/files/wheels
# A file's tests stay together: they share servers.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/build/ansible
export PYTHONDONTWRITEBYTECODE := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# --- environment ----------------------------------------------------------------------------

.PHONY: venv packages
packages: # Debian packages that the demo and the tests need; asks before it uses sudo
	@tools/packages.sh

.PHONY: test-packages
test-packages: packages # what only the tests need
	@tools/packages.sh postgresql xfsprogs age swtpm tpm2-tools

venv: $(VENV)/.ready ## create .venv from constraints.txt

$(VENV)/.ready: constraints.txt requirements-dev.txt protocol/pyproject.toml audit/pyproject.toml agent/pyproject.toml server/pyproject.toml | packages
	@echo "== creating $(VENV) from constraints.txt (about a minute)"
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "SecureCloud needs Python 3.11 or newer")'
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	@touch $@

# --- build ----------------------------------------------------------------------------------

.PHONY: wheels wheelhouse collection
wheels: $(VENV)/.ready ## build our four wheels into the collection's files/
	@tools/wheels.sh $(WHEELS)

wheelhouse: wheels ## build/wheelhouse/{agent,server}: our wheels and all they need, for hosts without internet
	@tools/wheelhouse.sh $(WHEELS) build/wheelhouse

collection: wheels ## build/trend-securecloud-*.tar.gz, which carries our wheels
	@mkdir -p build
	@$(BIN)/ansible-galaxy collection build --force --output-path build $(COLLECTION)

# --- demo -----------------------------------------------------------------------------------

.PHONY: demo demo-stop
demo: wheels ## the main job on this machine: install, register, and the four endings
	@$(BIN)/python -m demo

demo-stop: ## stop what the demo started
	@if test -x $(BIN)/python; then $(BIN)/python -m demo --stop; else python3 -m demo --stop; fi

# --- the lab: virtual machines that boot -----------------------------------------------------

.PHONY: lab lab-packages lab-ssh lab-down
lab-packages: packages # what the lab's emulator and image need
	@tools/packages.sh qemu-system-x86 qemu-utils mmdebstrap socat openssh-client ovmf swtpm

lab: $(VENV)/.ready | lab-packages ## start three virtual machines: server, agent1, agent2
	@$(BIN)/python -m lab up
	@echo "Next: make wheelhouse && $(BIN)/ansible-playbook -i inventories/lab playbooks/site.yml"

lab-ssh: ## open a shell on a machine of the lab: make lab-ssh NAME=agent1
	@$(BIN)/python -m lab ssh $(NAME)

lab-down: ## switch the lab off and remove it; the image stays
	@$(BIN)/python -m lab down

MITOGEN = $(shell $(BIN)/python -c 'import ansible_mitogen; print(*ansible_mitogen.__path__)' 2>/dev/null)

SCENARIOS = $(notdir $(patsubst %/,%,$(dir $(wildcard molecule/*/molecule.yml))))

.PHONY: molecule
molecule: export ANSIBLE_STRATEGY_PLUGINS = $(MITOGEN)/plugins/strategy
molecule: export ANSIBLE_STRATEGY = mitogen_linear
molecule: wheelhouse | lab-packages ## from blank virtual machines to volumes that open at boot
	@for scenario in $(SCENARIOS); do \
	    echo "== molecule: $$scenario" && tools/molecule.sh test --scenario-name $$scenario || exit; \
	done

# --- checks ---------------------------------------------------------------------------------

.PHONY: test lint types layers unit integration sanity galaxy
test: lint types layers unit integration sanity galaxy ## everything that CI runs
	@echo "== make test: all targets passed"

lint: $(VENV)/.ready ## ruff, ansible-lint, changelog and documentation lints, house rules
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/ansible-lint -q --offline
	@cd $(COLLECTION) && $(CURDIR)/$(BIN)/antsibull-changelog lint
	@cd $(COLLECTION) && $(CURDIR)/$(BIN)/antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .
	@$(BIN)/python -m pytest -q tests/house

types: $(VENV)/.ready ## mypy --strict
	@echo "== types"
	@$(BIN)/mypy protocol/src audit/src agent/src server/src lab

layers: $(VENV)/.ready ## import-linter contracts
	@echo "== layers"
	@$(BIN)/lint-imports

unit: $(VENV)/.ready | test-packages ## unit and property tests of all parts
	@echo "== unit"
	@for part in protocol audit agent server; do \
	  echo "-- $$part"; $(PYTEST) $$part/tests || exit 1; done
	@echo "-- collection"; $(BIN)/python -m pytest -q $(COLLECTION)/tests/unit

integration: wheels | test-packages ## the parts together: real server over TLS, real agent, real playbooks
	@echo "== integration"
	@$(PYTEST) tests --ignore=tests/house --ignore=tests/boot

sanity: wheels ## ansible-test sanity
	@echo "== sanity"
	@tools/sanity.sh $(COLLECTION)

galaxy: collection ## install the built collection elsewhere and read its documentation there
	@echo "== galaxy"
	@tools/galaxy_check.sh

.PHONY: bench
bench: $(VENV)/.ready ## cold key releases beside OpenBao; writes benchmarks/out/release.json
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -r benchmarks/requirements.txt
	@$(BIN)/python -m benchmarks.release

.PHONY: bench-overhead
bench-overhead: $(VENV)/.ready ## cold key releases with and without audit and keystore; writes benchmarks/out/overhead.json
	@$(BIN)/python -m benchmarks.overhead

.PHONY: bench-policy
bench-policy: $(VENV)/.ready ## a policy of ten rules beside Cedar; writes benchmarks/out/policy.json
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -r benchmarks/requirements.txt
	@$(BIN)/python -m benchmarks.policy

.PHONY: bench-replay
bench-replay: $(VENV)/.ready ## a draft policy replayed on a fleet of 1,000; writes benchmarks/out/replay.json
	@$(BIN)/python -m benchmarks.replay

.PHONY: bench-audit
bench-audit: $(VENV)/.ready ## a million audit events verified, exported and verified again; writes benchmarks/out/audit.json
	@$(BIN)/python -m benchmarks.audit

.PHONY: bench-boot
bench-boot: export ANSIBLE_STRATEGY_PLUGINS = $(MITOGEN)/plugins/strategy
bench-boot: export ANSIBLE_STRATEGY = mitogen_linear
bench-boot: wheelhouse | lab-packages ## network up to mounted volume beside clevis; writes benchmarks/out/boot.json
	@tools/packages.sh tang
	@$(BIN)/python -m benchmarks.boot

# --- cleaning -------------------------------------------------------------------------------

.PHONY: clean lab-stop
lab-stop:
	@if test -x $(BIN)/python && test -d build/lab/machines; then $(BIN)/python -m lab down; fi

clean: demo-stop lab-stop ## remove every trace: demo, builds, caches and .venv
	@rm -rf .demo build dist $(VENV) benchmarks/out $(WHEELS) \
	  $(COLLECTION)/files/constraints.txt $(COLLECTION)/tests/output \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .ansible
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
