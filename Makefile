# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

# An existing cluster: make test KUBECONFIG=~/.kube/config
export KUBECONFIG

PYTHON ?= python3
export PYTHON

venv := .cache/venv/bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## Print the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## Make .cache/venv and the collections beside it; does nothing when they are up to date
	@tools/venv dev
	@tools/collections source

.PHONY: archive
archive: venv
	@tools/collections archive
