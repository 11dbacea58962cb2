# What people run. Everything happens in .venv; nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"
PORT ?= 9101

.DEFAULT_GOAL := help
.PHONY: help install repro demo reproduce verify verify-aws test quick lint types metrics plots report experiments hooks fuzz bench-runtime bench-music bench-ablations bench-families bench-data bench-rollouts s3 push pull audit clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed  ## create .venv with the pinned dependencies

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; name another one: make PYTHON=python3.13" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.lock
	@touch $@

repro: install  ## run the pipeline: from music to lambda_pkg/function.zip, verify it, and print the table of the models
	$(RUN) dvc repro
	$(RUN) python -m stages.verify
	@$(BIN)/python -m pianoai.summary

demo: PORT = 8000
demo: install  ## the page that the function serves, on this machine, with the model that is there: make demo PORT=8000
	$(RUN) dvc repro web
	@$(BIN)/python -m pianoai serve --port $(PORT)

reproduce: install  ## run everything again, and say what equals the committed results and whether the rest agrees
	$(RUN) python -m pianoai.reproduction

verify: install  ## run lambda_pkg/function.zip as Lambda would, measure it, and hold it to its limits
	$(RUN) python -m stages.verify

verify-aws: install  ## the same with a deployed function: make verify-aws FUNCTION=pianoai
	@test -n "$(FUNCTION)" || { echo "error: name the function: make verify-aws FUNCTION=pianoai" >&2; exit 1; }
	$(RUN) python -m stages.verify "$(FUNCTION)"

metrics: install  ## print the table of the models again
	@$(BIN)/python -m pianoai.summary

plots: install  ## draw curves and samples on one page that opens without a network: plots/index.html
	@$(BIN)/python -m pianoai.plots

report: install  ## everything on one page that can be sent: tables, curves, pictures, music to hear: report.html
	$(RUN) dvc repro report
	@$(BIN)/python -m pianoai.report

experiments: install  ## print DVC's table of experiments: likelihoods, winners and parameters, where they differ
	@$(RUN) dvc exp show --no-pager --only-changed \
		--drop '^(?!Experiment$$|winner$$|metrics/\w+.json:(valid|test).nll$$|[a-z]+\.(?!seconds|peak_mb)[a-z_]+$$)'

hooks: install  ## have git check style, types and dvc.lock before a commit, and fetch outputs from the cache on checkout
	$(BIN)/python -m pip install --disable-pip-version-check --quiet pre-commit==4.7.0
	$(BIN)/pre-commit install

test: install  ## run all tests, two files at a time
	GOMP_SPINCOUNT=1000 $(RUN) python -m pytest -n 2 --dist loadfile

quick: install  ## run the tests that take seconds
	$(RUN) python -m pytest -n 2 --dist loadfile -m "not slow"

lint: install  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## check types, strictly, of Python and of the page
	$(BIN)/mypy
	@$(BIN)/python -m pianoai.web

fuzz: install  ## send the function events of every kind, and the stage download damaged files, for eight minutes each (Linux, Python 3.11 to 3.13)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet atheris==3.0.0
	$(BIN)/python -m tests.fuzz_handler 480
	$(BIN)/python -m tests.fuzz_sources 480 2> fuzz.log

push: install  ## store data and models in the remote, as `dvc push`, with a line on what to do when that fails
	$(RUN) python -m pianoai.storage push

pull: install  ## fetch them, as `dvc pull`
	$(RUN) python -m pianoai.storage pull

audit: install  ## hash every object of the cache and of the remote again, and list the damaged ones
	$(RUN) python -m pianoai.storage.audit

s3: install  ## an S3 server on this machine, which is the remote while it runs: make s3 PORT=9101
	$(RUN) python -m pianoai.storage.server --port $(PORT)

bench-runtime: install .cache/benchmarks/installed  ## compare the runtime with ONNX Runtime and TorchScript
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONPATH=.cache/benchmarks \
		$(BIN)/python -m benchmarks.runtime

.cache/benchmarks/installed: benchmarks/requirements.txt
	rm -rf $(@D)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --target $(@D) --requirement $<
	@touch $@

bench-music: install  ## train on the benchmark of 2012: make bench-music MAT=Piano_midi.mat (three seeds, half an hour)
	@test -n "$(MAT)" || { echo "error: name the file: make bench-music MAT=Piano_midi.mat" >&2; exit 1; }
	$(RUN) python -m benchmarks.piano_midi --mat "$(MAT)"

bench-ablations: install  ## the same without one ingredient after another: make bench-ablations MAT=Piano_midi.mat (an hour)
	@test -n "$(MAT)" || { echo "error: name the file: make bench-ablations MAT=Piano_midi.mat" >&2; exit 1; }
	$(RUN) python -m benchmarks.ablations --mat "$(MAT)"

bench-families: install  ## train each of the three families, and a GAN without a critic, with three seeds (70 minutes)
	$(RUN) dvc repro window
	$(RUN) python -m benchmarks.families

bench-data: install  ## time and memory from MIDI files to windows, against pypianoroll: make bench-data FOLDER=music (ten minutes)
	@test -n "$(FOLDER)" || { echo "error: name the folder: make bench-data FOLDER=music" >&2; exit 1; }
	$(RUN) python -m benchmarks.data --folder "$(FOLDER)"

bench-rollouts: install  ## let the model that ships play on for 2,048 frames, and compare that with real music
	$(RUN) dvc repro export
	$(RUN) python -m benchmarks.rollouts

clean:  ## remove .venv and tool caches, never data, models or the DVC cache
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
