# make demo: the first thing to try.  make test: everything CI runs, but for what is slow.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# A file's tests share what they make once; files are taken in their order, or the longest would come last.
TWO_AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: install demo test test-all proto clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"fedkeras needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m fedkeras demo

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -m 'not slow' $(TWO_AT_ONCE)

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -m slow $(TWO_AT_ONCE)

# The generated code must come from a protoc no newer than TensorFlow's protobuf allows: 6.31.
proto:
	$(PYTHON) -m venv build/protoc
	build/protoc/bin/pip install --quiet 'grpcio-tools==1.74.0'
	cd fedkeras/runtime && ../../build/protoc/bin/python -m grpc_tools.protoc -I. --python_out=. federation.proto

clean:
	rm -rf $(VENV) runs
