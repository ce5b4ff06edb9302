# make run    set up, take the inputs in data/inbox through all stages, show the leaderboard
# make ui     Dagster on the same state (PORT=3000)
# make test   set up and run the whole suite
# make bench  the measurements under benchmarks/ (half an hour; quality where HYBRID_INSTANCES names instances)
# make faults 1,000 jobs against the provider emulator under a fault plan, processes killed at random: what was lost?
# make lint   ruff, mypy and the import contracts, without the tests
# make emulator  a quantum cloud on loopback with noisy devices (FAULTS=plan.yaml); staging runs on it
# make clean  remove var/ (all state) but keep .venv
PORT ?= 3000
HYBRID := .venv/bin/hybrid

.PHONY: run ui test lint bench faults emulator setup setup-dev clean

run: setup
	@$(HYBRID) run

ui: setup
	@$(HYBRID) ui --port $(PORT)

test: setup-dev
	.venv/bin/python -m pytest -n 4 --dist loadfile

bench: setup-dev
	for name in imports overhead burst publish_readers ledger warm_worker dispatch statevector_kernel; do .venv/bin/python -m benchmarks.$$name || exit 1; done
	$(if $(HYBRID_INSTANCES),.venv/bin/python -m benchmarks.quality --replay 100,@echo "quality: left out, HYBRID_INSTANCES names no folder of instances")

lint: setup-dev
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

faults: setup-dev
	@.venv/bin/python -m tests.faults.figures $(ARGS)

emulator: setup
	.venv/bin/python -m resources.emulator $(if $(FAULTS),--faults $(FAULTS))

setup:
	@sh setup.sh

setup-dev:
	@sh setup.sh dev

clean:
	rm -rf var
