# contrail-lb. `make demo` runs it, `make test` tests it; each sets up what it needs.

CARGO ?= cargo
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help demo test verify fmt clippy doc licences benches fuzz bench bench-versus convergence build install man clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the main job, with nothing installed and no root
	@.ci/setup build
	@$(CARGO) build --release --bin contrail-lb
	@exec target/release/contrail-lb demo

test: ## every test; as root with real routers in network namespaces
	@.ci/setup build routers
	@if ! $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) test --workspace --no-fail-fast && LB_CORE_ENGINE=epoll $(CARGO) test -p lb-core --test '*'; \
	elif [ "$$(id -u)" -eq 0 ]; then \
		LB_CORE_ENGINE=epoll $(CARGO) nextest run -p lb-core --test '*' --no-fail-fast && \
		$(CARGO) nextest run --workspace --no-fail-fast; \
	else \
		echo "not root: the tests with real routers in network namespaces are skipped"; \
		$(CARGO) nextest run --workspace --no-fail-fast -E 'not binary(interop)'; \
	fi

verify: fmt clippy test doc licences benches fuzz ## everything that CI checks

fmt: ## formatting is as rustfmt wants it
	$(CARGO) fmt --all --check

clippy: ## no lint, in no target
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc: ## the documentation builds without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --quiet

licences: ## every dependency's licence is one that deny.toml allows
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny check bans licenses sources; \
	else \
		.ci/licences; \
	fi

benches: ## the benchmarks compile
	$(CARGO) check --workspace --benches --quiet

FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
fuzz: ## every fuzz target on its corpus and some mutations of it, always the same ones
	@for target in $(FUZZ_TARGETS); do \
		$(CARGO) run --manifest-path fuzz/Cargo.toml --no-default-features --target-dir target/fuzz --quiet --bin $$target || exit 1; \
	done

bench: ## micro-benchmarks
	$(CARGO) bench --workspace

bench-versus: ## what a request, a byte, a connection costs beside HAProxy, nginx and the kernel; 25 minutes, ARGS=--quick: 3
	@.ci/setup build versus
	@$(CARGO) build --release --bin contrail-lb
	@benches/versus/run --binary target/release/contrail-lb $(ARGS)

convergence: ## how fast the router follows, beside HAProxy and BIRD; as root, takes an hour
	@.ci/setup build routers versus
	@$(CARGO) build --release --bin contrail-lb
	@benches/convergence/run --binary target/release/contrail-lb $(ARGS)

build: ## the release binary, target/release/contrail-lb
	@.ci/setup build
	$(CARGO) build --release --bin contrail-lb

PREFIX ?= /usr/local
install: build ## binary, manual page and systemd unit below PREFIX (/usr/local)
	install -D -m 0755 target/release/contrail-lb $(DESTDIR)$(PREFIX)/sbin/contrail-lb
	install -D -m 0644 docs/contrail-lb.8 $(DESTDIR)$(PREFIX)/share/man/man8/contrail-lb.8
	install -D -m 0644 docs/contrail-lb.service $(DESTDIR)$(PREFIX)/lib/systemd/system/contrail-lb.service

man: build ## write the manual page anew from the command-line grammar
	target/release/contrail-lb man > docs/contrail-lb.8

clean: ## remove what was built
	$(CARGO) clean
