# Tenure's commands, the same for people, tests and automation; `make help` lists them.
# Whatever a fresh Debian 12 with cargo, go, python3 and a C compiler lacks is installed or built by `packages` and `tools`.

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
TOOLS := $(TARGET)/tools
ETCD_3_7 := 3.7.3
ETCD_3_6 := 3.6.16
ETCD_3_4 := 3.4.23
# The etcd that tests use unless they ask for another version.
MAIN_ETCD := $(or $(ETCD),$(TOOLS)/etcd-$(ETCD_3_7)/etcd)
# By name and not by looking: in a fresh clone it is made after make has looked.
MAIN_ETCDCTL := $(if $(ETCD),$(or $(wildcard $(dir $(ETCD))etcdctl),etcdctl),$(TOOLS)/etcd-$(ETCD_3_7)/etcdctl)
# The linters of Python.
PYTHON := $(TOOLS)/python/bin
PYTHON_PACKAGE := bindings/python
PYTHON_FILES := $(wildcard benches/*.py examples/*.py examples/python/*.py packaging/*.py tests/*.py tests/install/*.py tests/tools/*.py tests/fuzz/*.py \
	$(PYTHON_PACKAGE)/*.py $(PYTHON_PACKAGE)/src/tenure/*.py $(PYTHON_PACKAGE)/tests/*.py)
GO_MODULES := $(dir $(wildcard tests/peer/go.mod bindings/go/go.mod examples/go/go.mod benches/go/go.mod))

# An etcd of the PATH is linked to, and is as old as it likes.
MAKEFLAGS += --check-symlink-times

export CARGO_TARGET_DIR := $(TARGET)
export TENURE_TOOLS := $(TOOLS)
export TENURE_WORKERS := $(TARGET)/examples
export RUFF_CACHE_DIR := $(TARGET)/ruff
export MYPY_CACHE_DIR := $(TARGET)/mypy
export PYTHONDONTWRITEBYTECODE := 1

SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock
RELEASE := $(TARGET)/release
DEBUG := $(TARGET)/debug
# The library that C programs are tested with, and further flags for them: `make sanitize` sets others.
LIBRARY_FOLDER := $(DEBUG)
CFLAGS := -O1 -g
EXAMPLES := $(wildcard examples/c/*.c)

.PHONY: install uninstall dist deb test-install test-cpp test-cpp-programs test-cpp-asan test-docs sanitized-library
.PHONY: test-go test-go-examples bench-check broken-engines workers close-races faults-figures
.PHONY: all libs header demo examples bench bench-scale test test-rust simulate test-c test-c-valgrind test-c-asan test-examples fmt lint fix sanitize packages
.PHONY: test-python test-python-processes test-wheel wheel
.PHONY: test-packages tools clean help
.DELETE_ON_ERROR:

## make: the release libraries target/release/libtenure.so and .a
all: libs

libs: $(RELEASE)/libtenure.so $(RELEASE)/libtenure.a

# One crate type at a time: an rlib among them silently turns link-time optimisation off.
$(RELEASE)/libtenure.so: $(SOURCES) | packages
	cargo rustc --locked --release --lib --crate-type cdylib
	ln -sf libtenure.so $(RELEASE)/libtenure.so.0
	touch $@

$(RELEASE)/libtenure.a: $(SOURCES) | packages
	cargo rustc --locked --release --lib --crate-type staticlib
	touch $@

$(DEBUG)/libtenure.so: $(SOURCES) | packages
	cargo build --locked --lib
	ln -sf libtenure.so $(DEBUG)/libtenure.so.0
	touch $@

$(DEBUG)/libtenure.a: $(SOURCES) | packages
	cargo rustc --locked --lib --crate-type staticlib
	touch $@

## make install PREFIX=/usr/local DESTDIR=: the libraries, the headers, and what pkg-config and CMake find them by
PREFIX := /usr/local
# Where libraries go, below the prefix: Debian's packages say lib/x86_64-linux-gnu.
LIB := lib
# The folder whose libraries are installed and packed.
INSTALLED := $(RELEASE)

install: $(INSTALLED)/libtenure.so $(INSTALLED)/libtenure.a
	@packaging/install.sh install '$(DESTDIR)' '$(PREFIX)' '$(LIB)' $(INSTALLED)

## make uninstall PREFIX=/usr/local DESTDIR=: removes what `make install` with the same settings has put there
uninstall:
	@packaging/install.sh uninstall '$(DESTDIR)' '$(PREFIX)' '$(LIB)' $(INSTALLED)

## make dist: the release archive, target/dist/tenure-VERSION-linux-ARCHITECTURE.tar.gz
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
DIST := $(TARGET)/dist
ARCHIVE := tenure-$(VERSION)-linux-$(shell uname -m)

dist: $(INSTALLED)/libtenure.so $(INSTALLED)/libtenure.a
	rm -rf $(DIST)/$(ARCHIVE)
	packaging/install.sh install $(DIST) /$(ARCHIVE) lib $(INSTALLED)
	cp -r README.md CHANGELOG.md docs $(DIST)/$(ARCHIVE)/share/doc/tenure/
	tar -C $(DIST) --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$${SOURCE_DATE_EPOCH:-$$(stat -c %Y CHANGELOG.md)} \
		-c $(ARCHIVE) | gzip -n >$(DIST)/$(ARCHIVE).tar.gz
	rm -r $(DIST)/$(ARCHIVE)

## make deb: Debian packages, in target/deb
MULTIARCH = $(shell $(CC) -print-multiarch)

DEB := $(TARGET)/deb

deb: $(INSTALLED)/libtenure.so $(INSTALLED)/libtenure.a
	rm -rf $(DEB)
	packaging/install.sh install $(DEB)/stage /usr lib/$(MULTIARCH) $(INSTALLED)
	DEB_COMPRESSION=$(DEB_COMPRESSION) packaging/debian.sh $(DEB)/stage lib/$(MULTIARCH) $(DEB)
	rm -r $(DEB)/stage

## make header: include/tenure.h and what else is generated from the sources
header: | packages
	TENURE_UPDATE=1 cargo test --locked --quiet --test header

## make demo: an election, start to end, of workers in C, Python and Go on an etcd of their own
demo: $(TARGET)/examples/release/worker $(TARGET)/examples/release/go-worker $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) env PYTHONPATH=bindings/python/src TENURE_LIBRARY=$(RELEASE)/libtenure.so \
		examples/demo.py --worker C=$< --worker 'Python=python3 examples/python/worker.py' --worker Go=$(word 2,$^) \
		--etcdctl $(MAIN_ETCDCTL)

$(TARGET)/examples/release/go-worker: GO_PREFIX = $(RELEASE)/go
$(TARGET)/examples/release/go-worker: $(RELEASE)/go/lib/libtenure.so $(wildcard examples/go/go.mod examples/go/worker/* bindings/go/*/* bindings/go/internal/*/*)
	cd examples/go && $(GO_ENV) go build -o $@ ./worker

## make examples: the programs of examples/c, in target/examples/release
examples: $(patsubst examples/c/%.c,$(TARGET)/examples/release/%,$(EXAMPLES))

COMPILE_EXAMPLE = $(CC) -std=c99 -Wall -Wextra -pedantic -Werror -O2 -pthread -Iinclude

$(TARGET)/examples/release/%: examples/c/%.c $(RELEASE)/libtenure.so
	@mkdir -p $(@D)
	$(COMPILE_EXAMPLE) -o $@ $< -L$(RELEASE) -ltenure -Wl,-rpath,$(RELEASE)

# A part is a target of this file; see tests/tools/summary.sh for what it may print.
TEST_PARTS := lint test-rust test-c test-c-valgrind test-c-asan test-cpp test-cpp-asan test-docs test-examples test-install \
	test-python test-python-processes test-wheel test-go test-go-examples

# These wait most of their time, so the others run meanwhile. What both lanes use is built before: two makes know nothing
# of each other.
WAITING_PARTS := test-rust test-model test-fuzz test-soak

## make test: every test; ends with "N passed, N failed"
test: test-packages tools workers
	@tests/tools/summary.sh $(TARGET)/test-logs $(WAITING_PARTS) -- $(filter-out $(WAITING_PARTS),$(TEST_PARTS))

# More threads than processors: most tests wait for a server.
test-rust: tools workers
	RUST_TEST_THREADS=8 cargo test --locked --no-fail-fast

## make faults-figures TIMES=20: how soon faults are noticed and leadership is taken over; docs/faults.md has the result
TIMES := 20
faults-figures: tools workers
	TENURE_FIGURES=$(TIMES) cargo test --locked --test faults -- --nocapture --test-threads=1 figures:: takes_over_from_a_killed \
		>$(TARGET)/faults-figures.log || { cat $(TARGET)/faults-figures.log; exit 1; }
	@grep -o 'figures: .*' $(TARGET)/faults-figures.log; grep '^test result' $(TARGET)/faults-figures.log

## make simulate SEEDS=10000 FROM=1: so many runs of the engine under random faults, on all cores; then a summary of what happened
SEEDS := 10000
FROM := 1
simulate: packages
	TENURE_SEEDS=$(SEEDS) TENURE_FROM=$(FROM) cargo test --locked --profile simulation --lib under_random_faults -- --nocapture --test-threads=1

## make broken-engines: whether the tests, mostly the simulation, find each of some forty bugs put into the engine on purpose; ten minutes
broken-engines: packages
	tests/broken_engines.py $(TARGET)/broken-engines

# Every file in tests/c is a program of its own, which finds an etcd in the variable ETCD_ENDPOINTS. planted.c is to
# fail: by it checker.sh sees whether valgrind and the sanitizer find what they should.
C_TESTS := $(patsubst tests/c/%.c,$(TARGET)/c/%,$(filter-out tests/c/planted.c tests/c/footprint.c,$(wildcard tests/c/*.c)))
# It measures the heap, of which valgrind and the sanitizers have one of their own.
FOOTPRINT := $(TARGET)/c/footprint

test-c: $(C_TESTS) $(FOOTPRINT) $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) tests/tools/programs.sh $(C_TESTS) $(FOOTPRINT)

# --as-needed: a program that loads the library itself is not linked with it. The header is tested as it is, so it is no
# prerequisite, which would make it anew; what it is made of is the library's.
$(TARGET)/c/%: tests/c/%.c tests/c/testing.h $(LIBRARY_FOLDER)/libtenure.so
	@mkdir -p $(@D)
	$(CC) -std=c11 -Wall -Wextra -Werror $(CFLAGS) -pthread -Iinclude -c -o $@.o $<
	$(CC) -pthread -o $@ $@.o -L$(LIBRARY_FOLDER) -Wl,--as-needed -ltenure -Wl,-rpath,$(LIBRARY_FOLDER) $(RUNTIME)

# "Possibly lost" is what only a pointer into its midst leads to, as with every hash table of Rust. --fair-sched: one
# thread runs at a time, and else those that never sleep keep the engine's from running, for minutes.
VALGRIND := valgrind --quiet --fair-sched=try --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
	--show-leak-kinds=definite --num-callers=30

## make close-races ROUNDS=100000: so many services whose ends all come at the same time, a tenth as many on etcd; no lease may be left
ROUNDS := 100000
close-races: $(TARGET)/c/lifecycle $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) sh -c '$(TARGET)/c/lifecycle $(ROUNDS) && \
		$(MAIN_ETCDCTL) --endpoints=$$ETCD_ENDPOINTS lease list | grep "^found 0 leases"'

test-c-valgrind: $(C_TESTS) $(TARGET)/c/planted $(MAIN_ETCD)
	WRAPPER='$(VALGRIND)' tests/tools/checker.sh $(TARGET)/c/planted
	TENURE_TEST_SLOWNESS=20 WRAPPER='$(VALGRIND)' tests/tools/with_etcd.py $(MAIN_ETCD) tests/tools/programs.sh $(C_TESTS)

# The address sanitizer is not in stable Rust's options, hence RUSTC_BOOTSTRAP; --target keeps it out of build scripts.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
SANITIZED = CARGO_TARGET_DIR=$(TARGET)/sanitize RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
SANITIZED_LIBRARY = $(TARGET)/sanitize/$(HOST)/debug
# Rust's, for the programs as well: in a child of fork(), gcc's (12) may wait for a lock that nobody holds.
SANITIZER = $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(HOST)/lib/librustc*_rt.asan.a)
SANITIZED_MAKE = $(MAKE) TARGET=$(TARGET)/sanitize TOOLS=$(TOOLS) LIBRARY_FOLDER=$(SANITIZED_LIBRARY) FOOTPRINT= \
	CFLAGS='$(CFLAGS) -fsanitize=address' CXXFLAGS='$(CXXFLAGS) -fsanitize=address' \
	RUNTIME='-Wl,--whole-archive $(SANITIZER) -Wl,--no-whole-archive -Wl,--export-dynamic -ldl -lrt -lm'

sanitized-library: | packages
	$(SANITIZED) cargo rustc --locked --target $(HOST) --lib --crate-type cdylib
	ln -sf libtenure.so $(SANITIZED_LIBRARY)/libtenure.so.0

test-c-asan: sanitized-library $(MAIN_ETCD)
	$(SANITIZED_MAKE) $(TARGET)/sanitize/c/planted
	tests/tools/checker.sh $(TARGET)/sanitize/c/planted $(SANITIZED_LIBRARY)/libtenure.so
	$(SANITIZED_MAKE) test-c

test-cpp-asan: sanitized-library $(MAIN_ETCD)
	$(SANITIZED_MAKE) test-cpp-programs

# The tests of tenure.hpp; values.cpp is what those see who build without exceptions.
CXXFLAGS := -O1 -g
CPP_WARNINGS := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
CPP_TESTS := $(TARGET)/cpp/calls $(TARGET)/cpp/values
$(TARGET)/cpp/values.o: private CPP_FLAGS := -fno-exceptions -fno-rtti

test-cpp: test-cpp-programs
	tests/cpp/header.sh $(TARGET)/cpp/header

test-cpp-programs: $(CPP_TESTS) $(MAIN_ETCD)
	@for program in $(CPP_TESTS); do tests/tools/with_etcd.py $(MAIN_ETCD) $$program --gtest_brief=1 || failed=1; done; [ -z "$$failed" ]

.SECONDARY: $(CPP_TESTS:=.o) $(TARGET)/cpp/main.o
$(TARGET)/cpp/%.o: tests/cpp/%.cpp tests/cpp/testing.hpp include/tenure.hpp | test-packages
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(CPP_WARNINGS) $(CXXFLAGS) $(CPP_FLAGS) -pthread -Iinclude -c -o $@ $<

$(CPP_TESTS): $(TARGET)/cpp/%: $(TARGET)/cpp/%.o $(TARGET)/cpp/main.o $(LIBRARY_FOLDER)/libtenure.so
	$(CXX) -pthread -o $@ $< $(TARGET)/cpp/main.o -L$(LIBRARY_FOLDER) -ltenure -lgtest -Wl,-rpath,$(LIBRARY_FOLDER) $(RUNTIME)

# The examples of every language with the library that is tested, the demo among them.
TESTED := $(TARGET)/examples/tested
TESTED_EXAMPLES := $(patsubst examples/c/%.c,$(TESTED)/c/%,$(EXAMPLES)) \
	$(patsubst examples/cpp/%.cpp,$(TESTED)/cpp/%,$(wildcard examples/cpp/*.cpp))
LINK_TESTED = -L$(LIBRARY_FOLDER) -ltenure -Wl,-rpath,$(LIBRARY_FOLDER)

test-examples: $(TESTED_EXAMPLES) $(MAIN_ETCD) | packages
	cargo build --locked --examples
	@ln -sfn $(DEBUG)/examples $(TESTED)/rust
	tests/tools/with_etcd.py $(MAIN_ETCD) env ETCDCTL=$(MAIN_ETCDCTL) TENURE_EXAMPLES=$(TESTED) tests/examples_test.py

$(TESTED)/c/%: examples/c/%.c $(LIBRARY_FOLDER)/libtenure.so
	@mkdir -p $(@D)
	$(COMPILE_EXAMPLE) -o $@ $< $(LINK_TESTED)

$(TESTED)/cpp/%: examples/cpp/%.cpp include/tenure.hpp $(LIBRARY_FOLDER)/libtenure.so | test-packages
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(CPP_WARNINGS) -O1 -pthread -Iinclude -o $@ $< $(LINK_TESTED)

# The programs that README.md and the pages in docs show, each compiled and run. Those in Rust are tests of the crate.
test-docs: $(LIBRARY_FOLDER)/libtenure.so $(MAIN_ETCD) | test-packages
	tests/tools/with_etcd.py $(MAIN_ETCD) env ETCDCTL=$(MAIN_ETCDCTL) LIBRARY_FOLDER=$(LIBRARY_FOLDER) tests/docs_test.py

# The library installed where Go's pkg-config finds it. CGO_LDFLAGS has the library's checksum: Go looks at none of a C
# library's files to see what is to be built again.
GO_PREFIX = $(LIBRARY_FOLDER)/go
GO_LIBRARY = $(GO_PREFIX)/lib/libtenure.so
GO_ENV = PKG_CONFIG_PATH=$(GO_PREFIX)/lib/pkgconfig GOFLAGS='-mod=readonly -buildvcs=false' \
	CGO_LDFLAGS="-O2 -g -Wl,-rpath,$(GO_PREFIX)/lib -Wl,--defsym=tenure_built_$$(cksum < $(GO_PREFIX)/lib/libtenure.a | cut -d' ' -f1)=0"

%/go/lib/libtenure.so: %/libtenure.so %/libtenure.a include/tenure.h $(wildcard packaging/*) | packages
	packaging/install.sh install $* /go lib $*
	touch $@

# All under the race detector; what crosses into C with every check of pointers that Go has; and with the library as a part
# of the program.
test-go: $(GO_LIBRARY) $(MAIN_ETCD)
	cd bindings/go && $(GO_ENV) ETCD=$(MAIN_ETCD) ETCDCTL=$(MAIN_ETCDCTL) ../../tests/tools/with_etcd.py $(MAIN_ETCD) \
		../../tests/tools/go_test.py -race ./... -- -tags tenure_static -run 'Example|Codes' ./... -- \
		--experiment=cgocheck2 -run 'Example|Leader|Observ|Clos|Wrong|Zero|Many|Resign' ./tenure ./leader

GO_EXAMPLES := $(TARGET)/examples/go

# Candidates in C and Go for the tests in tests/faults; the one in Python needs no building.
workers: $(TESTED)/c/worker $(GO_EXAMPLES)/worker

$(GO_EXAMPLES)/worker: $(GO_LIBRARY) $(wildcard examples/go/go.mod examples/go/worker/* bindings/go/*/* bindings/go/internal/*/*)
	cd examples/go && $(GO_ENV) go build -o $@ ./worker

# The program that docs/go.md begins with.
$(GO_EXAMPLES)/start.go: docs/go.md
	@mkdir -p $(@D)
	sed -n '/^package main$$/,/^```$$/{/^```/!p}' $< > $@

test-go-examples: $(GO_LIBRARY) $(TESTED)/c/worker $(GO_EXAMPLES)/start.go $(MAIN_ETCD)
	cd examples/go && $(GO_ENV) go build -o $(GO_EXAMPLES)/ ./...
	cd examples/go && $(GO_ENV) go build -o $(GO_EXAMPLES)/start $(GO_EXAMPLES)/start.go
	tests/tools/with_etcd.py $(MAIN_ETCD) env ETCDCTL=$(MAIN_ETCDCTL) TENURE_EXAMPLES=$(TESTED)/c \
		TENURE_GO_EXAMPLES=$(GO_EXAMPLES) tests/go_examples_test.py

# The library that the other tests use, so that a fresh machine needs no release build: `make test-install
# LIBRARY_FOLDER=$PWD/target/release` tests what is released.
test-install: $(LIBRARY_FOLDER)/libtenure.so $(LIBRARY_FOLDER)/libtenure.a
	MAKE='$(MAKE)' INSTALLED=$(LIBRARY_FOLDER) tests/install/install_test.py

# The package as it is in the tree, with the library that is tested.
PYTEST = env PYTHONPATH=$(PYTHON_PACKAGE)/src $(PYTHON)/python -m pytest -c $(PYTHON_PACKAGE)/pyproject.toml --rootdir $(PYTHON_PACKAGE)

PYTHON_TESTS := $(wildcard $(PYTHON_PACKAGE)/tests/test_*.py)
# Those that start many programs.
PROCESS_TESTS := $(patsubst %,$(PYTHON_PACKAGE)/tests/test_%.py,processes interrupts examples)

test-python: TESTS = $(filter-out $(PROCESS_TESTS),$(PYTHON_TESTS))
test-python-processes: TESTS = $(PROCESS_TESTS)
test-python test-python-processes: $(LIBRARY_FOLDER)/libtenure.so $(PYTHON)/ruff $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) env ETCD=$(MAIN_ETCD) ETCDCTL=$(MAIN_ETCDCTL) TENURE_LIBRARY=$(LIBRARY_FOLDER)/libtenure.so \
		$(PYTEST) $(TESTS)

## make wheel: target/wheel/tenure-*.whl, the Python package with the release library inside
WHEEL := $(TARGET)/wheel

# auditwheel finds out on which systems the library runs, and names the wheel after them.
wheel: $(RELEASE)/libtenure.so $(PYTHON)/ruff
	rm -rf $(WHEEL)
	TENURE_LIBRARY=$(RELEASE)/libtenure.so $(PYTHON)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--wheel-dir $(WHEEL)/any-linux $(PYTHON_PACKAGE)
	PATH=$(PYTHON):$$PATH $(PYTHON)/auditwheel repair --plat auto --wheel-dir $(WHEEL) $(WHEEL)/any-linux/*.whl
	rm -r $(WHEEL)/any-linux
	@ls -l $(WHEEL)/*.whl

test-wheel: wheel $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) env TENURE_WHEEL="$$(ls $(WHEEL)/*.whl)" TENURE_LIBRARY=$(RELEASE)/libtenure.so \
		$(PYTEST) $(PYTHON_PACKAGE)/tests/check_wheel.py

## make bench MEMBERS=1 ETCD_DATA=: Tenure beside etcd's Go package, its election RPC and bare requests
# On a cluster of so many members, whose data is in this folder, in memory by default; BENCH has further arguments.
MEMBERS := 1
ETCD_DATA :=
BENCH :=
BENCHES := $(TARGET)/benches
BENCH_FOLDER := $(TARGET)/bench

bench: $(BENCHES)/python/ready $(BENCHES)/tenure $(BENCHES)/bare $(BENCHES)/peer $(BENCHES)/events $(MAIN_ETCD)
	$(RUN_BENCH) benches/bench.py $(BENCH_FOLDER) --library $(RELEASE)/libtenure.so $(BENCH)

## make bench-scale: how it grows with elections and processes, beside etcd's Go package; a quarter of an hour
bench-scale: $(BENCHES)/python/ready $(BENCHES)/tenure $(BENCHES)/peer $(MAIN_ETCD)
	$(RUN_BENCH) benches/scale.py $(BENCH_FOLDER) $(BENCH)

RUN_BENCH = MEMBERS=$(MEMBERS) ETCD_DATA=$(ETCD_DATA) tests/tools/with_etcd.py $(MAIN_ETCD) env \
	PROGRAM_TENURE=$(BENCHES)/tenure PROGRAM_BARE=$(BENCHES)/bare PROGRAM_BARE_GO='$(BENCHES)/peer bare' \
	PROGRAM_GO='$(BENCHES)/peer concurrency' PROGRAM_V3ELECTION='$(BENCHES)/peer v3election' \
	PROGRAM_EVENTS_GO=$(BENCHES)/events PROGRAM_EVENTS_PYTHON='python3 benches/events.py' \
	PYTHONPATH=$(PYTHON_PACKAGE)/src TENURE_LIBRARY=$(RELEASE)/libtenure.so $(BENCHES)/python/bin/python

## make bench-check: what of the results of `make bench` misses its bound
bench-check:
	benches/bounds.py $(BENCH_FOLDER)/results.json

$(BENCHES)/python/ready: benches/requirements.txt
	python3 -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(BENCHES)/tenure: benches/tenure.c $(RELEASE)/libtenure.so
	@mkdir -p $(@D)
	$(CC) -std=c11 -Wall -Wextra -Werror -O2 -pthread -Iinclude -o $@ $< -L$(RELEASE) -ltenure -Wl,-rpath,$(RELEASE)

$(BENCHES)/bare: benches/bare.rs Cargo.lock | packages
	@mkdir -p $(@D)
	cargo build --locked --release --config profile.release.opt-level=3 --example bare
	cp $(RELEASE)/examples/bare $@

$(BENCHES)/peer: $(wildcard benches/go/peer/*.go benches/go/go.mod)
	cd benches/go && go build -buildvcs=false -o $@ ./peer

$(BENCHES)/events: GO_PREFIX = $(RELEASE)/go
$(BENCHES)/events: $(RELEASE)/go/lib/libtenure.so $(wildcard benches/go/events/*.go benches/go/go.mod bindings/go/*/* bindings/go/internal/*/*)
	cd benches/go && $(GO_ENV) go build -o $@ ./events

## make lint: formatting and lints, changing nothing
lint: $(PYTHON)/ruff $(GO_LIBRARY) | packages
	cargo fmt --check || { echo "run: make fmt"; exit 1; }
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml || { echo "run: make fmt"; exit 1; }
	cargo clippy --locked --all-targets -- -D warnings || { echo "some are repaired by: make fix"; exit 1; }
	@unformatted=$$(gofmt -l $(GO_MODULES) </dev/null); [ -z "$$unformatted" ] || { echo "$$unformatted: run make fmt"; exit 1; }
	for module in $(GO_MODULES); do (cd $$module && $(GO_ENV) go vet ./...) || exit 1; done
	$(PYTHON)/ruff format --check . || { echo "run: make fmt"; exit 1; }
	$(PYTHON)/ruff check .
	tests/broken_pieces.py
	MYPYPATH=benches:examples:packaging:$(PYTHON_PACKAGE)/src:$(PYTHON_PACKAGE)/tests:tests/tools $(PYTHON)/mypy --config-file tests/tools/mypy.ini $(PYTHON_FILES)

## make fmt: formats the sources
fmt: $(PYTHON)/ruff
	cargo fmt
	cargo fmt --manifest-path tests/fuzz/Cargo.toml
	$(if $(GO_MODULES),gofmt -w $(GO_MODULES))
	$(PYTHON)/ruff format .

## make fix: repairs what can be repaired by itself: lints, formatting, generated files
fix: $(PYTHON)/ruff | packages
	cargo clippy --locked --all-targets --fix --allow-dirty --allow-staged
	$(PYTHON)/ruff check --fix .
	$(MAKE) header fmt

## make sanitize: the Rust, C, C++ and Python tests under the address and leak sanitizers
sanitize: test-packages tools workers
	$(SANITIZED) cargo test --locked --target $(HOST) --lib --tests --no-fail-fast
	$(MAKE) test-c-asan test-cpp-asan test-python-asan

# The library's threads under loom, which runs the real code in every order of its threads' steps; see src/sync/.
# LOOM_MAX_PREEMPTIONS=3 looks deeper than the bound that each model has.
TEST_PARTS += test-model test-python-asan test-fuzz
.PHONY: test-model model broken-models test-python-asan fuzz-programs test-fuzz fuzz test-tsan
MODEL = CARGO_TARGET_DIR=$(TARGET)/model tests/tools/model.sh

test-model: | packages
	$(MODEL) models:: -- --nocapture

## make model PREEMPTIONS=4: the same, deeper; minutes
PREEMPTIONS := 4
model: | packages
	LOOM_MAX_PREEMPTIONS=$(PREEMPTIONS) $(MODEL) models:: -- --nocapture

## make broken-models: whether the models find each of some bugs that are put into the threads' code on purpose
broken-models: packages
	tests/broken_models.py $(TARGET)/broken-models

# Rust's runtime as a library to load first: it comes as an archive for programs, and a library has no part that runs
# before all others.
$(TARGET)/sanitize/runtime.so: $(SANITIZER)
	@mkdir -p $(@D)
	cp $< $@.a
	ar d $@.a asan_preinit.cpp.o
	$(CC) -shared -o $@ -Wl,--whole-archive $@.a -Wl,--no-whole-archive -ldl -lrt -lm -lpthread

# Without the tests that have a compiler make other libraries, or start many programs.
test-python-asan: TESTS = $(filter-out $(PROCESS_TESTS) %/test_library.py,$(PYTHON_TESTS))
test-python-asan: sanitized-library $(TARGET)/sanitize/runtime.so $(PYTHON)/ruff $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) env ETCD=$(MAIN_ETCD) ETCDCTL=$(MAIN_ETCDCTL) TENURE_LIBRARY=$(SANITIZED_LIBRARY)/libtenure.so \
		$(PYTHON)/python tests/tools/sanitized_python.py $(TARGET)/sanitize/runtime.so $(PYTEST) $(TESTS)

# libFuzzer wants the coverage of all code; like the sanitizers' options, that of rustc is not stable.
FUZZ_FLAGS := -Zsanitizer=address --cfg fuzzing -Cforce-frame-pointers=yes -Cpasses=sancov-module \
	-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_TARGETS := abi answers options
FUZZ = tests/fuzz/run.py --programs $(TARGET)/fuzz/$(HOST)/debug --folder $(TARGET)/fuzz/found

fuzz-programs: | test-packages
	cd tests/fuzz && CARGO_TARGET_DIR=$(TARGET)/fuzz RUSTC_BOOTSTRAP=1 RUSTFLAGS='$(FUZZ_FLAGS)' cargo build --locked --target $(HOST)

test-fuzz: fuzz-programs
	$(FUZZ) --seconds 10 $(FUZZ_TARGETS)

## make fuzz MINUTES=60: fuzzes each of FUZZ_TARGETS that long; what it finds is in target/fuzz/found
MINUTES := 60
fuzz: fuzz-programs
	$(FUZZ) --seconds $$(($(MINUTES) * 60)) --keep $(FUZZ_TARGETS)

# Under the thread sanitizer std is built as well, else its locks would not be seen. Programs get Rust's runtime. Without
# tests/c/fork.c and signals.c: it doesn't follow forks of processes with threads. The engine's pure part has no threads.
TSAN = CARGO_TARGET_DIR=$(TARGET)/tsan RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread TSAN_OPTIONS=halt_on_error=1
TSAN_BUILD = --locked -Zbuild-std --target $(HOST)
TSAN_LIBRARY = $(TARGET)/tsan/$(HOST)/debug
TSAN_RUNTIME = $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(HOST)/lib/librustc*_rt.tsan.a)
TSAN_PROGRAMS := $(addprefix $(TARGET)/tsan/c/,abi elections events lifecycle)

## make test-tsan: the library's threads under the thread sanitizer; the first time takes minutes
test-tsan: test-packages tools
	[ -d "$$(rustc --print sysroot)/lib/rustlib/src" ] || rustup component add rust-src
	$(TSAN) cargo rustc $(TSAN_BUILD) --lib --crate-type cdylib
	ln -sf libtenure.so $(TSAN_LIBRARY)/libtenure.so.0
	$(MAKE) TARGET=$(TARGET)/tsan TOOLS=$(TOOLS) LIBRARY_FOLDER=$(TSAN_LIBRARY) CFLAGS='$(CFLAGS) -fsanitize=thread' \
		RUNTIME='-Wl,--whole-archive $(TSAN_RUNTIME) -Wl,--no-whole-archive -Wl,--export-dynamic -ldl -lrt -lm' \
		$(TARGET)/tsan/c/planted $(TSAN_PROGRAMS)
	tests/tools/checker.sh $(TARGET)/tsan/c/planted $(TSAN_LIBRARY)/libtenure.so thread
	TENURE_TEST_SLOWNESS=5 TSAN_OPTIONS=halt_on_error=1 tests/tools/with_etcd.py $(MAIN_ETCD) tests/tools/programs.sh $(TSAN_PROGRAMS)
	$(TSAN) cargo test $(TSAN_BUILD) --lib --no-fail-fast -- --skip election::
	$(TSAN) cargo test $(TSAN_BUILD) --test elections --no-fail-fast

packages:
	@tests/tools/packages.sh build

test-packages:
	@tests/tools/packages.sh test

## make tools: what the tests run against: etcd in three versions, a candidate in Go
tools: $(MAIN_ETCD) $(TOOLS)/etcd-$(ETCD_3_6)/etcd $(TOOLS)/etcd-$(ETCD_3_4)/etcd $(if $(GO_MODULES),$(TOOLS)/peer)

$(TOOLS)/etcd-%/etcd: tests/tools/etcd.sh
	@tests/tools/etcd.sh $* $(@D)
	@touch -h $@

$(TOOLS)/etcd-$(ETCD_3_7)/etcd: tests/etcd/3.7/go.mod
$(TOOLS)/etcd-$(ETCD_3_6)/etcd: tests/etcd/3.6/go.mod

$(PYTHON)/ruff: tests/tools/python.txt
	python3 -m venv --clear $(TOOLS)/python
	$(PYTHON)/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(TOOLS)/peer: $(wildcard tests/peer/*.go) tests/peer/go.mod
	cd tests/peer && go build -buildvcs=false -o $@ .

## make test-conformance ONLY=text: the scenarios with this text in the name, in every language; all without ONLY
# PLAY has further arguments. A language is a line in CONFORMANCE_DRIVERS and what builds its driver.
TEST_PARTS += test-conformance
DRIVERS := tests/conformance/drivers
CONFORMANCE := $(TARGET)/conformance
ONLY :=
PLAY :=
CONFORMANCE_DRIVERS = \
	--driver 'C=$(CONFORMANCE)/c' \
	--driver 'C++=$(CONFORMANCE)/cpp' \
	--driver 'Rust=$(CONFORMANCE)/rust' \
	--driver 'Python=env $(CONFORMANCE_PYTHON) python3 -S $(DRIVERS)/driver.py' \
	--driver 'Go=$(CONFORMANCE)/go'
CONFORMANCE_PYTHON = -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX=$(CONFORMANCE)/pycache PYTHONPATH=bindings/python/src \
	TENURE_LIBRARY=$(LIBRARY_FOLDER)/libtenure.so
CONFORMANCE_GO_SOURCES := $(wildcard $(DRIVERS)/go/*) $(shell find bindings/go -name '*.go' -o -name '*.h' -o -name go.mod)

.PHONY: test-conformance lint-conformance
test-conformance: $(addprefix $(CONFORMANCE)/,c cpp rust go) $(MAIN_ETCD) $(TOOLS)/peer | test-packages
	tests/tools/with_etcd.py $(MAIN_ETCD) tests/conformance/run.py --only '$(ONLY)' $(PLAY) $(CONFORMANCE_DRIVERS) \
		--etcd $(MAIN_ETCD) --etcdctl $(MAIN_ETCDCTL) --peer $(TOOLS)/peer

$(CONFORMANCE)/c: $(DRIVERS)/driver.c $(LIBRARY_FOLDER)/libtenure.so | test-packages
	@mkdir -p $(@D)
	$(CC) -std=c11 -Wall -Wextra -Werror $(CFLAGS) -pthread -Iinclude -o $@ $< -L$(LIBRARY_FOLDER) -ltenure -ljansson \
		-Wl,-rpath,$(LIBRARY_FOLDER)

$(CONFORMANCE)/cpp: $(DRIVERS)/driver.cpp include/tenure.hpp $(LIBRARY_FOLDER)/libtenure.so | test-packages
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -Wall -Wextra -Werror $(CXXFLAGS) -pthread -Iinclude -o $@ $< -L$(LIBRARY_FOLDER) -ltenure \
		-Wl,-rpath,$(LIBRARY_FOLDER)

$(CONFORMANCE)/rust: $(DRIVERS)/driver.rs $(SOURCES) | packages
	@mkdir -p $(@D)
	cargo build --locked --example conformance
	ln -f $(DEBUG)/examples/conformance $@

$(CONFORMANCE)/go: $(CONFORMANCE_GO_SOURCES) $(GO_LIBRARY)
	cd $(DRIVERS)/go && $(GO_ENV) go build -o $@ .

lint: lint-conformance
lint-conformance: $(GO_LIBRARY) $(PYTHON)/ruff
	@unformatted=$$(gofmt -l $(DRIVERS)/go); [ -z "$$unformatted" ] || { echo "run: gofmt -w $$unformatted"; exit 1; }
	cd $(DRIVERS)/go && $(GO_ENV) go vet .
	MYPYPATH=tests/tools:tests/conformance:bindings/python/src $(PYTHON)/mypy --config-file tests/tools/mypy.ini \
		tests/conformance/*.py $(DRIVERS)/*.py

## make hosts RUNS=1000 ONLY=pattern: host processes that end in every way there is, so many times each, with the release library
TEST_PARTS += test-hosts
HOSTS = $(LIBRARY_FOLDER)/hosts
RUNS :=

.PHONY: hosts test-hosts lint-hosts
hosts:
	$(MAKE) test-hosts LIBRARY_FOLDER=$(RELEASE) RUNS=$(or $(RUNS),1000)

test-hosts: $(HOSTS)/c $(HOSTS)/loader $(HOSTS)/loader.so $(HOSTS)/cpp $(HOSTS)/go $(PYTHON)/ruff $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) env PYTHONPATH=$(PYTHON_PACKAGE)/src TENURE_LIBRARY=$(LIBRARY_FOLDER)/libtenure.so \
		tests/hosts/hosts.py --runs $(or $(RUNS),2) --only '$(ONLY)' --program C=$(HOSTS)/c --program plugin=$(HOSTS)/loader \
		--program C++=$(HOSTS)/cpp --program Go=$(HOSTS)/go --program 'Python=$(PYTHON)/python -S tests/hosts/host.py'

COMPILE_HOST = @mkdir -p $(@D); $(CC) -std=c11 -Wall -Wextra -Werror $(CFLAGS) -pthread -Iinclude -o $@ $<
LINK_HOST = -L$(LIBRARY_FOLDER) -ltenure -Wl,-rpath,$(LIBRARY_FOLDER)

%/hosts/c: tests/hosts/host.c tests/c/testing.h %/libtenure.so
	$(COMPILE_HOST) $(LINK_HOST)

%/hosts/loader.so: tests/hosts/host.c tests/c/testing.h %/libtenure.so
	$(COMPILE_HOST) -fPIC -shared $(LINK_HOST)

%/hosts/loader: tests/hosts/loader.c
	$(COMPILE_HOST) -ldl

%/hosts/cpp: tests/hosts/host.cpp include/tenure.hpp %/libtenure.so | test-packages
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(CPP_WARNINGS) $(CXXFLAGS) -pthread -Iinclude -o $@ $< $(LINK_HOST)

%/hosts/go: $(wildcard tests/hosts/go/*) $(CONFORMANCE_GO_SOURCES) %/go/lib/libtenure.so
	cd tests/hosts/go && $(GO_ENV) go build -o $@ .

lint: lint-hosts
lint-hosts: $(GO_LIBRARY) $(PYTHON)/ruff
	@unformatted=$$(gofmt -l tests/hosts/go); [ -z "$$unformatted" ] || { echo "run: gofmt -w $$unformatted"; exit 1; }
	cd tests/hosts/go && $(GO_ENV) go vet .
	MYPYPATH=$(PYTHON_PACKAGE)/src $(PYTHON)/mypy --config-file tests/tools/mypy.ini tests/hosts/host.py
	$(PYTHON)/mypy --config-file tests/tools/mypy.ini tests/hosts/hosts.py

## make licences: writes THIRD-PARTY.txt, which the packages carry, and docs/licences.md
.PHONY: licences test-licences audit
licences: | packages
	packaging/licences.py update

TEST_PARTS += test-licences
test-licences: | packages
	packaging/licences.py check
	tests/licences_test.py

## make audit: the dependencies' known holes, licences and sources; needs the network, for RustSec's list of holes
# AUDIT='licenses bans sources': what needs no list.
CARGO_DENY := 0.20.2
AUDIT := advisories licenses bans sources
audit: $(TOOLS)/cargo/bin/cargo-deny
	$< --locked check $(AUDIT)

# Apart from the build, so that no lock of its target folder is waited for.
$(TOOLS)/cargo/bin/cargo-deny:
	CARGO_TARGET_DIR=$(TOOLS)/cargo/build cargo install --locked --quiet --version $(CARGO_DENY) --root $(TOOLS)/cargo cargo-deny
	rm -rf $(TOOLS)/cargo/build

## make soak HOURS=2: workers in three languages under random faults for so long, and what must hold of them all the way
# Result and log are in target/soak. SEED= makes the same faults come again.
HOURS := 2
SOAK := $(TARGET)/soak
TEST_PARTS += test-soak

.PHONY: soak test-soak lint-soak
soak: $(TARGET)/examples/release/worker $(TARGET)/examples/release/go-worker $(MAIN_ETCD) $(TOOLS)/peer
	@mkdir -p $(SOAK)
	$(RUN_SOAK) --c-worker $< --go-worker $(word 2,$^) --library $(RELEASE)/libtenure.so \
		--hours $(HOURS) $(if $(SEED),--seed $(SEED)) --result $(SOAK)/result.txt

RUN_SOAK = tests/soak/run.py --etcd $(MAIN_ETCD) --peer $(TOOLS)/peer

# A minute of it, with the library that is tested.
test-soak: $(TESTED)/c/worker $(GO_EXAMPLES)/worker $(MAIN_ETCD) $(TOOLS)/peer
	tests/soak/ledger_test.py
	$(RUN_SOAK) --c-worker $< --go-worker $(GO_EXAMPLES)/worker --library $(LIBRARY_FOLDER)/libtenure.so --hours 0.015 --ttl 5

lint: lint-soak
lint-soak: $(PYTHON)/ruff
	MYPYPATH=examples:tests/tools:tests/soak $(PYTHON)/mypy --config-file tests/tools/mypy.ini tests/soak/*.py

## make clean: removes all that was built
clean:
	rm -rf $(TARGET)

## make help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)
