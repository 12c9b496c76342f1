# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

# Only a cluster that the command line names is used (make test KUBECONFIG=...), never the one that the shell happens to
# be logged in to.
ifneq ($(origin KUBECONFIG),command line)
unexport KUBECONFIG
endif

PYTHON ?= python3
venv := .cache/venv/bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## Print the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## Make .cache/venv and the collections beside it; does nothing when they are up to date
	@$(PYTHON) tools/make_venv.py dev
	@$(venv)/python tools/make_collections.py source

.PHONY: lock
lock: ## Write the newest versions of the tools to requirements/constraints.txt
	@$(PYTHON) tools/make_venv.py lock
