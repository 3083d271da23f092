# The project's commands. Each sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
RUNS := .venv/.runs
READY := .venv/.ready
# Where `make install` puts the environment, if not into /opt/hmret; ROOT stands before that and all other paths.
PREFIX ?=
ROOT ?=
LOCK := packaging/development.lock
REQUIREMENTS := packaging/requirements.lock
NATIVE := packaging/build_native.py $(wildcard src/hmret/disk/_*.c)

.PHONY: demo install uninstall systemd-test realfs test test-newest prove check check-fast check-pure coverage bench bench-full timelapse simulate explore mutations openapi format lock clean

demo: $(RUNS)
	$(BIN)/python -m hmret demo $(DEMO)

# For a host: an environment of its own, the command, the unit, completions, an example of the settings.
install uninstall:
	PREFIX='$(PREFIX)' ROOT='$(ROOT)' PYTHON='$(PYTHON)' sh packaging/install.sh $@

# The same in files to carry to a host, in dist/. TOOLS is what builds them, by version and hash.
TOOLS := .venv/.tools
BUILD := .venv/tools/bin/python
DIST := dist

.PHONY: wheel pyz man deb deb-% image image-test sdist release reproducible ways-in test-pythons
wheel: $(TOOLS)
	rm -f $(DIST)/hmret-*.whl
	$(BUILD) -m hatchling build -t wheel -d $(DIST)

pyz: wheel
	$(BUILD) packaging/one_file.py $(DIST)/hmret-*.whl $(DIST)/hmret.pyz

# The Debian package of the release that this runs on; deb-12, deb-13: of that release, in a root that debootstrap makes.
deb:
	$(PYTHON) packaging/deb.py . $(DIST)

deb-%:
	$(PYTHON) packaging/deb.py . $(DIST) $*

# The image localhost/hmret, without a network, and an archive of it. BASE: an image with a Python; without, Debian 12.
image: pyz
	$(PYTHON) packaging/image.py build $(BASE)

image-test:
	$(PYTHON) packaging/image.py test

# All of a release in dist/, with a bill of materials and sums. What this machine cannot build is named as skipped.
sdist: $(TOOLS)
	rm -f $(DIST)/hmret-*.tar.gz
	$(BUILD) -m hatchling build -t sdist -d $(DIST)

release:
	rm -rf $(DIST)
	$(MAKE) sdist pyz deb-12 deb-13 image
	$(PYTHON) packaging/release.py

# sdist, wheel and one file have the same bytes when they are built again.
reproducible: $(TOOLS)
	rm -rf build/again
	$(MAKE) sdist pyz
	$(MAKE) sdist pyz DIST=build/again
	for file in build/again/*; do cmp $$file $(DIST)/$${file##*/} || exit 1; done

# Each way in, from nothing on a bare Debian to a plan; root only. WAYS="wheel pyz": only those.
ways-in:
	$(PYTHON) packaging/ways_in.py $(WAYS)

# Manual pages, in build/man.
man: $(RUNS)
	rm -rf build/man
	$(BIN)/python packaging/man_pages.py build/man

# The documents as a site with search, which is read from a folder, without a server: build/site/index.html. Warnings and
# links that lead nowhere are errors. docs-links asks for each link that leads elsewhere, where there is a network.
SITE := build/site
DOCS := .venv/.docs
.PHONY: docs docs-links
docs: $(DOCS)
	PYTHONPATH=.venv/docs $(BIN)/python packaging/documents.py $(SITE)

docs-links: docs
	$(BIN)/python packaging/document_checks.py --ask $(SITE)

# The service under a real systemd, in a root that debootstrap makes; only root can, elsewhere it says why not.
# SYSTEMD_TEST: --only WORDS, --way package, --broken (each check on a service with a fault that it has to notice).
SYSTEMD_TEST ?=
systemd-test:
	cd tests && $(PYTHON) -m systemd $(SYSTEMD_TEST)

# The promises on real file systems, with faults, power cuts and open disks; only root can. Some ten minutes.
# REALFS: what it is told, `--part "power cuts"` or `--list` say; CUTS: power cuts for each of their checks; SOAK: seconds
# that a writer at full speed runs.
realfs: $(READY)
	cd tests && ../$(BIN)/python -m realfs $(REALFS)

# What a test compiles, or one of its processes, is not compiled again by the next.
unexport PYTHONDONTWRITEBYTECODE

# Twice as many at a time as there are processors: many tests wait for other processes, such as members of etcd.
WORKERS ?= $(shell echo $$(( 2 * $$(nproc) )))

test: $(READY)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

# The same with all of each long proof, then the seeds of the simulation, the explorer and the mutations; some hours.
prove: $(READY)
	HMRET_PROVE=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal
	$(MAKE) simulate explore mutations

check: check-fast test

check-fast: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src tests benchmarks studies examples packaging
	$(BIN)/lint-imports
	PYTHONPATH=tests $(BIN)/python -m mutations.check

# The tests of the disk, of the actors and of what the outside sees, without the native core.
check-pure: $(READY)
	HMRET_NATIVE=0 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal tests/disk tests/actors tests/outside tests/test_against_naive.py

coverage: $(READY)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --cov --cov-report=term-missing

# Seeds of the simulation, from:to; a failing one is replayed by its number.
SEEDS ?= 0:1000
simulate: $(READY)
	cd tests && ../$(BIN)/python -m simulation --seeds $(SEEDS)

# Every interleaving of the fleet's protocol, larger than in the tests, and each mutant of it; some ten minutes.
# EXPLORE: what it is told, `--steps 5000000` of each large scenario, or words of their names.
explore: $(READY)
	cd tests && ../$(BIN)/python -m fleet.exploring $(EXPLORE)

mutations: $(READY)
	PYTHONPATH=tests $(BIN)/python -m mutations.run

bench: $(READY)
	$(BIN)/python benchmarks/run.py --images 20000

bench-full: $(READY)
	$(BIN)/python benchmarks/run.py --images 100000 --full

# Compares policies on a model of a host, and writes table and plot of docs/POLICY.md anew; some ten minutes.
timelapse: $(READY)
	$(BIN)/python studies/timelapse.py --days 90 --seed 1 --runs 5 \
		--json docs/timelapse.json --markdown docs/POLICY.md --plot docs/timelapse.svg

# Writes the description of the control API anew.
openapi: $(READY)
	$(BIN)/python -m hmret.api.openapi > docs/openapi.json

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What the demonstration needs, and then what developing does. An environment that was cut off while it was made is made
# again.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(LOCK)

$(RUNS): pyproject.toml $(LOCK) $(NATIVE)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || { rm -rf .venv; false; }
	$(INSTALL) -e '.[server]'
	touch $@

$(READY): $(RUNS)
	$(INSTALL) -e '.[dev]'
	touch $@

$(TOOLS): packaging/tools.lock
	$(PYTHON) -m venv --clear .venv/tools || { rm -rf .venv/tools; false; }
	$(BUILD) -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# Beside the libraries of $(RUNS), in a folder of their own: the reference is made by an interpreter that has hmret.
$(DOCS): packaging/docs.lock $(RUNS)
	rm -rf .venv/docs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target .venv/docs --require-hashes -r $<
	touch $@

# The tests with the newest of what pyproject.toml admits, by whichever PYTHON, in an environment of their own.
TESTS ?= tests
test-newest:
	rm -rf .venv/newest && $(PYTHON) -m venv .venv/newest
	.venv/newest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	.venv/newest/bin/python -m pip list --disable-pip-version-check
	.venv/newest/bin/python -m pytest -q -n $(WORKERS) --dist worksteal $(TESTS)

# The tests on each Python from 3.11 to 3.14 that is here, else on Debian's own; TESTS as above.
test-pythons:
	$(PYTHON) packaging/on_each_python.py $(TESTS)

# Writes the versions that development installs anew: the newest that pyproject.toml admits; and those of them, with their
# hashes, that every way of installation has, of what builds them, and of what builds the documents.
COMPILE := .venv/lock/bin/uv pip compile --quiet --python-platform x86_64-unknown-linux-gnu --python-version 3.11 \
	--generate-hashes --no-header --no-annotate
lock:
	rm -rf .venv/lock && $(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	head -n 1 $(LOCK) > $(LOCK).new
	.venv/lock/bin/python -m pip freeze --disable-pip-version-check --exclude-editable >> $(LOCK).new
	mv $(LOCK).new $(LOCK)
	.venv/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	head -n 1 $(REQUIREMENTS) > $(REQUIREMENTS).new
	$(COMPILE) --extra server -c $(LOCK) pyproject.toml >> $(REQUIREMENTS).new
	mv $(REQUIREMENTS).new $(REQUIREMENTS)
	head -n 1 packaging/tools.lock > packaging/tools.lock.new
	$(COMPILE) packaging/tools.in >> packaging/tools.lock.new
	mv packaging/tools.lock.new packaging/tools.lock
	head -n 1 packaging/docs.lock > packaging/docs.lock.new
	$(COMPILE) -c $(LOCK) packaging/docs.in >> packaging/docs.lock.new
	mv packaging/docs.lock.new packaging/docs.lock

clean:
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage htmlcov
