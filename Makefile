# What one does here, by name. `make help` lists it; PYTHON=python3.12 chooses another Python for the set-up.
PYTHON ?= python3
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
# Builds images: docker, podman or buildah.
ENGINE ?= docker
# How long the texts are that are learned from in little memory; the longest takes half an hour and 6 GB of room.
STEADY_MB ?= 20,200,2000

# Where `make llama` installs node-llama-cpp.
LLAMA := build/node-llama

.DEFAULT_GOAL := help
.PHONY: help setup demo check test slow faults docs site gallery picture bench base licences release packages pins image llama

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/set-up ## create .venv with everything installed, unless it is up to date

.venv/set-up: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## learn Shakespeare's sonnets for at most two minutes, then write (replaces runs/demo)
	rm -rf runs/demo
	$(BIN)/epigone train sample:sonnets --minutes 2 --out runs/demo
	$(BIN)/epigone write runs/demo --prompt "Shall I compare" --length 200
	@echo
	@echo "All about it is on one page: runs/demo/report.html. The model and its card are in runs/demo/model/."

check: setup ## style, types, spelling, and whether the generated pages are current
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python tools/docs.py --check

# Where Python is told to keep no compiled code, each of the processes would compile all of it again.
test: export PYTHONDONTWRITEBYTECODE =
test: setup ## the tests, without the slow ones, on as many cores as there are up to four
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

slow: setup ## the slow tests
	$(BIN)/python -m pytest -m slow

faults: setup ## the fault-injection tests; writes docs/dev/reliability.md
	rm -f build/reliability.json
	EPIGONE_STEADY_MB=$(STEADY_MB) $(BIN)/python -m pytest -m faults --rows
	$(BIN)/python tools/reliability.py

docs: setup ## write the generated pages of docs/ again
	$(BIN)/python tools/docs.py

site: setup ## build the documentation as a static site in build/site; fails on a dead link
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

gallery: setup ## train on each text of the gallery in DATA (../shared/data) and write docs/gallery.md and README.md
	$(BIN)/python tools/gallery.py $(if $(DATA),--data $(DATA)) --again
	$(BIN)/python tools/docs.py

picture: setup ## record the picture of README.md with TEXT (the sonnets); needs tmux
	$(BIN)/python tools/picture.py $(TEXT)

llama: setup ## compare exported GGUF files with llama.cpp itself (needs npm; 0.7 GB once, into build/)
	mkdir -p $(LLAMA)
	test -d $(LLAMA)/node_modules/node-llama-cpp || npm install --prefix $(LLAMA) --save-exact --ignore-scripts node-llama-cpp@3.21.1
	EPIGONE_NODE_LLAMA=$(CURDIR)/$(LLAMA) $(BIN)/python -m pytest -m slow tests/test_export_gguf.py

bench: setup ## measure epigone against others (TEXT=FILE: on that text); writes docs/dev/benchmarks.md
	$(BIN)/python tools/bench.py --write $(if $(TEXT),--text $(TEXT))

release: packages ## build, check and try the packages in clean environments, oldest and newest versions (TAG=v1.2.3: a final one)
	$(BIN)/python tools/release.py try

packages: setup ## build sdist and wheel of the last commit twice, into dist/, and check them
	$(BIN)/python tools/release.py build check

pins: setup ## write constraints-newest.txt again
	$(BIN)/python tools/release.py pins

image: ## build the container image (ENGINE=podman; ARGS="--build-arg ...")
	$(ENGINE) build -t epigone $(ARGS) .

licences: setup ## list the licences of what epigone needs; fails where one does not fit
	$(BIN)/python tools/licences.py

base: setup ## train the bundled base on DATA (tools/base_texts.py makes it) for MINUTES (600); goes on where it was
	$(BIN)/python tools/base.py runs/base --data $(DATA) --minutes $(or $(MINUTES),600)
