# The two commands: `make demo` plays the whole story, `make test` passes every test.
# Both need git, make, Rust and Go, and set up everything else themselves.
.DEFAULT_GOAL := help
.PHONY: help demo check test lint generated images simulate bench bench-memory bench-neighbour bench-operator outages kills

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: ## The whole story on this machine, under three minutes after the build (KEEP=1 leaves it running)
	@cargo build --workspace --bins
	@cargo run --quiet --bin demo

test: ## Every test, from unit to end to end, with the set-up it needs
	@cargo build --workspace --bins
	@cargo run --quiet --bin prepare
	@cargo test --workspace

check: ## What one wants to know every minute: format, clippy, unit tests, tidy
	@.ci/check

lint: ## Format and clippy, as the gate runs them
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings

generated: ## Writes what is generated and every golden again: CRD, API page, bundle, help, metrics, lines, columns, Events
	@UPDATE=1 cargo test -q -p kanarie-crds --test it generated
	@UPDATE=1 cargo test -q -p kanarie-gateway --test it -- agent_protocol goldens help
	@UPDATE=1 cargo test -q -p kanarie-rollout --test it the_page_about_the_judge
	@UPDATE=1 cargo test -q -p kanarie-operator --lib metrics
	@UPDATE=1 cargo test -q -p kanarie-operator --test it help
	@UPDATE=1 cargo test -q -p kanarie-tests --test it -- charts:: api::kubectl operator::rollouts::scenario_33
	@UPDATE=1 cargo test -q -p kanarie-tests --test tidy scenarios

images: ## Static musl images FROM scratch, with buildah or docker
	@charts/images/build

simulate: ## The judge in a hundred thousand rollouts of every kind, with its bounds; writes docs/judge.md (2 h)
	@cargo test --release -p kanarie-rollout --test it -- --ignored --nocapture every_bound_holds

bench: ## What a webhook and a whole message cost beside a floor, as docs/bench.md says (8 min)
	@cargo build --release --workspace --bins
	@cargo run --quiet --release --bin bench

bench-memory: ## What the embedded store takes of a pod with millions of SIDs and messages (10 min, 3 GB)
	@cargo build --release --workspace --bins
	@cargo run --quiet --release --bin bench-memory

bench-neighbour: ## What a channel feels while another one's agent hangs, on both stores (15 min)
	@cargo build --release --workspace --bins
	@cargo run --quiet --release --bin neighbour

bench-operator: ## What ten thousand channels cost the operator, on a control plane of its own (1 h; KANARIE_BENCH_CHANNELS=300)
	@cargo build --release --workspace --bins
	@cargo run --quiet --release --bin bench-operator

outages: ## Five minutes of every kind of outage of an agent, 20 messages a second each, both stores (15 min)
	@cargo build --release --workspace --bins
	@KANARIE_OUTAGE_SECONDS=300 cargo test --release -p kanarie-tests --test it -- \
		--include-ignored --nocapture --test-threads 1 patience::what_customers

kills: ## Five minutes in which an operator is killed every four seconds, alone and of two with a Lease (15 min)
	@cargo build --workspace --bins
	@KANARIE_KILLS=75 cargo test -p kanarie-tests --test it -- --nocapture --test-threads 1 crash::scenario_40
