# pgqrsd: see README.md. Everything that is built goes below $(B).
#
#   make            build everything            make test     all tests
#   make run        a demonstration             make bench    benchmarks
#   make install    PREFIX=/usr/local DESTDIR=  make lint     clang-tidy, cppcheck, man pages
#   make check-asan check-ubsan check-tsan check-valgrind     all tests, watched
#   make deb        Debian packages             make deb-test   install, upgrade, purge them (as root)
#   make container-test   build and run the image of packaging/container (as root)
#   make chaos      SEED=N MINUTES=1 STORE=sqlite or postgres: harm to a pgqrsd under load

VERSION  := 0.1.0
B        ?= build
PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib
ifeq ($(origin CC),default)
CC       := gcc
endif
SANITIZE ?=

DEPS_BUILD := gcc libc6-dev make pkg-config libevent-dev libnng-dev libsqlite3-dev libpq-dev \
              libjansson-dev libyaml-dev libcurl4-openssl-dev libssl-dev libseccomp-dev \
              libncurses-dev tzdata
DEPS_TEST  := libcmocka-dev procps tmux postgresql postgresql-client pgbouncer systemd prometheus python3-venv \
              $(if $(filter x86_64,$(shell uname -m)),user-mode-linux)
DEPS_LINT  := clang libclang-rt-14-dev clang-tidy clang-format cppcheck mandoc man-db
DEPS_CHECK := valgrind
DEPS_DEB   := build-essential debhelper lintian
DEPS_DOCS  := curl g++ groff-base man-db mandoc python3-venv sqlite3

# V=1 shows the commands.
Q := $(if $(V),,@)

.PHONY: all run test check chaos check-asan check-ubsan check-tsan check-valgrind bench fuzz install deb deb-test container-test \
        uninstall clean format lint deps deps-build deps-lint deps-check
all: programs

WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wundef \
          -Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla -Werror
ifeq ($(findstring clang,$(shell $(CC) --version 2>/dev/null)),)
WARN   += -Wno-format-truncation
endif
HARDEN := -fstack-protector-strong -fPIC
ifeq ($(SANITIZE),)
HARDEN += -D_FORTIFY_SOURCE=2
OPT    ?= -O2 -g
else
OPT    ?= -O1 -g -fno-omit-frame-pointer
SANFLAGS := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
endif
CFLAGS  ?=
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DPGQRS_VERSION='"$(VERSION)"' -I. -Iinclude $(INC_LIBS) $(OPT) \
             $(WARN) $(HARDEN) $(SANFLAGS) $(CFLAGS)
LINK    = $(CC) $(OPT) $(SANFLAGS) -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)

# Debian's NNG has no pkg-config file.
PKG        = $(shell pkg-config --libs $(1) 2>/dev/null)
INC_LIBS   = $(shell pkg-config --cflags libpq 2>/dev/null)
LIBS_EVENT = $(call PKG,libevent_core)
LIBS_HTTP  = $(call PKG,libevent)
LIBS_NNG   := -lnng
LIBS_STORE = $(call PKG,sqlite3 libpq)
LIBS_JSON  = $(call PKG,jansson)
LIBS_YAML  = $(call PKG,yaml-0.1)
LIBS_SECCOMP = $(call PKG,libseccomp)
LIBS_SCREEN = $(call PKG,ncursesw)

# ---- what is built: one archive a folder, a program from the file that has its main ----

src  = $(sort $(wildcard $(addsuffix /*.c,$(1))))
objs = $(patsubst %.c,$(B)/obj/%.o,$(1))

MAIN_supervisor := supervisor/pgqrsd.c
MAIN_broker     := broker/pgqrs_broker.c
MAIN_gateway    := gateway/pgqrs_gateway.c
MAIN_worker     := worker/pgqrs_worker.c
MAIN_cli        := cli/pgqrs.c
MAIN_chaos      := tests/chaos/chaos_main.c

SRC_base       := $(call src,base)
SRC_config     := $(call src,config)
SRC_ipc        := $(call src,ipc)
SRC_store      := $(call src,store store/sqlite store/postgres store/remote)
SRC_supervisor := $(filter-out $(MAIN_supervisor),$(call src,supervisor))
SRC_broker     := $(filter-out $(MAIN_broker),$(call src,broker))
SRC_gateway    := $(filter-out $(MAIN_gateway),$(call src,gateway))
SRC_worker     := $(filter-out $(MAIN_worker),$(call src,worker))
SRC_cli        := $(filter-out $(MAIN_cli),$(call src,cli))
SRC_client     := $(call src,lib)
SRC_support    := $(call src,tests/support)
SRC_chaos      := $(filter-out $(MAIN_chaos),$(call src,tests/chaos))
SRC_bench      := $(filter-out bench/bench_%,$(call src,bench))

ROOMS := base config ipc store supervisor broker gateway worker cli client support chaos bench
lib = $(B)/lib$(1).a
define archive
$(call lib,$(1)): $(call objs,$(SRC_$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$^
endef
$(foreach room,$(ROOMS),$(eval $(call archive,$(room))))

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    $<")
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/bin/pgqrsd: $(call objs,$(MAIN_supervisor)) $(foreach l,supervisor config ipc base,$(call lib,$(l)))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(LINK) -o $@ $^ $(LIBS_EVENT) $(LIBS_NNG) $(LIBS_YAML) $(LIBS_JSON)
$(B)/libexec/pgqrs/pgqrs-broker: $(call objs,$(MAIN_broker)) $(foreach l,broker store ipc base,$(call lib,$(l)))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(LINK) -o $@ $^ $(LIBS_EVENT) $(LIBS_NNG) $(LIBS_STORE) $(LIBS_JSON)
$(B)/libexec/pgqrs/pgqrs-gateway: $(call objs,$(MAIN_gateway)) $(foreach l,gateway store ipc base,$(call lib,$(l)))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(LINK) -o $@ $^ $(LIBS_HTTP) $(LIBS_NNG) $(LIBS_STORE) $(LIBS_JSON) -lpthread
$(B)/libexec/pgqrs/pgqrs-worker: $(call objs,$(MAIN_worker)) $(foreach l,worker ipc base,$(call lib,$(l)))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(LINK) -o $@ $^ $(LIBS_NNG) $(LIBS_JSON) $(LIBS_SECCOMP) -ldl -lpthread
$(B)/bin/pgqrs: $(call objs,$(MAIN_cli)) $(foreach l,cli config store ipc base,$(call lib,$(l)))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(LINK) -o $@ $^ $(LIBS_STORE) $(LIBS_YAML) $(LIBS_JSON) $(LIBS_SCREEN) -lpthread

# ---- libpgqrs: shared and static; neither shows a symbol that is not in the map ----

LIBPGQRS_SO := $(B)/lib/libpgqrs.so.$(VERSION)
LIBPGQRS    := $(LIBPGQRS_SO) $(B)/lib/libpgqrs.a
LIBPGQRS_IN := $(call objs,$(SRC_client)) $(foreach l,store ipc base,$(call lib,$(l)))
$(LIBPGQRS_SO): $(LIBPGQRS_IN) lib/libpgqrs.map
	@mkdir -p $(@D)
	$(if $(V),,@echo "  SO    $@")
	$(Q)$(CC) $(OPT) $(SANFLAGS) -shared -Wl,-soname,libpgqrs.so.0 -Wl,--version-script=lib/libpgqrs.map \
	    -Wl,-z,relro,-z,now -Wl,--as-needed $(if $(SANITIZE),,-Wl,-z,defs) $(LDFLAGS) -o $@ \
	    $(LIBPGQRS_IN) $(LIBS_STORE) $(LIBS_JSON)
	$(Q)ln -sf $(@F) $(@D)/libpgqrs.so.0 && ln -sf libpgqrs.so.0 $(@D)/libpgqrs.so
$(B)/lib/libpgqrs.a: $(LIBPGQRS_IN) lib/libpgqrs.map
	@mkdir -p $(@D) $(B)/obj/lib
	$(if $(V),,@echo "  AR    $@")
	$(Q)sed -n 's/^ *\(pgqrs_[a-z_]*\);$$/\1/p' lib/libpgqrs.map >$(B)/obj/lib/exports
	$(Q)$(LD) -r -o $(B)/obj/lib/libpgqrs.o $(LIBPGQRS_IN)
	$(Q)objcopy --keep-global-symbols=$(B)/obj/lib/exports $(B)/obj/lib/libpgqrs.o
	@rm -f $@
	$(Q)$(AR) rcs $@ $(B)/obj/lib/libpgqrs.o

EXAMPLES := $(patsubst examples/clients/%.c,$(B)/examples/%,$(call src,examples/clients))
$(B)/examples/%: examples/clients/%.c include/pgqrs/pgqrs.h include/pgqrs/client_workflow.h $(LIBPGQRS_SO)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(CC) $(ALL_CFLAGS) -pie -o $@ $< -L$(B)/lib -lpgqrs -Wl,-rpath,$(abspath $(B)/lib) $(LIBS_STORE)

# ---- handlers: every C file in a folder of handlers is one plugin ----

HANDLERS      := $(patsubst examples/handlers/%.c,$(B)/lib/pgqrs/handlers/%.so,$(call src,examples/handlers))
TEST_HANDLERS := $(patsubst tests/handlers/%.c,$(B)/tests/handlers/%.so,$(call src,tests/handlers))
BENCH_HANDLERS := $(patsubst bench/handlers/%.c,$(B)/bench/handlers/%.so,$(call src,bench/handlers)) \
                  $(patsubst bench/preload/%.c,$(B)/bench/preload/%.so,$(call src,bench/preload))

HANDLER_LIBS_checksum = $(call PKG,libcrypto jansson)
HANDLER_LIBS_exec     = $(call PKG,jansson)
HANDLER_LIBS_webhook  = $(call PKG,libcurl jansson)
HANDLER_LIBS_order_workflow = $(call PKG,jansson)
HANDLER_LIBS_etl_workflow   = $(call PKG,jansson)
HANDLER_LIBS_etl_part       = $(call PKG,jansson)

define handler_rule
$(B)/$(1)/%.so: $(2)/%.c $(wildcard $(2)/*.h) include/pgqrs/handler.h
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  SO    $$@")
	$$(Q)$$(CC) $$(ALL_CFLAGS) -fvisibility=hidden -shared -Wl,-z,relro,-z,now -o $$@ $$< $$(HANDLER_LIBS_$$*)
endef
$(eval $(call handler_rule,lib/pgqrs/handlers,examples/handlers))
$(eval $(call handler_rule,tests/handlers,tests/handlers))
$(eval $(call handler_rule,bench/handlers,bench/handlers))
$(B)/tests/handlers/ledger_next.so: tests/handlers/ledger.c
$(eval $(call handler_rule,bench/preload,bench/preload))

PROGRAMS := $(B)/bin/pgqrsd $(B)/bin/pgqrs $(B)/libexec/pgqrs/pgqrs-broker \
            $(B)/libexec/pgqrs/pgqrs-gateway $(B)/libexec/pgqrs/pgqrs-worker
.PHONY: programs
programs: $(PROGRAMS) $(HANDLERS) $(LIBPGQRS) $(EXAMPLES)

# ---- tests: tests/test_*.c are unit tests, tests/it_*.c start real processes ----

TESTS   := $(patsubst tests/%.c,$(B)/tests/%,$(call src,tests))
$(B)/tests/%: $(B)/obj/tests/%.o $(foreach l,chaos support supervisor broker worker cli client config store ipc base,$(call lib,$(l)))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(LINK) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_EVENT) $(LIBS_NNG) \
	    $(LIBS_STORE) $(LIBS_YAML) $(LIBS_JSON) $(call PKG,cmocka) -ldl -lpthread
.SECONDARY:

.PHONY: test-build
test-build: programs $(TESTS) $(TEST_HANDLERS)
# While it is compiled, from PyPI: the schemas for packaging/kubernetes, and pgqrs' own client.
test: deps
	$(MAKE) --no-print-directory check CHECK_NEEDS=venv
.PHONY: venv
venv:
	@packaging/venv.sh $(B)/venv tests/support/manifests.txt
	@packaging/venv.sh $(B)/venv-pgqrs tests/support/pgqrs_client.txt
# T=name runs one test program, such as make check T=it_first_light.
check: test-build $(CHECK_NEEDS)
	@tests/run.sh $(B) $(T)

# A pgqrsd under load while a seeded script does harm to it; a seed gives the same choices again.
STORE   ?= sqlite
MINUTES ?= 1
CHAOS   := $(B)/chaos/chaos
chaos: deps
	$(MAKE) --no-print-directory programs $(TEST_HANDLERS) $(CHAOS)
	@$(CHAOS) $(abspath $(B)) $(STORE) $(MINUTES) $(SEED)
$(CHAOS): $(call objs,$(MAIN_chaos)) $(foreach l,chaos support client store ipc base,$(call lib,$(l)))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(LINK) -o $@ $^ $(LIBS_STORE) $(LIBS_JSON) $(call PKG,cmocka) -lpthread

check-asan: deps
	ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS="suppressions=$(CURDIR)/tests/support/lsan.supp:print_suppressions=0" \
	    $(MAKE) --no-print-directory check B=$(B)/asan SANITIZE=address,undefined
check-ubsan: deps
	$(MAKE) --no-print-directory check B=$(B)/ubsan SANITIZE=undefined
check-tsan: deps
	TSAN_OPTIONS="suppressions=$(CURDIR)/tests/support/tsan.supp" \
	    $(MAKE) --no-print-directory check B=$(B)/tsan SANITIZE=thread
check-valgrind: deps-check
	$(MAKE) --no-print-directory check PGQRS_TEST_VALGRIND=1

# ---- fuzzing: the parsers of foreign bytes, FUZZ_SECONDS each ----

FUZZ_SECONDS ?= 30
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(call src,tests/fuzz))
FUZZ_SRC := $(SRC_base) $(wildcard ipc/msg*.c ipc/store_*.c) $(SRC_config) store/payload.c
$(B)/fuzz/%: tests/fuzz/%.c $(FUZZ_SRC) $(call lib,store)
	@mkdir -p $(@D)
	$(Q)clang $(filter-out -Werror,$(ALL_CFLAGS)) -fsanitize=fuzzer,address,undefined -o $@ $< \
	    $(FUZZ_SRC) $(call lib,store) $(LIBS_STORE) $(LIBS_YAML) $(LIBS_JSON)
fuzz: deps-lint
	$(MAKE) --no-print-directory $(FUZZERS)
	@for f in $(FUZZERS); do \
	    echo "=== $$f"; mkdir -p $$f.corpus; \
	    $$f -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -print_final_stats=0 -verbosity=0 \
	        -artifact_prefix=$(B)/fuzz/ $$f.corpus || exit 1; \
	done

# ---- the rest ----

run: deps-build
	$(MAKE) --no-print-directory programs
	@examples/demo.sh $(B)

# bench/bench_*.c are programs, the other files of the folder what they share.
BENCHES := $(patsubst bench/%.c,$(B)/bench/%,$(filter bench/bench_%,$(call src,bench)))
$(B)/bench/%: $(B)/obj/bench/%.o $(foreach l,bench support store ipc base,$(call lib,$(l)))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(LINK) -o $@ $^ $(LIBS_STORE) $(LIBS_JSON) $(call PKG,cmocka) -lm -lpthread
# All of it takes about an hour, bench_supervisor three minutes of it, bench_workflow twelve;
# BENCH_ARGS="--store sqlite --case drain --runs 1" SUPERVISOR_ARGS="--store sqlite" two minutes.
bench: deps
	$(MAKE) --no-print-directory programs bench-build
	@$(B)/bench/bench_supervisor $(SUPERVISOR_ARGS) $(B) && \
	    $(B)/bench/bench_workflow $(WORKFLOW_ARGS) $(B) && $(B)/bench/bench_queue $(BENCH_ARGS) $(B)
.PHONY: bench-build
bench-build: $(BENCHES) $(BENCH_HANDLERS)

# The configuration, /etc/pgqrs/pgqrsd.yaml, is the operator's.
SYSTEMD_UNIT  = $(DESTDIR)$(PREFIX)/lib/systemd/system/pgqrsd.service
SYSTEMD_CONFS = $(patsubst %,$(DESTDIR)$(PREFIX)/lib/%.d/pgqrsd.conf,sysusers tmpfiles)
install: programs
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/pgqrs $(DESTDIR)$(PREFIX)/lib/pgqrs/handlers \
	    $(DESTDIR)$(PREFIX)/include/pgqrs $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 \
	    $(DESTDIR)$(PREFIX)/share/man/man7 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 755 $(B)/bin/pgqrsd $(B)/bin/pgqrs $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(B)/libexec/pgqrs/pgqrs-broker $(B)/libexec/pgqrs/pgqrs-gateway \
	    $(B)/libexec/pgqrs/pgqrs-worker $(DESTDIR)$(PREFIX)/libexec/pgqrs
	install -m 644 $(HANDLERS) $(DESTDIR)$(PREFIX)/lib/pgqrs/handlers
	install -m 644 include/pgqrs/*.h $(DESTDIR)$(PREFIX)/include/pgqrs
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/share/man/man3
	install -m 644 $(LIBPGQRS) $(DESTDIR)$(LIBDIR)
	ln -sf $(notdir $(LIBPGQRS_SO)) $(DESTDIR)$(LIBDIR)/libpgqrs.so.0
	ln -sf libpgqrs.so.0 $(DESTDIR)$(LIBDIR)/libpgqrs.so
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' packaging/pgqrs.pc.in \
	    >$(DESTDIR)$(LIBDIR)/pkgconfig/pgqrs.pc
	install -m 644 docs/man/*.3 $(DESTDIR)$(PREFIX)/share/man/man3
	for page in docs/man/*.3; do \
	    for name in $$(sed -n '/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([a-z_]*\).*/\1/p' $$page); do \
	        [ -e docs/man/$$name.3 ] || \
	            ln -sf $${page##*/} $(DESTDIR)$(PREFIX)/share/man/man3/$$name.3 || exit 1; \
	    done; \
	done
	install -m 644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 docs/man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 644 docs/man/*.7 $(DESTDIR)$(PREFIX)/share/man/man7
	install -m 644 docs/man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8
	install -D -m 644 packaging/completion/pgqrs.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pgqrs
	install -d $(DESTDIR)$(PREFIX)/share/pgqrs
	install -m 644 packaging/prometheus/pgqrs.rules.yaml $(DESTDIR)$(PREFIX)/share/pgqrs
	install -m 644 packaging/grafana/pgqrs.json $(DESTDIR)$(PREFIX)/share/pgqrs/grafana.json
	install -d $(dir $(SYSTEMD_UNIT) $(SYSTEMD_CONFS))
	sed 's|/usr/local/|$(PREFIX)/|' packaging/systemd/pgqrsd.service >$(SYSTEMD_UNIT)
	chmod 644 $(SYSTEMD_UNIT)
	install -m 644 packaging/systemd/pgqrsd.sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/pgqrsd.conf
	install -m 644 packaging/systemd/pgqrsd.tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/pgqrsd.conf

uninstall:
	rm -f $(SYSTEMD_UNIT) $(SYSTEMD_CONFS)
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pgqrs
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,pgqrsd pgqrs)
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,$(notdir $(LIBPGQRS)) libpgqrs.so.0 libpgqrs.so pkgconfig/pgqrs.pc)
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man3/,pgqrs_*.3 libpgqrs.3)
	rm -rf $(DESTDIR)$(PREFIX)/libexec/pgqrs $(DESTDIR)$(PREFIX)/lib/pgqrs $(DESTDIR)$(PREFIX)/include/pgqrs \
	    $(DESTDIR)$(PREFIX)/share/pgqrs
	rm -f $(foreach m,$(wildcard docs/man/*),$(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(m)))/$(notdir $(m)))

# DEB_VERSION=0.1.0+local1 makes packages that replace those of 0.1.0.
DEB_VERSION ?= $(VERSION)
deb: deps-build
	@packaging/deps.sh $(DEPS_DEB)
	@packaging/deb.sh $(B)/deb $(DEB_VERSION)
# Takes minutes, and a mirror of Debian: MIRROR=URL.
deb-test: deb
	@packaging/deps.sh debootstrap
	@packaging/deb.sh $(B)/deb/next $(VERSION)+next
	@tests/deb.sh $(B)/deb

# Takes minutes, and a mirror of Debian, but no registry.
container-test:
	@packaging/deps.sh debootstrap buildah iproute2
	@tests/container.sh $(B)/container $(B)/deb/base.tar

deps-build:
	@packaging/deps.sh $(DEPS_BUILD)
deps:
	@packaging/deps.sh $(DEPS_BUILD) $(DEPS_TEST) $(DEPS_DOCS)
deps-lint:
	@packaging/deps.sh $(DEPS_BUILD) $(DEPS_TEST) $(DEPS_DOCS) $(DEPS_LINT)
deps-check:
	@packaging/deps.sh $(DEPS_BUILD) $(DEPS_TEST) $(DEPS_DOCS) $(DEPS_CHECK)

# cppcheck reads no system headers; without the macros of this one it takes every loop for a mistake.
QUEUE_H = $(firstword $(wildcard /usr/include/*/sys/queue.h /usr/include/sys/queue.h))
C_FILES = $(shell git ls-files '*.c' '*.h')
format: deps-lint
	clang-format -i $(C_FILES)
lint: deps-lint
	clang-format --dry-run --Werror $(C_FILES)
	clang-tidy --quiet $(filter %.c,$(C_FILES)) -- -std=gnu17 -D_GNU_SOURCE -DPGQRS_VERSION='""' -I. -Iinclude $(INC_LIBS)
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	    --suppress=missingIncludeSystem $(addprefix --include=,$(QUEUE_H)) -D_GNU_SOURCE -I. -Iinclude $(filter %.c,$(C_FILES))
	for h in $(filter %.h,$(C_FILES)); do $(CC) $(ALL_CFLAGS) -fsyntax-only -x c $$h || exit 1; done
	tests/manual.sh lint docs/man

clean:
	rm -rf $(B)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
