# What a user types; `make help` lists it. The work is done by cargo and by xen-bed, the host program in tools/bed.

# As typed: make would expand dollars in a command line such as APP='echo $HOME'.
override APP := $(value APP)
override SHARE := $(value SHARE)
ELF := target/xen9p.elf
IMAGE ?= $(ELF)
export BED BACKEND TYPE SHARE APP MEMORY ONLY SHORT V IMAGE ROUNDS SCALE MINUTES SEED PACKAGE_IN

BOOTCHECK := target/bootcheck.elf
EMBED := examples/embed-rust
PUBLISHED := xen-abi xen9p-time xen-guest p9-wire p9-tree p9-client p9-server xen9p
# Those that name no processor.
PORTABLE := xen9p-time p9-wire p9-tree p9-client
EXAMPLES := config logger checksums thermometer
BENCH := benches/xen/linux
# cargo without make's flags and job server, which are not meant for it.
WITHOUT_MAKE := env -u MAKEFLAGS -u MFLAGS
CARGO := $(WITHOUT_MAKE) cargo
XEN_BED := $(CARGO) run --quiet -p xen-bed --bin xen-bed --
OWN_TESTS := $(CARGO) run --quiet -p xen-bed --example own-tests --

# An image of ours under xl. Its settings are in the environment.
DEMO := cat /hello.txt; write /from-guest.txt Written by a guest that has no operating system.; ls -l /
RUN_IMAGE = $(XEN_BED) run --kernel "$$IMAGE" --verdict '^\[xen9p\] exit (\d+)' \
	--cmdline "$${APP:-$(DEMO)}" --share "$${SHARE:-target/share}" --xen9pd target/xen9pd.static \
	$${BED:+--xen "$$BED"} $${BACKEND:+--backend "$$BACKEND"} $${TYPE:+--type "$$TYPE"} $${MEMORY:+--memory "$$MEMORY"} \
	$(if $(filter shell shell; ;shell,$(APP)),--interactive) $(if $(filter-out 0,$(V)),--verbose)

# What serves shares in dom0 where nothing else is asked for: xen9pd on Debian 13.
XEN9PD := $(if $(filter xen9pd,$(BACKEND))$(if $(BACKEND),,$(filter trixie,$(BED))),xen9pd-static)

# The parts of `make test` each fill the machine.
.NOTPARALLEL:

.PHONY: help run samples kernel install deb test-deb xen9pd-release xen9pd-static posix-static lying-frontend idc-guest bootcheck embed capi bench bench-embed bench-sweep bench-clients bench-clients-bed bench-count bench-costs bench-transports bench-size sized-images bench-programs hostile test test-fast test-slow test-fast-beside test-host test-features test-elf test-size test-capi test-boot guests test-guests test-xen test-hostile test-hostile-short test-argo argo-kernel cache-kernel packages-for-argo test-migrate soak test-xen9pd test-trixie test-posix test-oldest-rust test-other-targets test-miri clean packages-for-run packages-for-test packages-for-test-xen packages-for-posix packages-for-count

# Settings: name, values, meaning, and in brackets the commands that take it. tests/repository/settings.rs compares.
#: APP        'commands'           what the toolbox runs [run]
#: BACKEND    xen9pd|qemu|9pfsd    what serves shares in dom0; on trixie xen9pd, on bookworm QEMU [run test-xen]
#: BED        bookworm|trixie|argo Debian release of dom0: Xen 4.17 with QEMU, Xen 4.20, or 4.17 built with Argo [run bench bench-clients-bed bench-embed bench-sweep bench-transports soak test-boot test-hostile test-migrate test-xen]
#: DESTDIR    directory            the root that things are installed below [install]
#: FEATURES   vchan cache          the library with vchans, a cache, or both, in target/capi-dist-vchan and so on [capi]
#: IMAGE      file                 another image than target/xen9p.elf [run test-argo test-migrate test-xen]
#: MEMORY     MiB                  of the guest; 64 [run]
#: MINUTES    n                    how long it works; 3 [soak]
#: ONLY       part of a name       only tests with that, or one of a,b,c, in their name; bench takes pv or pvh, bench-clients a part of a row's [bench bench-clients bench-clients-bed test-argo test-boot test-guests test-hostile test-migrate test-posix test-trixie test-xen test-xen9pd]
#: PACKAGE_IN bookworm|trixie      the Debian release that the package is installed in, to try it [test-deb]
#: PREFIX     directory            /usr/local [install]
#: ROUNDS     n                    how often each thing is measured [bench bench-clients bench-clients-bed bench-embed bench-sweep bench-transports]
#: SCALE      n                    files, or operations, are one part in n of the full amounts; 25, of bench-clients 1 [bench bench-clients bench-clients-bed]
#: SEED       n                    the same random work again [soak test-posix]
#: SERVERS    name,name            the servers that the suites are run over, of xen9pd, qemu, qemu-mapped, diod, p9; all [test-posix]
#: SHARE      directory            files for the guest [run]
#: SHORT      1                    a few of the tests [test-hostile test-xen]
#: TYPE       pvh|pv               kind of the guest [run soak]
#: V          1                    show all that the machines print [run]

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' Makefile
	@echo 'Settings, as in `make run APP=ls V=1`:'
	@sed -n 's/^#: /  /p' Makefile

# make ends with 2 whatever the failure, but under -q (which does not keep recipe lines marked + from running) a line that
# ends with 1 makes it end with 1: the guest's usual failure.
ifeq ($(MAKECMDGOALS),run)
MAKEFLAGS += -q
endif

# The toolbox is built where no other image is booted, and the sample files where no other are shared.
run: packages-for-run $(if $(filter $(ELF),$(IMAGE)),kernel) $(if $(SHARE),,samples) $(XEN9PD) ## Boot Xen in QEMU and run the image there with the files of SHARE; fails where APP does
	+@$(RUN_IMAGE)

# What is shared where the user names no directory. What is there stays as it is.
samples:
	+@mkdir -p target/share/docs
	+@[ -e target/share/hello.txt ] || echo 'Hello from the host.' > target/share/hello.txt
	+@[ -e target/share/docs/nested.txt ] || echo 'A file in a directory.' > target/share/docs/nested.txt

# The same with Argo, which few hypervisors have.
argo-kernel:
	+@tools/bed/host-packages
	+@$(CARGO) build --profile image --quiet --features toolbox,argo --bin xen9p
	@strip -o target/xen9p-argo.elf target/image/xen9p

# The same with the cache.
cache-kernel:
	+@tools/bed/host-packages
	+@$(CARGO) build --profile image --quiet --features toolbox,cache --bin xen9p
	@strip -o target/xen9p-cache.elf target/image/xen9p

kernel: ## Build the image, target/xen9p.elf
	+@tools/bed/host-packages
	+@$(CARGO) build --profile image --features toolbox --bin xen9p
	+@strip -o $(ELF) target/image/xen9p

# The daemon as it runs in any dom0, whatever libraries there are.
xen9pd-static:
	+@RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --release --quiet -p xen9pd --target x86_64-unknown-linux-gnu --target-dir target/static
	+@strip -o target/xen9pd.static target/static/x86_64-unknown-linux-gnu/release/xen9pd

PREFIX ?= /usr/local
STAGE := target/deb/xen9pd
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
PACKAGING := xen9pd/packaging

xen9pd-release:
	+@$(CARGO) build --release --quiet -p xen9pd

install: xen9pd-release ## Install xen9pd with its man pages and its unit for systemd
	@install -d '$(DESTDIR)$(PREFIX)/sbin' '$(DESTDIR)$(PREFIX)/lib/systemd/system' '$(DESTDIR)$(PREFIX)/share/man/man8' \
		'$(DESTDIR)$(PREFIX)/share/man/man5' '$(DESTDIR)$(PREFIX)/share/doc/xen9pd/examples'
	@install -s target/release/xen9pd '$(DESTDIR)$(PREFIX)/sbin/xen9pd'
	@sed 's|@SBINDIR@|$(PREFIX)/sbin|' $(PACKAGING)/xen9pd.service > '$(DESTDIR)$(PREFIX)/lib/systemd/system/xen9pd.service'
	@sed 's|@VERSION@|$(VERSION)|' $(PACKAGING)/xen9pd.8 > '$(DESTDIR)$(PREFIX)/share/man/man8/xen9pd.8'
	@sed 's|@VERSION@|$(VERSION)|' $(PACKAGING)/xen9pd.toml.5 > '$(DESTDIR)$(PREFIX)/share/man/man5/xen9pd.toml.5'
	@install -m 644 $(PACKAGING)/example.toml '$(DESTDIR)$(PREFIX)/share/doc/xen9pd/examples/xen9pd.toml'
	@chmod 644 '$(DESTDIR)$(PREFIX)/lib/systemd/system/xen9pd.service' '$(DESTDIR)$(PREFIX)/share/man/man8/xen9pd.8' \
		'$(DESTDIR)$(PREFIX)/share/man/man5/xen9pd.toml.5'

deb: ## A Debian package of xen9pd, in target/deb
	@rm -rf $(STAGE)
	@$(MAKE) --no-print-directory install DESTDIR=$(STAGE) PREFIX=/usr
	@$(PACKAGING)/deb $(STAGE) $(VERSION) target/deb

test-deb: deb ## What is in that package, and that Debian installs it
	@tests/package-check.sh target/deb/xen9pd_$(VERSION)_*.deb

bootcheck:
	+@$(CARGO) build --profile image --features rt --bin bootcheck
	+@strip -o $(BOOTCHECK) target/image/bootcheck

bench: packages-for-run kernel xen9pd-static bench-programs ## Measure xen9p beside Linux, on QEMU and on xen9pd; leaves a report in target/bench
	+@$(OWN_TESTS) bench

bench-sweep: packages-for-run kernel xen9pd-static bench-programs ## Measure xen9p with other numbers and sizes of rings
	+@$(OWN_TESTS) bench-sweep

bench-embed: packages-for-run kernel xen9pd-static bench-programs embed ## Measure the C library in a kernel of its own beside the image
	+@$(OWN_TESTS) bench-embed

# Not of the workspace: what the other clients need is built for this alone.
CLIENTS := --release --quiet --manifest-path benches/clients/Cargo.toml --target-dir target/clients
bench-clients: xen9pd-release ## Measure p9-client beside 9P clients of others, on this host and one xen9pd; leaves a report in target/bench
	+@$(CARGO) test $(CLIENTS)
	+@$(CARGO) build $(CLIENTS)
	@target/clients/release/bench-clients target/release/xen9pd target/bench/clients

bench-clients-bed: packages-for-run xen9pd-static ## The same in dom0, whose Linux has a 9P client as well, v9fs
	+@RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build $(CLIENTS) --target x86_64-unknown-linux-gnu
	@strip -o target/bench-clients.static target/clients/x86_64-unknown-linux-gnu/release/bench-clients
	+@$(OWN_TESTS) bench-clients

# Each operation's counts are a dump of callgrind's, with its name and the sum of so many operations.
bench-count: packages-for-count ## Instructions per operation of codec, ring and client, natively under callgrind
	@rm -rf target/bench/count && mkdir -p target/bench/count
	@BENCH_COUNT=1 CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='valgrind -q --tool=callgrind --callgrind-out-file=$(CURDIR)/target/bench/count/out' \
		$(CARGO) bench --quiet --bench client
	@ls -v target/bench/count/out.* | xargs awk '/^desc: Trigger: Client Request: / { sub(/.*Request: /, ""); name = $$0 } \
		/^totals: / { if (name) printf "%-40s %10.1f instructions\n", name, $$2 / 64; name = "" }' | tee target/bench/count.txt

# The images of docs/size.md, before they are stripped.
SIZED := hello hello-all toolbox
sized-images:
	+@mkdir -p target/size
	+@$(CARGO) build --profile image --quiet --features rt --bin hello
	@cp target/image/hello target/size/hello
	+@$(CARGO) build --profile image --quiet --features rt,recovery,trace,vchan --bin hello
	@cp target/image/hello target/size/hello-all
	+@$(CARGO) build --profile image --quiet --features toolbox --bin xen9p
	@cp target/image/xen9p target/size/toolbox

bench-size: sized-images ## Where the bytes of images go, by crate and module: writes docs/size.md
	@benches/size.sh table $(foreach name,$(SIZED),$(name)=target/size/$(name)) > target/size/size.md
	@mv target/size/size.md docs/size.md

test-size: sized-images ## That images have the sizes that docs/size.md says
	@benches/size.sh check $(foreach name,$(SIZED),$(name)=target/size/$(name))

bench-costs: packages-for-run samples ## What the clock, a hypercall and copies cost in a guest
	+@$(CARGO) build --profile image --features rt --bin bench-costs
	+@for type in pv pvh; do TYPE=$$type IMAGE=target/image/bench-costs $(RUN_IMAGE) || exit 1; done

bench-transports: packages-for-run kernel ## What it costs to bring bytes from one domain to another, in hypercalls, events, copies and time; by Argo too with BED=argo
	$(CARGO) test --quiet --features idc,argo --test idc the_table_of_transports -- --nocapture
	+@$(CARGO) build --profile image --quiet --features rt,argo,vchan --bin bench-transports
	@strip -o target/bench-transports.elf target/image/bench-transports
	+@$(OWN_TESTS) bench-transports

bench-programs:
	+@$(CARGO) build --profile image --features rt --bin bench --bin bench-limit --bin hello
	+@for name in bench bench-limit hello; do strip -o target/$$name.elf target/image/$$name; done
	+@RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --release --quiet -p xen9p-bench-linux -p xen9p-bench-floor --target x86_64-unknown-linux-gnu --target-dir target/static
	+@strip -o target/bench-floor.static target/static/x86_64-unknown-linux-gnu/release/bench-floor

# What the tests under xl need for hostile backends: the image that meets them, and the program that plays them in dom0.
hostile:
	+@$(CARGO) build --profile image --quiet --features rt --bin hostile-image
	@strip -o target/hostile.elf target/image/hostile-image
	+@RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --quiet -p xen9p-backend --target x86_64-unknown-linux-gnu --target-dir target/static
	@strip -o target/xen9p-backend target/static/x86_64-unknown-linux-gnu/debug/xen9p-backend

# The image that breaks the rules of rings, for the tests of xen9pd.
idc-guest:
	+@$(CARGO) build --profile image --quiet --features rt,idc --bin idc-guest
	@strip -o target/idc-guest.elf target/image/idc-guest

# A POSIX suite that runs in any Linux guest.
posix-static:
	+@RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) install --quiet --root target/posix-static --target-dir target/posix-static-build --target x86_64-unknown-linux-gnu pjdfstest@0.2.2

lying-frontend:
	+@$(CARGO) build --profile image --quiet --features rt --bin lying-frontend
	@strip -o target/lying-frontend.elf target/image/lying-frontend

# Kernels that embed the library and the template, packages of their own, as another project's would be; the examples.
embed:
	+@$(CARGO) build --release --manifest-path $(EMBED)/Cargo.toml --target-dir target/embed
	@strip -o target/embed-rust.elf target/embed/release/embed-rust
	@rm -f target/embed-c.elf target/embed-c-pv.elf target/embed-c-vchan.elf target/embed-c-vchan-pv.elf
	+@for features in '' vchan; do FEATURES=$$features $(WITHOUT_MAKE) capi/dist.sh || [ $$? -eq 77 ] || exit 1; done
	+@[ ! -e target/capi-dist/lib/xen9p.o ] || $(MAKE) --no-print-directory --silent -C examples/embed-c OUT=../../target all vchan
	+@$(CARGO) build --quiet --profile image --features rt,vchan $(foreach name,$(EXAMPLES),--bin $(name))
	+@$(CARGO) build --quiet --release --manifest-path template/Cargo.toml --target-dir target/template
	@cp target/template/release/my-app target/my-app.elf
	@for name in $(EXAMPLES); do strip -o target/$$name.elf target/image/$$name || exit 1; done

capi: ## Build the C library for any kernel's link: header, archive and object in target/capi-dist
	+@FEATURES='$(FEATURES)' $(WITHOUT_MAKE) capi/dist.sh

# A machine that boots Xen without KVM keeps one of two processors busy. Two such machines at a time starve each other: a guest then
# waits minutes for xenstore.
test: packages-for-test packages-for-test-xen packages-for-posix ## All tests, those that need no Xen beside those that do
	+@tests/side-by-side.sh test-slow test-fast-beside

# Neither waits for the other's builds, or replaces what the other has built.
test-fast-beside: export CARGO_TARGET_DIR := $(CURDIR)/target/fast
test-fast-beside: test-fast

test-fast: test-host test-features test-oldest-rust test-other-targets test-miri ## All that needs no Xen: some minutes

test-slow: test-elf test-size test-capi test-boot test-guests test-xen test-xen9pd test-hostile-short test-trixie test-posix ## The rest: machines that boot Xen, and the POSIX suites

# The host tests include the models of shared words, which loom runs.
test-host: packages-for-test ## Format, lints, docs, packages, and the host tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet --features embedded-io,argo,cache,recovery,trace,vchan,idc -- -D warnings
	$(CARGO) clippy --quiet --features toolbox --bins -- -D warnings
	$(CARGO) fmt --check --manifest-path $(EMBED)/Cargo.toml
	$(CARGO) clippy --quiet --manifest-path $(EMBED)/Cargo.toml --target-dir target/embed -- -D warnings
	$(CARGO) fmt --check --manifest-path template/Cargo.toml
	$(CARGO) fmt --check --manifest-path benches/clients/Cargo.toml
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --no-deps $(PUBLISHED:%=-p %) --features rt,argo,cache,recovery,trace,vchan,idc,embedded-io
	XEN9P_REQUIRE_SERVERS=1 $(CARGO) test --quiet --workspace --features embedded-io,argo,cache,recovery,trace,vchan,idc
	$(CARGO) test --quiet --lib --features rt,argo,cache,recovery,trace,vchan rt::
	@# Cargo unpacks and compiles a version once for all times: what an earlier run made would be taken for what is packaged now.
	@rm -rf target/packaged $(foreach crate,$(PUBLISHED),$${CARGO_HOME:-$$HOME/.cargo}/registry/*/-*/$(crate)-[0-9]*)
	$(CARGO) package --quiet --allow-dirty --target-dir target/packaged $(PUBLISHED:%=-p %) --features toolbox 2>&1 | { ! grep -v '^warning: ignoring \|^warning: profile package spec \|manifest has no\|^$$\|See https'; }
	@rm -rf target/packaged

test-features: ## Each library with sets of its features
	+@$(WITHOUT_MAKE) tests/feature-sets.sh $(PUBLISHED)
	$(CARGO) test --quiet -p xen9p-capi

test-other-targets: ## That the 9P libraries compile for aarch64, where its core library is installed
	+@$(WITHOUT_MAKE) tests/other-targets.sh $(PORTABLE)

test-miri: ## What works on raw pointers, in Miri where it is installed
	+@$(WITHOUT_MAKE) tests/miri.sh

# Where the compiler in use is a newer one, rustup brings the oldest.
test-oldest-rust: ## That the Rust version which Cargo.toml promises is enough
	@version=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	case "$$(rustc --version)" in \
		"rustc $$version."*) echo "Rust $$version, the oldest that is promised, is the one in use";; \
		*) if rustup toolchain install "$$version" --profile minimal; then \
			for features in embedded-io toolbox; do \
				$(CARGO) "+$$version" check --quiet --lib --bins --features "$$features" --target-dir target/oldest-rust || exit 1; \
			done; \
		else \
			echo "Rust $$version, the oldest that is promised, can't be had here: not tried"; \
		fi;; \
	esac

test-elf: kernel ## What must and must not be in the image's ELF file
	@tests/elf-check.sh target/image/xen9p

test-capi: ## That the C library links in the ways that kernels link, where it can be built
	+@for features in '' vchan cache; do FEATURES=$$features $(WITHOUT_MAKE) capi/dist.sh || [ $$? -eq 77 ] || exit 1; done
	@for dist in target/capi-dist target/capi-dist-vchan target/capi-dist-cache; do [ ! -e $$dist/lib/xen9p.o ] || tests/capi-links.sh $$dist || exit 1; done

test-boot: packages-for-run bootcheck ## The image as dom0, directly under Xen
	@$(OWN_TESTS) test-boot

test-xen: packages-for-test-xen argo-kernel cache-kernel kernel embed idc-guest $(XEN9PD) $(XEN9PD:xen9pd-static=lying-frontend) $(XEN9PD:xen9pd-static=posix-static) ## The image under xl, with real 9pfs devices
	@$(OWN_TESTS) test-xen

test-guests: packages-for-run guests ## Guests that are not ours, through `xen-bed test`: Linux, GRUB, kernels of 50 lines
	@$(XEN_BED) test tools/bed/examples/guests.toml $(if $(ONLY),--only "$(ONLY)")

guests:
	+@mkdir -p target/guests
	+@$(MAKE) --no-print-directory --silent -C tools/bed/examples/kernels OUT=../../../../target/guests
	+@tools/bed/examples/get-grub target/guests

test-hostile: packages-for-run hostile ## The image against hostile backends, in dom0
	@$(OWN_TESTS) test-hostile

test-hostile-short: packages-for-run hostile
	@SHORT=1 $(OWN_TESTS) test-hostile

test-migrate: packages-for-run kernel xen9pd-static ## Guests with files in use go from one Xen to another, live
	+@$(CARGO) build --profile image --quiet --features rt,recovery --bin migrating-guest
	@strip -o target/migrating-guest.elf target/image/migrating-guest
	+@$(OWN_TESTS) test-migrate

test-argo: packages-for-argo argo-kernel ## Guests that serve each other by Argo, under a Xen that is built with it, where that can be had
	+@$(OWN_TESTS) test-argo

soak: packages-for-run kernel ## A guest works for MINUTES on two shares while their backend is killed, and itself saved, again and again
	+@$(CARGO) build --profile image --quiet --features rt,recovery --bin soak-image
	@strip -o target/soak.elf target/image/soak-image
	+@$(OWN_TESTS) soak

test-xen9pd: packages-for-run kernel xen9pd-static lying-frontend posix-static ## A few of these with xen9pd on Debian 12; test-trixie has them on 13
	+@BED=bookworm BACKEND=xen9pd SHORT=1 $(OWN_TESTS) test-xen

test-trixie: packages-for-run kernel samples xen9pd-static lying-frontend posix-static ## A few of these, and `make run`, on Debian 13
	+@BED=trixie SHORT=1 $(OWN_TESTS) test-xen
	+@BED=trixie $(RUN_IMAGE)

# Suites are installed in the versions that the list of expected failures is for.
test-posix: packages-for-posix ## POSIX suites on a FUSE mount of the client, over xen9pd, QEMU and diod
	+@$(CARGO) install --quiet --root target/posix-suites --target-dir target/posix-suites-build pjdfstest@0.2.2 fsx@0.3.2
	+@$(CARGO) build --release --quiet -p xen9p-posix -p xen9pd
	@SUITES=target/posix-suites/bin LOGS=target/posix-logs target/release/posix

packages-for-run:
	+@tools/bed/host-packages run $(filter argo,$(BED))

packages-for-argo:
	+@tools/bed/host-packages run argo

packages-for-test:
	+@tools/bed/host-packages run test trace

packages-for-test-xen:
	+@tools/bed/host-packages run trace

packages-for-posix:
	+@tools/bed/host-packages posix

packages-for-count:
	+@tools/bed/host-packages count

clean: ## Remove everything built, the cached dom0 included
	rm -rf target
