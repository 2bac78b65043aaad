# Millrace.  `make help` says what there is.
#
# GNU make.  One archive of pkg/*/*.c, one program for each directory in cmd/,
# all output below build/.

VERSION = 0.2.0

# ---- Where things go ------------------------------------------------------
#
# SAN=address,undefined or SAN=thread rebuilds everything, dependencies
# included, in a directory of its own, linked dynamically.  FAILPOINTS=1
# compiles the failpoints in.  DEV=1 makes warnings errors.

CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
COMPILER := $(if $(findstring clang,$(CC)),clang,gcc)
comma := ,
VARIANT := $(if $(SAN),san-$(subst $(comma),-,$(SAN)))
VARIANT := $(VARIANT)$(if $(FAILPOINTS),$(if $(VARIANT),-)failpoints)
VARIANT := $(VARIANT)$(if $(filter clang,$(COMPILER)),$(if $(VARIANT),-)clang)

# The directory beside BUILD that has the same with failpoints.
FAILPOINTS_BUILD = $(if $(filter file,$(origin BUILD)),build/$(if \
    $(VARIANT),$(VARIANT)-)failpoints,$(BUILD)/failpoints)
BUILD ?= build$(if $(VARIANT),/$(VARIANT))
DEPS ?= build/deps$(if $(SAN),-san-$(subst $(comma),-,$(SAN))-$(COMPILER))

# Two recipes at a time on two cores, unless the caller said otherwise.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.SUFFIXES:

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2))

# ---- Flags ----------------------------------------------------------------

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion \
    -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wcast-qual \
    -Wwrite-strings -Wundef -Wnull-dereference $(if $(DEV),-Werror)

# The flags among the arguments that this compiler takes.
cc_takes = $(foreach f,$(1),$(shell echo 'int x;' | $(CC) -Werror $(f) \
    -x c -c -o /dev/null - 2>/dev/null && echo '$(f)'))

ifneq ($(MAKECMDGOALS),help)
ifneq ($(MAKECMDGOALS),clean)
PROBED := $(call cc_takes,-fstack-clash-protection -fstrict-flex-arrays=3)
ifneq ($(filter x86_64 i%86,$(shell uname -m)),)
PROBED += $(call cc_takes,-fcf-protection=full)
endif
ZEROINIT := $(call cc_takes,-ftrivial-auto-var-init=zero)
ifeq ($(ZEROINIT),)
# clang below 16 wants to be asked twice.
ZEROINIT := $(shell echo 'int x;' | $(CC) -Werror \
    -ftrivial-auto-var-init=zero \
    -enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang \
    -x c -c -o /dev/null - 2>/dev/null && echo -ftrivial-auto-var-init=zero \
    -enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang)
endif
endif
endif

HARDEN = -fstack-protector-strong -fno-delete-null-pointer-checks \
    -fno-strict-overflow -fno-strict-aliasing $(PROBED)

ifeq ($(SAN),)
OPTIMISE = -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 $(ZEROINIT)
DEPS_OPTIMISE = -O2 -g1 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
# Packed relocations make half a megabyte of OpenSSL's tables small.
LINK = -static-pie -Wl,-z,pack-relative-relocs
else
OPTIMISE = -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN) \
    $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)
DEPS_OPTIMISE = -O1 -g -fno-omit-frame-pointer \
    -fsanitize=$(subst $(comma)undefined,,$(SAN))
LINK = -pie
endif

CPPFLAGS = -Ipkg -I$(BUILD)/gen -isystem $(DEPS)/include -D_GNU_SOURCE \
    -DMR_VERSION='"$(VERSION)"' $(if $(FAILPOINTS),-DMR_FAILPOINTS=1)
CFLAGS = -std=c17 -pthread -fPIE -ffunction-sections -fdata-sections \
    -ffile-prefix-map=$(CURDIR)=. $(OPTIMISE) $(HARDEN) $(WARNINGS) $(EXTRA_CFLAGS)
LDFLAGS = -pthread $(OPTIMISE) -Wl,-z,relro,-z,now,-z,noexecstack \
    -Wl,--gc-sections,--as-needed $(EXTRA_LDFLAGS)

# libcrypto wants zlib and zstd after it on some systems: pkg-config knows.
SYSTEM_LIBS = $(shell pkg-config --static --libs jansson libssl libcrypto \
    libzstd zlib libseccomp 2>/dev/null) -lfcgi -lz -lzstd -lm -ldl -lpthread
LIBS = $(DEPS)/lib/librdkafka.a $(DEPS)/lib/libsqlite3.a $(SYSTEM_LIBS)

# ---- Dependencies ---------------------------------------------------------
#
# Built once and kept: a stamp's name holds the version and a sum over the
# flags.  Nothing that npm unpacks is run by npm.

RDKAFKA_SRC = node_modules/@confluentinc/kafka-javascript/deps/librdkafka
SQLITE_SRC = node_modules/better-sqlite3/deps/sqlite3
package_version = $(shell sed -n \
    '/"node_modules\/$(subst /,\/,$(1))"/,/"version"/s/.*"version": "\(.*\)".*/\1/p' \
    package-lock.json)
short_sum = $(shell printf '%s' '$(1)' | cksum | cut -d' ' -f1)

DEPS_CFLAGS = $(DEPS_OPTIMISE) -fPIC -ffunction-sections -fdata-sections \
    -fstack-protector-strong -fno-strict-aliasing
RDKAFKA_CONFIGURE = --enable-static --disable-gssapi --disable-curl \
    --disable-lz4-ext --disable-regex-ext --disable-c11threads --disable-syslog
# A partition that is to move to another broker, and back before it has left,
# ends up on the one that doesn't lead it: nothing of it is read until its leader
# moves again, without a word (librdkafka's pull request 5593, in no release yet).
RDKAFKA_FIX = s/^( +if \(rktp->rktp_broker == rkb)\) \{$$/\1 \&\& !rktp->rktp_next_broker) {/
# A batch whose sum is wrong is left by its length taken for a place: what comes
# after it in the same answer, other partitions too, is read from somewhere else,
# taken for what it isn't, or ends the process (their FIXME says so).
RDKAFKA_FIX_SUM = s/rd_kafka_buf_skip_to\(rkbuf, crc_len\)/rd_kafka_buf_skip(rkbuf, crc_len)/
# lz4frame.h and snappy.h are private: what batches are compressed with is inside
# of the library, and pkg/segment takes it from there.  The version is pinned.
RDKAFKA_HEADERS = rdkafka.h rdkafka_mock.h lz4frame.h snappy.h
SQLITE_FLAGS = -DSQLITE_THREADSAFE=2 -DSQLITE_DEFAULT_MEMSTATUS=0 \
    -DSQLITE_DEFAULT_WAL_SYNCHRONOUS=2 -DSQLITE_DQS=0 \
    -DSQLITE_ENABLE_FTS5 -DSQLITE_ENABLE_PREUPDATE_HOOK \
    -DSQLITE_ENABLE_SESSION -DSQLITE_ENABLE_STAT4 \
    -DSQLITE_LIKE_DOESNT_MATCH_BLOBS -DSQLITE_MAX_EXPR_DEPTH=0 \
    -DSQLITE_OMIT_DEPRECATED -DSQLITE_OMIT_LOAD_EXTENSION \
    -DSQLITE_OMIT_SHARED_CACHE -DSQLITE_STRICT_SUBTYPE=1 \
    -DSQLITE_TEMP_STORE=2 -DSQLITE_USE_ALLOCA -DHAVE_FDATASYNC=1 \
    -DHAVE_GMTIME_R=1 -DHAVE_LOCALTIME_R=1 -DHAVE_STRERROR_R=1 \
    -DHAVE_USLEEP=1 -DHAVE_PREAD=1 -DHAVE_PWRITE=1

RDKAFKA_STAMP := $(DEPS)/librdkafka-$(call package_version,@confluentinc/kafka-javascript)-$(call short_sum,$(DEPS_CFLAGS) $(RDKAFKA_CONFIGURE) $(RDKAFKA_FIX) $(RDKAFKA_FIX_SUM) $(RDKAFKA_HEADERS)).stamp
SQLITE_STAMP := $(DEPS)/sqlite-$(call package_version,better-sqlite3)-$(call short_sum,$(DEPS_CFLAGS) $(SQLITE_FLAGS)).stamp
DEPS_STAMPS := $(RDKAFKA_STAMP) $(SQLITE_STAMP)

# ---- What there is --------------------------------------------------------

ARCHIVE = $(BUILD)/libmillrace.a
SERVICES_SQL := $(patsubst migrations/%/,%,$(sort \
    $(dir $(wildcard migrations/*/*.sql))))
GENERATED := $(foreach s,$(SERVICES_SQL),\
    $(BUILD)/gen/migrations_$(subst -,_,$(s)).c)
SOURCES := $(filter-out pkg/testing/%,$(sort $(wildcard pkg/*/*.c)))
OBJECTS := $(SOURCES:%.c=$(BUILD)/obj/%.o) \
    $(GENERATED:$(BUILD)/%.c=$(BUILD)/obj/%.o)

PROGRAMS := $(patsubst cmd/%/,%,$(sort $(dir $(wildcard cmd/*/main.c))))
PROGRAM_SOURCES := $(wildcard cmd/*/*.c cmd/*.c)
BINARIES := $(PROGRAMS:%=$(BUILD)/bin/%)

# One binary a file in tests/unit; tests/<program>/main.c makes a program.
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/test/%,\
    $(sort $(wildcard tests/unit/test_*.c)))
TEST_PROGRAMS := $(patsubst tests/%/,%,$(sort \
    $(dir $(wildcard tests/*/main.c))))
TEST_SOURCES := $(foreach p,$(TEST_PROGRAMS),$(wildcard tests/$(p)/*.c))
TEST_BINARIES := $(TEST_PROGRAMS:%=$(BUILD)/test/%)
NEWER := $(BUILD)/test/newer/inventory

# What a service's own unit test is linked with, before the archive: the
# driver, Kafka's double, and the core and the store with failpoints.  A file
# in tests/service is such a test.
TESTING = $(BUILD)/libmillrace-testing.a
TESTING_SOURCES := $(sort $(wildcard pkg/testing/*.c pkg/store/*.c \
    pkg/stream/*.c)) tests/unit/fake_kafka.c
TESTING_OBJECTS := $(TESTING_SOURCES:%.c=$(BUILD)/obj-testing/%.o)
SERVICE_TESTS := $(patsubst tests/service/%.c,$(BUILD)/test/service/%,\
    $(sort $(wildcard tests/service/test_*.c)))

# A file in tests/bench is a program by itself.
BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,\
    $(sort $(wildcard tests/bench/*.c)))

VENDOR := $(BUILD)/www/vendor/uPlot.iife.min.js $(BUILD)/www/vendor/uPlot.min.css

# ---- Building -------------------------------------------------------------

.PHONY: all deps programs tests benches
all: programs $(VENDOR)

programs: $(BINARIES)
tests: $(UNIT_TESTS) $(SERVICE_TESTS) $(TEST_BINARIES) $(NEWER)
benches: $(BENCHES)

# Rewritten only when its text changes, so that a change of flags or of the
# list of files rebuilds what it should.
$(shell mkdir -p $(BUILD))
define stamp_text
$(CC) $(CPPFLAGS) $(CFLAGS) $(LINK) $(LDFLAGS)
endef
write_stamp = $(shell printf '%s' '$(subst ','\'',$(2))' | \
    cmp -s - $(1) || printf '%s' '$(subst ','\'',$(2))' >$(1))
ifeq ($(filter help clean distclean,$(MAKECMDGOALS)),)
$(call write_stamp,$(BUILD)/.flags,$(stamp_text))
$(call write_stamp,$(BUILD)/.objects,$(OBJECTS))
$(call write_stamp,$(BUILD)/.migrations,$(SERVICES_SQL))
endif

MIGRATIONS_H := $(BUILD)/gen/migrations.h

$(BUILD)/obj/%.o: %.c $(BUILD)/.flags | $(MIGRATIONS_H) deps
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c $(BUILD)/.flags | $(MIGRATIONS_H)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -Wno-overlength-strings -MMD -MP \
	    -c -o $@ $<

$(MIGRATIONS_H): migrations/embed $(BUILD)/.migrations
	@mkdir -p $(@D)
	@migrations/embed -h $(SERVICES_SQL) >$@

define migration_rule
$(BUILD)/gen/migrations_$(subst -,_,$(1)).c: migrations/embed \
    migrations/$(1) $(sort $(wildcard migrations/$(1)/*.sql))
	$$(call say,SQL,migrations/$(1))
	@mkdir -p $$(@D)
	@migrations/embed $(1) $(sort $(wildcard migrations/$(1)/*.sql)) >$$@
endef
$(foreach s,$(SERVICES_SQL),$(eval $(call migration_rule,$(s))))

$(ARCHIVE): $(OBJECTS) $(BUILD)/.objects
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcsD $@ $(OBJECTS)

# Left out of what the linker says: its remarks on dlopen and getaddrinfo in
# static programs.  pkg/base sees to names, and nothing here loads a plug-in.
QUIETLY = >$@.log 2>&1 || { cat $@.log >&2; rm -f $@.log; exit 1; }; \
    grep -vE "in statically linked applications|in function .|message above" \
    $@.log >&2; rm -f $@.log

# A file in cmd/ itself goes into each program.  A running program's file is
# replaced, never written into.
define program_rule
$(BUILD)/$(3)/$(1): $(patsubst %.c,$(BUILD)/obj/%.o,\
    $(sort $(wildcard $(2)/$(1)/*.c)) $(wildcard $(2)/*.c)) $(ARCHIVE) \
    $(DEPS_STAMPS)
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $$@.new $$(filter %.o,$$^) $(ARCHIVE) \
	    $$(LIBS) $$(QUIETLY)
	@mv -f $$@.new $$@
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$(p),cmd,bin)))
$(foreach p,$(TEST_PROGRAMS),$(eval $(call program_rule,$(p),tests,test)))

# inventory with one more migration, as its next version might have: what
# scenarios upgrade to.  Its table of migrations is found before the archive's.
NEWER_SQL = $(sort $(wildcard migrations/inventory/*.sql)) \
    $(wildcard tests/scenario/newer/*.sql)
$(BUILD)/gen/newer_inventory.c: migrations/embed $(NEWER_SQL)
	$(call say,SQL,tests/scenario/newer)
	@mkdir -p $(@D)
	@migrations/embed inventory $(NEWER_SQL) >$@

$(NEWER): $(BUILD)/obj/gen/newer_inventory.o $(patsubst %.c,$(BUILD)/obj/%.o,\
    $(sort $(wildcard cmd/inventory/*.c))) $(ARCHIVE) $(DEPS_STAMPS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@.new $(filter %.o,$^) $(ARCHIVE) \
	    $(LIBS) $(QUIETLY)
	@mv -f $@.new $@

# tests/unit/test_x.ldflags, where there is one, is added to the link line.
$(BUILD)/test/test_%: $(BUILD)/obj/tests/unit/test_%.o $(ARCHIVE) $(DEPS_STAMPS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -pie $(LDFLAGS) -o $@.new $< \
	    $(shell cat tests/unit/test_$*.ldflags 2>/dev/null) $(ARCHIVE) \
	    $(LIBS) -lcmocka
	@mv -f $@.new $@

$(BUILD)/obj-testing/%.o: %.c $(BUILD)/.flags | $(MIGRATIONS_H) deps
	$(call say,CC,"$< (testing)")
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -UMR_FAILPOINTS -DMR_FAILPOINTS=1 -Itests/unit \
	    $(CFLAGS) -MMD -MP -c -o $@ $<

$(TESTING): $(TESTING_OBJECTS)
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcsD $@ $(TESTING_OBJECTS)

$(BUILD)/test/service/%: $(BUILD)/obj/tests/service/%.o $(TESTING) $(ARCHIVE) \
    $(DEPS_STAMPS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -pie $(LDFLAGS) -o $@.new $< $(TESTING) $(ARCHIVE) $(LIBS) \
	    -lcmocka
	@mv -f $@.new $@

$(foreach f,$(wildcard tests/unit/*.ldflags),\
    $(eval $(f:tests/unit/%.ldflags=$(BUILD)/test/%): $(f)))

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(ARCHIVE) $(DEPS_STAMPS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@.new $< $(ARCHIVE) $(LIBS) \
	    $(QUIETLY)
	@mv -f $@.new $@

.SECONDARY:
-include $(SOURCES:%.c=$(BUILD)/obj/%.d)
-include $(PROGRAM_SOURCES:%.c=$(BUILD)/obj/%.d)
-include $(UNIT_TESTS:$(BUILD)/test/%=$(BUILD)/obj/tests/unit/%.d)
-include $(TESTING_SOURCES:%.c=$(BUILD)/obj-testing/%.d)
-include $(SERVICE_TESTS:$(BUILD)/test/%=$(BUILD)/obj/tests/%.d)
-include $(TEST_SOURCES:%.c=$(BUILD)/obj/%.d)
-include $(BENCHES:$(BUILD)/bench/%=$(BUILD)/obj/tests/bench/%.d)
-include $(GENERATED:$(BUILD)/%.c=$(BUILD)/obj/%.d)

$(BUILD)/www/vendor/%: node_modules/.package-lock.json
	@mkdir -p $(@D)
	@cp node_modules/uplot/dist/$* $@

# The dependencies' rules; what they are is said above.

deps: $(DEPS_STAMPS)

node_modules/.package-lock.json: package.json package-lock.json .npmrc
	@echo '  NPM     unpacking the pinned sources (about 20 MB to download)'
	$(Q)npm ci --ignore-scripts --loglevel=error || { \
	    echo 'npm ci failed: is the package registry reachable?' \
	    '(npm config get registry says which one)' >&2; exit 1; }
	@touch $@

$(RDKAFKA_STAMP): | node_modules/.package-lock.json
	@echo '  DEPS    librdkafka into $(DEPS) (about a minute)'
	@mkdir -p $(DEPS)/src $(DEPS)/lib $(DEPS)/include/librdkafka
	@rm -rf $(DEPS)/src/librdkafka $(DEPS)/librdkafka-*.stamp
	@cp -R $(RDKAFKA_SRC) $(DEPS)/src/librdkafka
	$(Q)cd $(DEPS)/src/librdkafka/src && \
	    sed -E -i '$(RDKAFKA_FIX)' rdkafka_topic.c && \
	    sed -E -i '$(RDKAFKA_FIX_SUM)' rdkafka_msgset_reader.c && \
	    for file in rdkafka_topic.c rdkafka_msgset_reader.c; do \
	    ! cmp -s $$file $(abspath $(RDKAFKA_SRC))/src/$$file || { \
	    echo "$$file has changed: does it need RDKAFKA_FIX?" >&2; exit 1; }; \
	    done
	$(Q)cd $(DEPS)/src/librdkafka && { CC='$(CC)' CXX='$(CC)' \
	    CFLAGS='$(DEPS_CFLAGS)' CPPFLAGS='-ffile-prefix-map=$(abspath $(DEPS))/src=.' bash \
	    ./configure $(RDKAFKA_CONFIGURE) && \
	    sed -i '/WITH_PLUGINS/d' config.h Makefile.config && \
	    for part in SNAPPY SSL ZLIB ZSTD; do \
	    grep -q "^#define WITH_$$part 1" config.h || { echo "librdkafka" \
	    "would lack $$part: run deploy/local/packages build"; exit 1; }; \
	    done; } \
	    >build.log 2>&1 || { tail -20 build.log >&2; exit 1; }
	$(Q)$(MAKE) 'DEPS=$$(OBJS:%.o=%.d)' -C $(DEPS)/src/librdkafka/src librdkafka.a \
	    >$(DEPS)/src/librdkafka/make.log 2>&1 || { \
	    tail -20 $(DEPS)/src/librdkafka/make.log >&2; exit 1; }
	@cp $(RDKAFKA_HEADERS:%=$(DEPS)/src/librdkafka/src/%) \
	    $(DEPS)/include/librdkafka/
	@cp $(DEPS)/src/librdkafka/src/librdkafka.a $(DEPS)/lib/
	@touch $@

$(SQLITE_STAMP): | node_modules/.package-lock.json
	@echo '  DEPS    SQLite into $(DEPS) (most of a minute)'
	@mkdir -p $(DEPS)/src $(DEPS)/lib $(DEPS)/include
	@rm -f $(DEPS)/sqlite-*.stamp
	@cp $(SQLITE_SRC)/sqlite3.h $(DEPS)/include/
	$(Q)$(CC) -pthread $(DEPS_CFLAGS) $(SQLITE_FLAGS) -w \
	    -c -o $(DEPS)/src/sqlite3.o $(SQLITE_SRC)/sqlite3.c
	@rm -f $(DEPS)/lib/libsqlite3.a
	@ar rcsD $(DEPS)/lib/libsqlite3.a $(DEPS)/src/sqlite3.o
	@touch $@

# Apache Kafka's, if that is the broker, as it is where there are to be three;
# the broker of this tree needs none.
KAFKA_PACKAGES = $(if $(filter kafka,$(BROKER))$(filter 3,$(BROKERS)),kafka)

# ---- Testing and checking -------------------------------------------------
#
# make test runs all on the broker of this tree; what depends on the broker is
# run on Apache Kafka, too, by make test-kafka.

.PHONY: test test-built test-long test-kafka test-kafka-built test-fresh \
    test-compose soak soak-kafka unit lint
UNDER := $(if $(findstring thread,$(SAN)),setarch -R env \
    TSAN_OPTIONS=suppressions=$(abspath tests/thread-sanitizer.supp))
RUN_UNIT := tests/run-unit $(if $(SAN),-t 900)
# In parts that run side by side, for much of them is waiting.
scenarios = $(foreach k,3 2 1,'?scenario $(k)/3=tests/scenario/run \
    --part $(k)/3 $(1)')
# The longest first; what has nothing of the programs in it is run once.
SUITES = $(call scenarios,--broker embedded) \
    $(if $(SAN),,'page=node tests/page/run.mjs') \
    'unit=$(UNDER) $(RUN_UNIT) $(UNIT_TESTS)' \
    'service=$(UNDER) $(RUN_UNIT) $(SERVICE_TESTS)' \
    $(if $(SAN),,'local=tests/local/run $(BUILD)' \
    '?model=$(BUILD)/test/model' \
    'own-service=tests/own-service/run $(BUILD) $(DEPS)' \
    '?demo=demo/run --test' \
    'compose=tests/compose/check')
KAFKA_SUITES = $(call scenarios,--broker kafka --about-broker) \
    'conformance=tests/conformance/run' \
    'docs=tests/docs/run'
# Brokers are started many times and live for seconds: without the second
# compiler a start takes three fifths of the processor's time.
JAVA_SOON = KAFKA_OPTS="$${KAFKA_OPTS--XX:TieredStopAtLevel=1}"
RUN_SUITES = $(BUILDS) tests/run -j
# Scenario tests find the programs by these, with failpoints and without.
BUILDS = MILLRACE_BUILD=$(abspath $(BUILD)) \
    MILLRACE_BUILD_FAILPOINTS=$(abspath $(FAILPOINTS_BUILD))

test:
	@deploy/local/packages build run test
	@$(MAKE) test-built

test-built: all tests $(if $(SAN),,benches)
	@$(MAKE) FAILPOINTS=1 BUILD=$(FAILPOINTS_BUILD) all
	@$(RUN_SUITES) $(if $(SAN),2,3) $(SUITES)

# Every system call, failpoint and power cut that make test takes a sample of,
# and what unit tests draw by SEED.
LONG_TESTS = $(addprefix $(BUILD)/test/test_,stream_memory store_damage)
test-long:
	@deploy/local/packages build run test
	@$(MAKE) all tests
	@$(MAKE) FAILPOINTS=1 BUILD=$(FAILPOINTS_BUILD) all
	@NO_SKIPS=1 $(BUILDS) tests/run $(if $(ONLY),,'unit=ALLOCATIONS=all \
	    FLIPS=all $(UNDER) tests/run-unit -t 7200 $(LONG_TESTS)') \
	    'scenario=tests/scenario/run --broker embedded --long \
	    $(ONLY:%=--only %)'

test-kafka:
	@deploy/local/packages build run kafka test
	@$(MAKE) test-kafka-built

test-kafka-built: all tests
	@$(MAKE) FAILPOINTS=1 BUILD=$(FAILPOINTS_BUILD) all
	@deploy/local/kafka libs
	@KAFKA_POM=tests/conformance/pom.xml KAFKA_LIBS=build/kafka/libs-3 \
	    deploy/local/kafka libs
	@$(JAVA_SOON) $(RUN_SUITES) 2 $(KAFKA_SUITES)

# README's commands on a minimal Debian; DEBIAN=13, or '12 13'; FRESH_TESTS=1.
test-fresh:
	@deploy/local/packages fresh
	@tests/fresh/run $(DEBIAN)

# docker compose on an engine that the test starts; what it lacks it says.
test-compose: all
	@deploy/local/packages build kafka compose || true
	@deploy/local/kafka libs
	@tests/compose/run $(COMPOSE)

# An hour by itself; SOAK_S=600 for ten minutes.
soak: all
	@deploy/local/packages run test $(KAFKA_PACKAGES)
	@$(if $(KAFKA_PACKAGES),deploy/local/kafka libs)
	@BROKER='$(BROKER)' MILLRACE_BUILD=$(abspath $(BUILD)) tests/soak/run \
	    --seconds $(or $(SOAK_S),3600)

# Three brokers, services and brokers killed: KILLS=100 over EVENTS=100000.
soak-kafka: all
	@deploy/local/packages run kafka test
	@deploy/local/kafka libs
	@MILLRACE_BUILD=$(abspath $(BUILD)) tests/soak/kafka \
	    --seconds $(or $(SOAK_S),3600) --kills $(or $(KILLS),100) \
	    --events $(or $(EVENTS),100000) --transactional --outside-repeats 0

# Left out under the thread sanitizer: tests that start no threads, and those of
# services, which are run for their own code, and that has none.
ONE_THREAD = $(foreach t,check% malformed segment_% store% wire,\
    $(BUILD)/test/test_$(t))
unit: $(if $(UNDER),$(filter-out $(ONE_THREAD),$(UNIT_TESTS)),\
    $(UNIT_TESTS) $(SERVICE_TESTS))
	@$(UNDER) $(RUN_UNIT) $^

# make bench, make bench BENCH=post, BENCH='--seconds 5 post latency'
# make bench-kafka, make bench-kafka BENCH='--part catch-up --records 10000000'
.PHONY: bench bench-kafka
bench bench-kafka:
	@deploy/local/packages build run kafka bench \
	    $(filter streams,$(BENCH))
	@$(MAKE) all benches
	@deploy/local/kafka libs
	@MILLRACE_BUILD=$(abspath $(BUILD)) tests/bench/run \
	    $(if $(filter bench-kafka,$@),--broker kafka $(BENCH) kafka,$(BENCH))

lint: deps $(MIGRATIONS_H)
	@deploy/local/packages build lint
	@.ci/lint $(filter-out -fsanitize%,$(CPPFLAGS) $(CFLAGS))

# ---- Fuzzing --------------------------------------------------------------
#
# tests/fuzz/fuzz_x.c is a libFuzzer target with seeds in tests/fuzz/corpus/x.
# Everywhere it is linked with replay.c, which runs the corpus: a suite of
# `make test`.  make fuzz builds all with clang and its fuzzer and lets each
# target look for FUZZ_S seconds; FUZZ=event runs one.  What it finds new goes
# below $(FUZZ_BUILD), what it fails on is left there and named.

FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,\
    $(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ ?= $(FUZZ_TARGETS)
FUZZ_S ?= 20
FUZZ_BUILD ?= build/fuzz
FUZZ_CHECKS = -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=undefined \
    -fsanitize=fuzzer-no-link,address,undefined
REPLAYS := $(FUZZ_TARGETS:%=$(BUILD)/test/fuzz_%)
FUZZERS := $(FUZZ_TARGETS:%=$(BUILD)/fuzz/%)
FUZZ_LDFLAGS = $(shell cat tests/fuzz/fuzz_$*.ldflags 2>/dev/null)

.PHONY: fuzz fuzzers
tests: $(REPLAYS)
SUITES += 'corpus=$(UNDER) $(RUN_UNIT) $(REPLAYS)'

$(BUILD)/test/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o \
    $(BUILD)/obj/tests/fuzz/replay.o $(ARCHIVE) $(DEPS_STAMPS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -pie $(LDFLAGS) -o $@.new $(filter %.o,$^) $(FUZZ_LDFLAGS) \
	    $(ARCHIVE) $(LIBS)
	@mv -f $@.new $@

fuzzers: $(FUZZERS)
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(ARCHIVE) $(DEPS_STAMPS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -fsanitize=fuzzer -pie $(LDFLAGS) -o $@.new $< \
	    $(FUZZ_LDFLAGS) $(ARCHIVE) $(LIBS)
	@mv -f $@.new $@

# The dependencies first, by the compiler that all others build them with.
fuzz:
	@deploy/local/packages build fuzz
	@$(MAKE) deps
	@$(MAKE) CC=clang BUILD=$(FUZZ_BUILD) DEPS=$(DEPS) \
	    OPTIMISE='$(FUZZ_CHECKS)' fuzzers
	@tests/fuzz/run $(FUZZ_BUILD) $(FUZZ_S) $(FUZZ)

-include $(FUZZ_TARGETS:%=$(BUILD)/obj/tests/fuzz/fuzz_%.d)
-include $(BUILD)/obj/tests/fuzz/replay.d

# ---- Running --------------------------------------------------------------

.PHONY: run status logs start stop restart scale reset kafka kafka-stop \
    monitoring monitoring-stop
CTL = BROKER='$(BROKER)' BROKERS='$(BROKERS)' MILLRACE_BUILD=$(abspath $(BUILD)) deploy/local/ctl
COMMA_LIST = $(subst $(space),$(comma),$(strip $(1)))
space := $(subst ,, )

run:
	@deploy/local/packages build run \
	    $(if $(MILLRACE_BROKERS),,$(KAFKA_PACKAGES))
	@$(MAKE) all
	@$(CTL) up $(call COMMA_LIST,$(ONLY))

status:
	@$(CTL) status || true

logs:
	@$(CTL) logs $(SERVICE)

start stop restart:
	@$(CTL) $@ $(call COMMA_LIST,$(SERVICE))

# make scale notifications=3: the variables that are names of services.
scale:
	@$(CTL) scale $(filter $(foreach p,$(shell sed -e 's/#.*//' -e \
	    's/[[:space:]].*//' deploy/local/services),$(p)=%),$(MAKEOVERRIDES))

reset:
	@YES='$(YES)' $(CTL) reset

kafka:
	@deploy/local/packages build run $(KAFKA_PACKAGES)
	@$(if $(KAFKA_PACKAGES),,$(MAKE) $(BUILD)/bin/broker)
	@$(CTL) kafka

kafka-stop:
	@$(CTL) kafka-stop

monitoring:
	@deploy/local/packages run monitoring
	@deploy/local/monitoring start

monitoring-stop:
	@deploy/local/monitoring stop

# ---- Demos ----------------------------------------------------------------
#
# make demo tells all, make demo-replay one of them; STAY=1 leaves what it has
# started up until Enter is pressed.  make test holds them to what they claim.

DEMOS = events logs metrics consumer-groups replay delivery exactly-once \
    compaction
.PHONY: demo $(DEMOS:%=demo-%)
demo:
	@deploy/local/packages build run
	@$(MAKE) all
	@MILLRACE_BUILD=$(abspath $(BUILD)) demo/run $(if $(STAY),--stay) $(DEMOS)

$(DEMOS:%=demo-%): demo-%:
	@$(MAKE) demo DEMOS=$*

# ---- A service of one's own ------------------------------------------------
#
# make install puts headers, libraries, programs, pages and man pages below
# $(DESTDIR)$(PREFIX); make new-service NAME=x lays a service out in this tree.
# docs/WRITING-A-SERVICE.md has the rest.

PREFIX ?= /usr/local
.PHONY: install new-service
install: all $(TESTING)
	$(call say,INSTALL,$(DESTDIR)$(PREFIX))
	@deploy/install $(BUILD) $(DEPS) '$(PREFIX)' $(VERSION) '$(DESTDIR)'

new-service:
	@deploy/template/new-service -- '$(subst ','\'',$(NAME))'
	@$(MAKE) $(BUILD)/bin/$(NAME) $(BUILD)/test/service/test_$(NAME)
	@tests/run-unit $(BUILD)/test/service/test_$(NAME)
	@deploy/template/new-service -n '$(NAME)'

# ---- The rest -------------------------------------------------------------

.PHONY: clean distclean help
clean:
	rm -rf $(BUILD)/obj $(BUILD)/obj-testing $(BUILD)/gen $(BUILD)/bin \
	    $(BUILD)/test $(BUILD)/bench $(BUILD)/www $(ARCHIVE) $(TESTING) \
	    $(BUILD)/.flags \
	    $(BUILD)/.objects $(BUILD)/.migrations

distclean:
	rm -rf build node_modules

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

#: Millrace: event-driven microservices on Apache Kafka
#:
#: Running it (http://localhost:8000/)
#:   make run            see to packages, build, start all and wait until ready
#:   make run ONLY=orders,inventory
#:                       only these services
#:   make status         what runs, since when, how it feels
#:   make logs           follow the logs; SERVICE=orders: of one service
#:   make stop           stop all; SERVICE=notifications: one service
#:   make start          start again; SERVICE=...
#:   make restart        restart the services; SERVICE=...
#:   make scale notifications=3
#:                       run three instances of a service
#:   make reset          stop, then delete state and topics (asks; YES=1 doesn't)
#:   make kafka          the broker alone, on port 9092; make kafka-stop
#:   make kafka BROKERS=3
#:                       a cluster of three of Apache Kafka, a replica on each,
#:                       on ports 9092 to 9094; make run BROKER=kafka uses it
#:   make monitoring     Prometheus and Alertmanager beside it;
#:                       make monitoring-stop
#:
#: Kafka's patterns, told and checked on a broker of their own
#:   make demo           all of them, in a minute; STAY=1 leaves each up
#:                       until Enter is pressed, to look at
#:   make demo-NAME      one: events, logs, metrics, consumer-groups, replay,
#:                       delivery, exactly-once, compaction
#:
#: Building and testing
#:   make                build everything into build/
#:   make test           see to packages, build, run every test that needs no
#:                       Apache Kafka
#:   make test-kafka     what depends on the broker, on Apache Kafka, and this
#:                       tree's broker compared with it
#:   make test-long      every kill, power cut, changed byte and allocation
#:                       that make test takes a sample of;
#:                       ONLY=broker-power-cuts: one scenario
#:   make unit           the C unit tests only
#:   make test-fresh     lay a minimal Debian and follow the README in it;
#:                       DEBIAN=13, or DEBIAN='12 13'; FRESH_TESTS=1: make
#:                       test as well
#:   make test-compose   docker compose for real, on an engine of its own
#:   make soak           an hour of load and random faults: does anything
#:                       creep?  SOAK_S=600: ten minutes
#:   make soak-kafka     three brokers of Apache Kafka, 100 kills over brokers
#:                       and services, 100,000 events; KILLS=20 EVENTS=20000,
#:                       SOAK_S=600: ten minutes at most
#:   make fuzz           look for inputs that break it; FUZZ=event: one target,
#:                       FUZZ_S=60: seconds for each
#:   make bench          speed and memory, as ratios; BENCH=post: one figure
#:   make bench-kafka    on Apache Kafka: relay, catch-up, three brokers;
#:                       BENCH='--part relay': one of these
#:   make lint           layout and static analysis
#:   make clean          remove what was built; keep the dependencies
#:   make distclean      remove build/ and node_modules/ whole
#:
#: A service of one's own (docs/WRITING-A-SERVICE.md)
#:   make new-service NAME=x
#:                       lay one out here: program, migration, test
#:   make install        headers, libraries, programs, pages and man pages
#:                       into PREFIX=/usr/local; DESTDIR= goes in front
#:
#: Settings
#:   MILLRACE_PORT=8001  nginx's port
#:   BROKER=kafka        Apache Kafka (Java, Maven) and not this tree's broker
#:   MILLRACE_BROKERS=host:port
#:                       use this Kafka and start none
#:   MILLRACE_HOSTS=name,name
#:                       more host names that nginx answers to
#:   KAFKA_PORT=9192     the port of the broker started here
#:   DEV=1               warnings are errors
#:   CC=clang            the other compiler
#:   SAN=address,undefined  or  SAN=thread
#:                       rebuild all with sanitizers, in a directory of its own
#:   FAILPOINTS=1        compile the failpoints in, in a directory of its own
#:   V=1                 show the commands
