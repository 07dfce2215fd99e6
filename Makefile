# Targets for people and for CI. Each one sets up what it needs.
.DEFAULT_GOAL := help
.PHONY: help demo test check format test-long clean

BIN := .venv/bin
# Threads of numerical libraries wait without spinning, so that processes side by side do not slow
# each other down.
export OMP_WAIT_POLICY := passive

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: ## the whole chain on this machine, on synthetic hands: about 10 minutes on 2 cores
	@.ci/setup demo
	@$(BIN)/hbseg demo

test: check-code ## everything that CI runs
	@.ci/setup dev
	$(BIN)/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder \
	  -m "not slow" --durations 15

check: check-code ## format, lint, types, import contracts, spelling, unit tests
	$(BIN)/python -m pytest tests/unit -n 2 -q

.PHONY: check-code
check-code:
	@.ci/setup dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/yamllint --strict .
	$(BIN)/hadolint images/*.Dockerfile tests/cluster/Dockerfile

format: ## rewrite the code in the house's format
	@.ci/setup dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: cluster cluster-down
cluster: ## a Kubernetes node on this machine, for tests and by hand: root, Linux with cgroup v1
	@.ci/setup dev
	@$(BIN)/python -m tests.cluster.node up

cluster-down: ## end that node
	@$(BIN)/python -m tests.cluster.node down

.PHONY: images
images: ## the control, train and tensorrt images: REGISTRY=... [PUSH=1] [IMAGES=control]
	@images/build

.PHONY: test-tensorrt
test-tensorrt: ## our TensorRT engines, built by TensorRT-RTX without a GPU
	@.ci/setup tensorrt
	.venv-tensorrt/bin/python -m pytest tests/tensorrt

test-long: ## soaks and slow drills, by hand
	@.ci/setup dev
	$(BIN)/python -m pytest tests -m slow

.PHONY: test-gpu
test-gpu: ## trainings and engines on this machine's NVIDIA GPU, by hand
	@.ci/setup dev
	$(BIN)/python -m tests.gpu hbseg-gpu/$$(date +%Y-%m-%dT%H%M%S)

.PHONY: bench
bench: ## what commands cost, beside plain ways to the same end: a table, and bench.json
	@.ci/setup dev
	@$(BIN)/python -m tests.bench

clean: ## remove what was built; .venv stays
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.PHONY: chart
chart: ## regenerate README and schema of the Helm chart from its values and the profile
	@.ci/setup dev
	$(BIN)/python -m helm.generate

.PHONY: docs
docs: ## regenerate docs/cli.md from the parser
	@.ci/setup dev
	$(BIN)/typer hbseg_cli.main utils docs --name hbseg --output docs/cli.md
