# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

# Only a cluster that the command line names is used (make test KUBECONFIG=...), never the one that the shell happens to
# be logged in to. What the event server reads of it, the API server's address and authority, touches none.
shell_kubeconfig := $(KUBECONFIG)
ifneq ($(origin KUBECONFIG),command line)
unexport KUBECONFIG
KUBECONFIG :=
endif

PYTHON ?= python3
venv := .cache/venv/bin
run := .cache/venv-run/bin
# Benches share helpers with the tests.
bench := PYTHONPATH=tests/cluster:tests/server:tests/browser $(venv)/python tests/bench
suites := lint sanity unit callback server browser outages live awx docs package molecule

.DEFAULT_GOAL := help

.PHONY: help
help: ## Print the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Copy between two directories that stand in for claims; KUBECONFIG=... copies between two real ones
	@$(PYTHON) tools/make_venv.py run
	@$(run)/python tools/make_collections.py archive
	@ANSIBLE_COLLECTIONS_PATH=.cache/collections ANSIBLE_HOME=.cache/ansible ANSIBLE_CALLBACK_RESULT_FORMAT=yaml \
		ANSIBLE_CALLBACKS_ENABLED=kubeferry.pvc.events ANSIBLE_DISPLAY_SKIPPED_HOSTS=false ANSIBLE_LOCALHOST_WARNING=false \
		ANSIBLE_INVENTORY_UNPARSED_WARNING=false $(if $(KUBECONFIG),K8S_AUTH_KUBECONFIG=$(abspath $(KUBECONFIG))) \
		$(run)/ansible-playbook kubeferry.pvc.demo $(if $(KUBECONFIG),-e demo_cluster=true)

.PHONY: serve
serve: ## Run the event server in the foreground; KUBEFERRY_PORT=... is its port, KUBECONFIG=... names its cluster
	@$(PYTHON) tools/make_venv.py run
	@KUBECONFIG="$(shell_kubeconfig)" KUBEFERRY_HISTORY="$${KUBEFERRY_HISTORY:-.cache/events/history.db}" \
		PYTHONPATH=roles/event_server/files $(run)/python -m kubeferry_events

.PHONY: test
test: venv ## Run every check; KUBECONFIG=... uses a cluster of yours in place of a new one
	@$(venv)/python tests/run.py

.PHONY: $(suites)
lint: ## Check style, types, headers, playbooks and changelog
sanity: ## Run ansible-test sanity
unit: ## Run the unit tests
callback: ## Run the events callback in real playbooks, with each ansible-core that has a Python here
server: ## Test the event server with a real redis-server and cluster
browser: ## Test the event page in a real Chromium
outages: ## Take parts of a real cluster away from under copies
live: ## Kill playbooks on a real cluster, and ask them for what can't be
awx: ## Run the sample project for AWX under ansible-runner on a real cluster
docs: ## Run every command of the documentation
package: ## Let Galaxy's importer, antsibull-docs and ansible-builder look at the collection
molecule: ## Run the scenarios on a real cluster; SCENARIO=... runs one
$(suites): venv
	@$(venv)/python tests/run.py $@

.PHONY: matrix
matrix: venv ## Copy with each supported ansible-core, Python and Kubernetes client; a test run takes the oldest
	@KUBEFERRY_MATRIX=all $(venv)/python tests/run.py matrix

.PHONY: docsite images
docsite: venv ## Build the documentation site into build/docsite
	@$(PYTHON) tools/make_venv.py publish
	@$(venv)/python tools/make_collections.py archive
	@$(venv)/pytest -q tests/package -k site
	@echo build/docsite/build/html/index.html
images: browser ## Copy those screenshots of the browser tests to docs/images that README shows
	@cp $(addprefix build/screenshots/,$(notdir $(wildcard docs/images/*.png))) docs/images/

.PHONY: bench
bench: venv ## Measure beside peers, as ratios in the same run; KUBECONFIG=... uses a cluster of yours
	@$(venv)/python tools/make_collections.py archive
	@$(if $(KUBECONFIG),,tests/cluster/cluster up)
	@KUBECONFIG=$(abspath $(or $(KUBECONFIG),.cache/cluster/kubeconfig-copier)) $(bench)/copying.py
	@$(if $(KUBECONFIG),,$(bench)/routes.py)
	@$(bench)/scale.py
	@$(bench)/callback_overhead.py
	@$(bench)/callback_overhead.py --modules
	@$(bench)/events.py

.PHONY: bench-fleet
bench-fleet: venv ## Migrate 200 claims in one run on the project's own cluster; CLAIMS=... is another number
	@$(venv)/python tools/make_collections.py archive
	@tests/cluster/cluster up
	@$(bench)/fleet.py --claims $(or $(CLAIMS),200)

.PHONY: cluster cluster-down
cluster: ## Start a real Kubernetes for the tests (root on Linux); NODES=2 gives it a second node
	@tests/cluster/cluster up --nodes $(or $(NODES),1)
cluster-down: ## Stop it
	@tests/cluster/cluster down

.PHONY: venv
venv: ## Make .cache/venv and the collections beside it; does nothing when they are up to date
	@$(PYTHON) tools/make_venv.py dev
	@$(venv)/python tools/make_collections.py source

.PHONY: lock
lock: ## Write the newest versions of the tools to requirements/constraints.txt
	@$(PYTHON) tools/make_venv.py lock

.PHONY: changelog
changelog: venv ## Write CHANGELOG.rst for the version in galaxy.yml from changelogs/fragments
	@PATH="$(CURDIR)/$(venv):$$PATH" antsibull-changelog release --update-existing --reload-plugins

.PHONY: build
build: venv ## Build the collection's archive into build/
	@$(venv)/ansible-galaxy collection build --force --output-path build .

.PHONY: clean
clean: ## Remove build/ and .cache/ (a running cluster is stopped first)
	@if [ -d .cache/cluster ]; then tests/cluster/cluster down; fi
	@rm -rf build .cache
