# make demo   watch a real Pod being built, run and used
# make test   run everything this machine can run
# make vm-test   run, in a virtual machine, the tests that need what this machine may not have
#                (SUITE=trixie|bookworm, INIT=tiny|systemd, ARGS=for pytest); make vm-test-all runs all tests there
# make vm-shell  a shell in that machine
# make install   pyrun into /opt/pyrun, and the command into /usr/local/bin
# All install what they need first (Debian packages, a virtual environment, the compiled parts, the images)
# and are quick when all is there.

SHELL := /bin/sh
VENV := .venv
BUILD := build
PREFIX := /opt/pyrun
IMAGES := .cache/images
STAMPS := .cache/stamps
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Debian's own interpreter: the headers of the package python3-dev belong to it.
PYTHON ?= /usr/bin/python3

# Tests mostly wait: two at a time keep a processor busy.
WORKERS ?= $(shell expr 2 \* $$(nproc))

BUILD_PACKAGES := gcc libc6-dev libcap-dev musl-tools pkg-config python3 python3-dev python3-venv
RUN_PACKAGES := iproute2 libnftables1 nftables skopeo zstd
IMAGE_PACKAGES := busybox-static mmdebstrap
DEMO_PACKAGES := curl
TEST_PACKAGES := docker-registry fish procps strace util-linux zsh
# These the guest does without.
HOST_TEST_PACKAGES := vagrant
VM_PACKAGES := e2fsprogs git mmdebstrap util-linux

# The virtual machine: which Debian and which init; with fewer processors it takes less, and longer.
# Its tests: what a machine may lack, and what shall be seen there as well though it runs anywhere (the lab).
SUITE ?= trixie
INIT ?= systemd
VM_PROCESSORS ?= 2
VM_TESTS ?= guest
VM_RESULTS ?= .cache/vm-results/$(SUITE)-$(INIT)

.PHONY: all demo test install vm-test vm-test-all vm-shell print-packages build images clean

all: build

demo: build images $(STAMPS)/demo-packages
	$(SUDO) demo/run --pyrun "$(CURDIR)/$(VENV)/bin/pyrun" --images "$(CURDIR)/$(IMAGES)"

test: build images $(STAMPS)/demo-packages $(STAMPS)/test-packages $(STAMPS)/test-tools
	$(SUDO) env PYRUN_TEST_IMAGES="$(CURDIR)/$(IMAGES)" tools/test-all $(VENV)/bin/python $(WORKERS) $(ARGS)

VM = $(SUDO) env PYRUN_TEST_IMAGES="$(CURDIR)/$(IMAGES)" PYRUN_VM_KVM="$$PYRUN_VM_KVM" \
     $(PYTHON) tests/vm/run --suite $(SUITE) --init $(INIT) --smp $(VM_PROCESSORS)
# A test of a few seconds may take minutes where every instruction is emulated.
VM_PYTEST = --results $(VM_RESULTS) -- tools/test-all python $(VM_PROCESSORS) -v --timeout 1200 \
            --durations 10 --junitxml /results/junit.xml

# systemd's guest has everything: nothing may be skipped there.
VM_STRICT = $(if $(filter systemd,$(INIT)),--env PYRUN_MUST_WORK=1)

vm-test: images $(STAMPS)/vm-packages
	$(VM) $(VM_STRICT) $(VM_PYTEST) --only-requires "$(VM_TESTS)" $(ARGS)

vm-test-all: images $(STAMPS)/vm-packages
	$(VM) --timeout 7200 $(VM_PYTEST) $(ARGS)

vm-shell: images $(STAMPS)/vm-packages
	$(VM) --timeout 0 --shell

build: $(STAMPS)/build

# For a machine that shall have pyrun, not develop it; tools/provision does this in the Vagrant box.
install: $(STAMPS)/build-packages
	[ -x $(PREFIX)/bin/pip ] || $(SUDO) $(PYTHON) -m venv $(PREFIX)
	$(SUDO) $(PREFIX)/bin/pip install -q --disable-pip-version-check --root-user-action ignore .
	$(SUDO) ln -sfn $(PREFIX)/bin/pyrun /usr/local/bin/pyrun

images: $(STAMPS)/image-packages
	$(SUDO) $(PYTHON) images/build --output $(IMAGES)

clean:
	$(SUDO) rm -rf $(BUILD) $(VENV) .cache pyrun/libexec pyrun/kernel/_kernel*.so pyrun/network/_nftables.py

# Packages: asked for only when one is missing, because asking takes longer than looking.
define need
	@mkdir -p $(STAMPS)
	@dpkg-query -W -f '$${Status}\n' $(1) 2>/dev/null | grep -c '^install ok installed$$' | grep -qx $(words $(1)) \
	  || { $(SUDO) apt-get update -q && \
	       $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(1); }
	@touch $@
endef

$(STAMPS)/build-packages: Makefile
	$(call need,$(BUILD_PACKAGES) $(RUN_PACKAGES))
$(STAMPS)/image-packages: Makefile
	$(call need,$(IMAGE_PACKAGES))
$(STAMPS)/demo-packages: Makefile
	$(call need,$(DEMO_PACKAGES))
# Debian's docker-registry starts itself as a service where there is an init system; the tests start their own.
$(STAMPS)/test-packages: Makefile
	$(call need,$(TEST_PACKAGES) $(HOST_TEST_PACKAGES))

$(STAMPS)/vm-packages: Makefile
	$(call need,$(VM_PACKAGES))

# What a machine needs to build, run and test pyrun; the guest has it from the start.
print-packages:
	@echo $(BUILD_PACKAGES) $(RUN_PACKAGES) busybox-static $(DEMO_PACKAGES) $(TEST_PACKAGES)

$(STAMPS)/venv: $(STAMPS)/build-packages pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python tools/requirements build runtime > $(STAMPS)/requirements.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check -r $(STAMPS)/requirements.txt
	@touch $@

$(STAMPS)/test-tools: $(STAMPS)/venv
	$(VENV)/bin/python tools/requirements test > $(STAMPS)/test-requirements.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check -r $(STAMPS)/test-requirements.txt
	@touch $@

# The tree itself becomes runnable: the compiled parts go into it, and the environment finds it.
$(STAMPS)/build: $(STAMPS)/venv meson.build csrc/meson.build $(wildcard csrc/*.[ch]) pyrun/kernel/build_kernel.py \
                 $(shell find pyrun -name "*.py" ! -name _nftables.py)
	@[ -d $(BUILD) ] || PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/meson setup $(BUILD)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/meson compile -C $(BUILD) in-place
	$(VENV)/bin/python tools/link-tree
	$(VENV)/bin/python -m compileall -q pyrun
	@touch $@
