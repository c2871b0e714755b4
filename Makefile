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
PYTHON_FILES := $(wildcard examples/*.py tests/*.py tests/install/*.py tests/tools/*.py)
GO_MODULES := $(dir $(wildcard tests/peer/go.mod bindings/go/go.mod examples/go/go.mod))

# An etcd of the PATH is linked to, and is as old as it likes.
MAKEFLAGS += --check-symlink-times

export CARGO_TARGET_DIR := $(TARGET)
export TENURE_TOOLS := $(TOOLS)
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

.PHONY: install uninstall dist deb test-install test-go test-go-examples bench-go run-bench-go
.PHONY: all libs header demo examples bench test test-rust simulate test-c test-c-valgrind test-c-asan test-examples fmt lint fix sanitize packages
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

## make demo: an election, start to end, on an etcd of its own
demo: $(TARGET)/examples/release/worker $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) examples/demo.py --worker $< --etcdctl $(MAIN_ETCDCTL)

## make examples: the programs of examples/c, in target/examples/release
examples: $(patsubst examples/c/%.c,$(TARGET)/examples/release/%,$(EXAMPLES))

COMPILE_EXAMPLE = $(CC) -std=c99 -Wall -Wextra -pedantic -Werror -O2 -pthread -Iinclude

$(TARGET)/examples/release/%: examples/c/%.c $(RELEASE)/libtenure.so
	@mkdir -p $(@D)
	$(COMPILE_EXAMPLE) -o $@ $< -L$(RELEASE) -ltenure -Wl,-rpath,$(RELEASE)

# A part is a target of this file; see tests/tools/summary.sh for what it may print.
TEST_PARTS := lint test-rust test-c test-c-valgrind test-c-asan test-examples test-install test-go test-go-examples

## make test: every test; ends with "N passed, N failed"
test: test-packages tools
	@tests/tools/summary.sh $(TARGET)/test-logs $(TEST_PARTS)

# More threads than processors: most tests wait for a server.
test-rust: tools
	RUST_TEST_THREADS=8 cargo test --locked --no-fail-fast

## make simulate SEEDS=10000: so many runs of the engine under random faults, optimised
SEEDS := 10000
simulate:
	TENURE_SEEDS=$(SEEDS) cargo test --locked --release --lib simulation -- --nocapture

# Every file in tests/c is a program of its own, which finds an etcd in the variable ETCD_ENDPOINTS. planted.c is to
# fail: by it checker.sh sees whether valgrind and the sanitizer find what they should.
C_TESTS := $(patsubst tests/c/%.c,$(TARGET)/c/%,$(filter-out tests/c/planted.c,$(wildcard tests/c/*.c)))

test-c: $(C_TESTS) $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) tests/tools/programs.sh $(C_TESTS)

# --as-needed: a program that loads the library itself is not linked with it. The header is tested as it is, so it is no
# prerequisite, which would make it anew; what it is made of is the library's.
$(TARGET)/c/%: tests/c/%.c tests/c/testing.h $(LIBRARY_FOLDER)/libtenure.so
	@mkdir -p $(@D)
	$(CC) -std=c11 -Wall -Wextra -Werror $(CFLAGS) -pthread -Iinclude -c -o $@.o $<
	$(CC) -pthread -o $@ $@.o -L$(LIBRARY_FOLDER) -Wl,--as-needed -ltenure -Wl,-rpath,$(LIBRARY_FOLDER) $(RUNTIME)

# "Possibly lost" is what only a pointer into its midst leads to, as with every hash table of Rust.
VALGRIND := valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
	--show-leak-kinds=definite --num-callers=30

test-c-valgrind: $(C_TESTS) $(TARGET)/c/planted $(MAIN_ETCD)
	WRAPPER='$(VALGRIND)' tests/tools/checker.sh $(TARGET)/c/planted
	TENURE_TEST_SLOWNESS=20 WRAPPER='$(VALGRIND)' tests/tools/with_etcd.py $(MAIN_ETCD) tests/tools/programs.sh $(C_TESTS)

# The address sanitizer is not in stable Rust's options, hence RUSTC_BOOTSTRAP; --target keeps it out of build scripts.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
SANITIZED = CARGO_TARGET_DIR=$(TARGET)/sanitize RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
SANITIZED_LIBRARY = $(TARGET)/sanitize/$(HOST)/debug
# Rust's, for the programs as well: in a child of fork(), gcc's (12) may wait for a lock that nobody holds.
SANITIZER = $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(HOST)/lib/librustc*_rt.asan.a)
SANITIZED_MAKE = $(MAKE) TARGET=$(TARGET)/sanitize TOOLS=$(TOOLS) LIBRARY_FOLDER=$(SANITIZED_LIBRARY) \
	CFLAGS='$(CFLAGS) -fsanitize=address' \
	RUNTIME='-Wl,--whole-archive $(SANITIZER) -Wl,--no-whole-archive -Wl,--export-dynamic -ldl -lrt -lm'

test-c-asan: $(MAIN_ETCD)
	$(SANITIZED) cargo rustc --locked --target $(HOST) --lib --crate-type cdylib
	ln -sf libtenure.so $(SANITIZED_LIBRARY)/libtenure.so.0
	$(SANITIZED_MAKE) $(TARGET)/sanitize/c/planted
	tests/tools/checker.sh $(TARGET)/sanitize/c/planted $(SANITIZED_LIBRARY)/libtenure.so
	$(SANITIZED_MAKE) test-c

# The same programs with the library that is tested, the demo among them.
TESTED_EXAMPLES := $(patsubst examples/c/%.c,$(TARGET)/examples/tested/%,$(EXAMPLES))

test-examples: $(TESTED_EXAMPLES) $(TARGET)/examples/tested/readme $(MAIN_ETCD)
	tests/tools/with_etcd.py $(MAIN_ETCD) env ETCDCTL=$(MAIN_ETCDCTL) TENURE_EXAMPLES=$(TARGET)/examples/tested \
		tests/examples_test.py

$(TARGET)/examples/tested/%: examples/c/%.c $(LIBRARY_FOLDER)/libtenure.so
	@mkdir -p $(@D)
	$(COMPILE_EXAMPLE) -o $@ $< -L$(LIBRARY_FOLDER) -ltenure -Wl,-rpath,$(LIBRARY_FOLDER)

# The program that README.md shows.
$(TARGET)/examples/readme.c: README.md
	@mkdir -p $(@D)
	sed -n '/^```c$$/,/^```$$/{/^```/!p}' $< > $@

$(TARGET)/examples/tested/readme: $(TARGET)/examples/readme.c $(LIBRARY_FOLDER)/libtenure.so
	@mkdir -p $(@D)
	$(COMPILE_EXAMPLE) -o $@ $< -L$(LIBRARY_FOLDER) -ltenure -Wl,-rpath,$(LIBRARY_FOLDER)

# The library installed where Go's pkg-config finds it. CGO_LDFLAGS has the library's checksum: Go looks at none of a C
# library's files to see what is to be built again.
GO_PREFIX = $(LIBRARY_FOLDER)/go
GO_LIBRARY = $(GO_PREFIX)/lib/libtenure.so
GO_ENV = PKG_CONFIG_PATH=$(GO_PREFIX)/lib/pkgconfig GOFLAGS='-mod=readonly -buildvcs=false' \
	CGO_LDFLAGS="-O2 -g -Wl,-rpath,$(GO_PREFIX)/lib -Wl,--defsym=tenure_built_$$(cksum < $(GO_PREFIX)/lib/libtenure.a | cut -d' ' -f1)=0"

$(GO_LIBRARY): $(LIBRARY_FOLDER)/libtenure.so $(LIBRARY_FOLDER)/libtenure.a include/tenure.h $(wildcard packaging/*)
	packaging/install.sh install $(LIBRARY_FOLDER) /go lib $(LIBRARY_FOLDER)
	touch $@

# All under the race detector; what crosses into C with every check of pointers that Go has; and with the library as a part
# of the program.
test-go: $(GO_LIBRARY) $(MAIN_ETCD)
	cd bindings/go && $(GO_ENV) ETCD=$(MAIN_ETCD) ETCDCTL=$(MAIN_ETCDCTL) ../../tests/tools/with_etcd.py $(MAIN_ETCD) \
		../../tests/tools/go_test.py -race ./... -- -tags tenure_static -run 'Example|Codes' ./... -- \
		--experiment=cgocheck2 -run 'Example|Leader|Observ|Clos|Wrong|Zero|Many|Resign' ./tenure ./leader

GO_EXAMPLES := $(TARGET)/examples/go

# The program that docs/go.md begins with.
$(GO_EXAMPLES)/start.go: docs/go.md
	@mkdir -p $(@D)
	sed -n '/^package main$$/,/^```$$/{/^```/!p}' $< > $@

test-go-examples: $(GO_LIBRARY) $(TARGET)/examples/tested/worker $(GO_EXAMPLES)/start.go $(MAIN_ETCD)
	cd examples/go && $(GO_ENV) go build -o $(GO_EXAMPLES)/ ./...
	cd examples/go && $(GO_ENV) go build -o $(GO_EXAMPLES)/start $(GO_EXAMPLES)/start.go
	tests/tools/with_etcd.py $(MAIN_ETCD) env ETCDCTL=$(MAIN_ETCDCTL) TENURE_EXAMPLES=$(TARGET)/examples/tested \
		TENURE_GO_EXAMPLES=$(GO_EXAMPLES) tests/go_examples_test.py

# The library that the other tests use, so that a fresh machine needs no release build: `make test-install
# LIBRARY_FOLDER=$PWD/target/release` tests what is released.
test-install: $(LIBRARY_FOLDER)/libtenure.so $(LIBRARY_FOLDER)/libtenure.a
	MAKE='$(MAKE)' INSTALLED=$(LIBRARY_FOLDER) tests/install/install_test.py

## make bench: latencies beside bare etcd requests, take-overs after a kill, threads, memory and size
bench: $(MAIN_ETCD) $(RELEASE)/libtenure.so
	tests/tools/with_etcd.py $(MAIN_ETCD) cargo bench --locked --bench latency
	@echo "libtenure.so: $$(stat -c %s $(RELEASE)/libtenure.so) bytes"

## make bench-go: what passes from a call to the reading of its event from a channel
bench-go: $(RELEASE)/libtenure.so $(RELEASE)/libtenure.a
	$(MAKE) LIBRARY_FOLDER=$(RELEASE) run-bench-go

run-bench-go: $(GO_LIBRARY)
	cd bindings/go && $(GO_ENV) go test ./tenure -run '^$$' -bench . -benchtime 3000x

## make lint: formatting and lints, changing nothing
lint: $(PYTHON)/ruff $(GO_LIBRARY) | packages
	cargo fmt --check || { echo "run: make fmt"; exit 1; }
	cargo clippy --locked --all-targets -- -D warnings || { echo "some are repaired by: make fix"; exit 1; }
	@unformatted=$$(gofmt -l $(GO_MODULES) </dev/null); [ -z "$$unformatted" ] || { echo "$$unformatted: run make fmt"; exit 1; }
	for module in $(GO_MODULES); do (cd $$module && $(GO_ENV) go vet ./...) || exit 1; done
	$(PYTHON)/ruff format --check . || { echo "run: make fmt"; exit 1; }
	$(PYTHON)/ruff check .
	MYPYPATH=examples $(PYTHON)/mypy --strict $(PYTHON_FILES)

## make fmt: formats the sources
fmt: $(PYTHON)/ruff
	cargo fmt
	$(if $(GO_MODULES),gofmt -w $(GO_MODULES))
	$(PYTHON)/ruff format .

## make fix: repairs what can be repaired by itself: lints, formatting, generated files
fix: $(PYTHON)/ruff | packages
	cargo clippy --locked --all-targets --fix --allow-dirty --allow-staged
	$(PYTHON)/ruff check --fix .
	$(MAKE) header fmt

## make sanitize: the Rust and C tests under the address and leak sanitizers
sanitize: test-packages tools
	$(SANITIZED) cargo test --locked --target $(HOST) --lib --tests --no-fail-fast
	$(MAKE) test-c-asan

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

## make clean: removes all that was built
clean:
	rm -rf $(TARGET)

## make help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)
