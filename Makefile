# The few commands of the project; each installs what it needs first (see .ci/setup).
#
#   make demo    a fleet of simulated devices and their twins, live on this terminal
#   make test    all that a change must pass
#   make crash   kills a live run again and again, and counts what is lost: KILLS=20 SEED=1
#   make check   format and lints only
#   make kafka   a Kafka broker on 127.0.0.1:9092 for trying things out, until Ctrl-C
#   make fmt     formats the sources
#   make bench   the measurements of the README

# Cargo may have been installed a minute ago, and not be in this shell's path yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: demo test crash check kafka fmt bench

demo:
	@.ci/setup
	cargo run --release --no-default-features -- demo $(ARGS)

check:
	@.ci/setup
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings

test: check
	@.ci/setup mosquitto kcat java mvn chromium curl python3-venv
	@.ci/kafka
	@.ci/python-tools
	@.ci/promtool
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps
	cargo test --release --workspace
	@echo "make test: all passed"

# The line with the counts comes last, behind what the test program says of itself.
crash: export KILLS := $(KILLS)
crash: export SEED := $(SEED)
crash:
	@.ci/setup mosquitto kcat java mvn
	@.ci/kafka
	@export CRASH_LINE=$$(mktemp); \
	cargo test --release --test suite crash:: -- --nocapture --test-threads 1; status=$$?; \
	cat "$$CRASH_LINE"; rm "$$CRASH_LINE"; exit $$status

kafka:
	@.ci/setup java mvn
	@exec .ci/kafka-broker

fmt:
	@.ci/setup
	cargo fmt --all

bench:
	@.ci/setup mosquitto kcat java mvn
	@.ci/kafka
	cargo bench --workspace
