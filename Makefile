# Two commands do all the set-up: `make explore EXP=sparse_gnn` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
QUOTE = $(if $(1),$(2) '$(subst ','\'',$(1))')
RUN_OPTIONS = $(call QUOTE,$(ROOT),--root) $(call QUOTE,$(PROFILE),--profile) $(call QUOTE,$(SLOTS),--slots) \
	$(call QUOTE,$(MODE),--mode) \
	$(call QUOTE,$(LAUNCHER),--launcher) $(call QUOTE,$(SEED),--seed) $(call QUOTE,$(SCIENTIST),--scientist)

KNOWN := EXP ITERATIONS SCIENTIST PROFILE SLOTS MODE LAUNCHER SEED ROOT FRESH CODE FROM FILE BLOCK TURN WHOLE N NODE PYTHON BIN
GIVEN := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(v)))),$(v)))
ifneq ($(filter-out $(KNOWN) -%,$(GIVEN)),)
$(error nothing reads $(filter-out $(KNOWN) -%,$(GIVEN)); known are $(KNOWN))
endif

.DEFAULT_GOAL := help
.PHONY: help setup new report confirm replay conversation adopt demo explore resume status lint doctor test test-science bench parity check format schema clean need-exp

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16
	@echo "variables: EXP ITERATIONS SCIENTIST PROFILE SLOTS MODE LAUNCHER SEED ROOT FRESH CODE FROM FILE BLOCK TURN WHOLE N NODE"

setup: $(STAMP) ## build .venv from constraints.txt (done by the other targets when needed)

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $$(grep -m1 '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,data]'
	@touch $(STAMP)

need-exp:
	@$(if $(EXP),:,echo 'error: EXP is missing, for example: make explore EXP=sparse_gnn'; exit 2)

explore: need-exp $(STAMP) ## open or continue an exploration: EXP=sparse_gnn [ITERATIONS=12] [FRESH=1] [CODE=1] ...
	@$(BIN)/python -m orchestrator explore $(call QUOTE,$(EXP)) $(call QUOTE,$(ITERATIONS),--iterations) \
		$(if $(filter-out 0,$(FRESH)),--fresh) $(if $(filter-out 0,$(CODE)),--code) \
		$(call QUOTE,$(FROM),--from) $(RUN_OPTIONS)

resume: need-exp $(STAMP) ## continue to the total asked for last: EXP= [BLOCK=n: again from the end of block n]
	@$(BIN)/python -m orchestrator resume $(call QUOTE,$(EXP)) $(call QUOTE,$(BLOCK),--block) $(RUN_OPTIONS)

status: need-exp $(STAMP) ## tree, best, run in flight; restores memory.md, analysis.md, ucb_scores.txt: EXP=
	@$(BIN)/python -m orchestrator status $(call QUOTE,$(EXP)) $(call QUOTE,$(ROOT),--root)

report: need-exp $(STAMP) ## write report.html, self-contained: tree, metric, plots of the best nodes, memory: EXP=
	@$(BIN)/python -m orchestrator report $(call QUOTE,$(EXP)) $(call QUOTE,$(ROOT),--root)

confirm: need-exp $(STAMP) ## train the best again on N fresh seeds and N fresh draws, is it real?: EXP= [N=3]
	@$(BIN)/python -m orchestrator confirm $(call QUOTE,$(EXP)) $(call QUOTE,$(N),--runs) $(call QUOTE,$(ROOT),--root)

replay: need-exp $(STAMP) ## go through every turn again from recorded replies, no key: are the prompts the same?: EXP=
	@$(BIN)/python -m orchestrator replay $(call QUOTE,$(EXP)) $(call QUOTE,$(ROOT),--root)

conversation: need-exp $(STAMP) ## what was said to the model in a turn, and its replies: EXP= [TURN=n] [WHOLE=1]
	@$(BIN)/python -m orchestrator conversation $(call QUOTE,$(EXP)) $(call QUOTE,$(TURN),--turn) \
		$(if $(filter-out 0,$(WHOLE)),--whole) $(call QUOTE,$(ROOT),--root)

adopt: need-exp $(STAMP) ## a node's code edits as a patch: make -s adopt EXP= NODE=7 | git apply (prints, writes nothing)
	@$(if $(NODE),:,echo 'error: NODE is missing, for example: make adopt EXP=$(EXP) NODE=7' >&2; exit 2)
	@$(BIN)/python -m orchestrator adopt $(call QUOTE,$(EXP)) $(call QUOTE,$(NODE),--node) $(call QUOTE,$(ROOT),--root)

demo: $(STAMP) ## two short blocks with a scripted model on this machine: what a Claude-driven run looks like
	@$(BIN)/python -m orchestrator demo $(call QUOTE,$(ROOT),--root)

new: need-exp $(STAMP) ## make an exploration from another one: EXP=mine FROM=sparse_gnn
	@$(BIN)/python -m orchestrator new $(call QUOTE,$(EXP)) $(call QUOTE,$(FROM),--from)

lint: $(STAMP) ## what an instruction compiles to, and what stops it: EXP= or FILE=path.md
	@$(BIN)/python -m orchestrator lint $(call QUOTE,$(EXP)) $(call QUOTE,$(FILE),--file)

doctor: $(STAMP) ## what is missing before a start: packages, key, model, price, GPU, sandbox, disk, ...: [EXP=]
	@$(BIN)/python -m orchestrator doctor $(call QUOTE,$(EXP)) $(call QUOTE,$(ROOT),--root)

test: $(STAMP) ## all tests that need no GPU, network or key (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest -m 'not science and not slow and not live'

test-science: $(STAMP) ## slow recovery tests on real training, and the whole of the kill matrices
	$(BIN)/python -m pytest -m 'science or slow' --timeout 900

bench: $(STAMP) ## steps per second: dense path, rollouts by depth, message passing; then what a sandbox costs a run
	@$(BIN)/python -m trainers.bench
	@$(BIN)/python -m trainers.bench_recurrent
	@$(BIN)/python -m trainers.bench_inr
	@$(BIN)/python tools/bench_sandbox.py

parity: $(STAMP) ## retrain recorded results, with the old defect and without (15 to 20 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m trainers.parity

check: $(STAMP) ## format, lint, types, layers, sizes, links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/sizes.py
	$(BIN)/python tools/links.py

format: $(STAMP) ## rewrite the source in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schema: $(STAMP) ## regenerate trainers/schema.json from trainers/settings.py
	$(BIN)/python -m trainers schema

clean: ## remove caches (never results)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './explorations/*' -prune -exec rm -rf {} +
