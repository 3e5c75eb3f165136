#!/usr/bin/env bash
# The long checks, one by one: each takes minutes and needs more than Rust alone.
#
#   tests/battery.sh all              everything below, one after the other
#   tests/battery.sh kill [TIMES]     B1: kill -9 in the middle of sends and commits; default 1000
#   tests/battery.sh crash            B2: a hundred thousand crash states on a simulated disk
#   tests/battery.sh disk             B3: full disks, read-only places, limits (root)
#   tests/battery.sh inject           B4: system calls that fail (strace)
#   tests/battery.sh tsan [TEST…]     B5: the suite under ThreadSanitizer (nightly, rust-src)
#   tests/battery.sh loom             B5: every order in which threads can meet, up to 3 preemptions
#   tests/battery.sh damage           B6: every byte flipped, every length cut, with repair
#   tests/battery.sh fuzz [SECONDS]   B6: each fuzzer for that long (nightly, cargo-fuzz); default 60
#   tests/battery.sh merge DIR        adds to the corpus what fuzzing has found, as small as it goes
#   tests/battery.sh corpus           B6: the inputs fuzzers have found, replayed; any toolchain
#   tests/battery.sh segments         a hundred thousand segments in one partition
#   tests/battery.sh loggers          tracing-subscriber and env_logger write to a topic; any toolchain
#   tests/battery.sh miri             the memory model and a simulated disk under Miri (nightly)
#
# Says SKIPPED, and is content, where a tool is missing and cannot be added.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

step() { printf '\n== %s\n' "$*"; }
skip() { printf 'SKIPPED: %s\n' "$*"; exit 0; }

need_nightly() {
    cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal >/dev/null 2>&1 ||
        skip "there is no nightly toolchain"
    for component in "$@"; do
        rustup component add --toolchain nightly "$component" >/dev/null 2>&1 || skip "nightly has no $component"
    done
}

kill_loop() {
    step "kill -9, ${1:-1000} times"
    FOREBAY_KILLS="${1:-1000}" cargo test --release --test kill --test group_kill
}

crash() {
    step "a hundred thousand crash states"
    cargo test --release --lib tests::crash_states -- --include-ignored --nocapture
    FOREBAY_SEEDS="${FOREBAY_SEEDS:-40}" cargo test --release --test power_cut
}

disk() {
    step "full disks, read-only places, limits"
    cargo test --test full_disk -- --ignored
    cargo test --test limits
}

inject() {
    step "system calls that fail"
    cargo test --test injection --test without_mappings -- --ignored
}

damage() {
    step "every byte flipped, every length cut"
    cargo test --release --test damage --test verify --test repair
}

segments() {
    step "a hundred thousand segments"
    cargo test --release --test many_segments -- --ignored --nocapture
}

tsan() {
    need_nightly rust-src
    local host=x86_64-unknown-linux-gnu
    # The standard library is built with it too: without, what it orders would be reported.
    export RUSTFLAGS="-Zsanitizer=thread" CARGO_TARGET_DIR="$target/tsan"
    export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 ${TSAN_OPTIONS:-}"
    # Everything is ten times as slow: fewer rounds of what has one thread, more patience.
    export PROPTEST_CASES=${PROPTEST_CASES:-16} FOREBAY_SEEDS=${FOREBAY_SEEDS:-10}
    export FOREBAY_CHAOS_SECONDS=${FOREBAY_CHAOS_SECONDS:-10} FOREBAY_CHAOS_POLL_MILLIS=${FOREBAY_CHAOS_POLL_MILLIS:-2000}
    local tests=("$@")
    if [ ${#tests[@]} -eq 0 ]; then
        # Not those that damage each byte, cut at or fail each operation, count allocations or read the
        # sources: they have one thread, or an allocator of their own. Nor those that kill a process soon
        # after it began: it would not have come to anything.
        # And planted bugs that must be found in time say nothing of races.
        tests=(--lib --test broker --test sending --test reading --test many_threads --test groups
            --test group_beginnings --test group_regressions --test regressions --test logging
            --test logging_close --test assignors --test model
            -- --skip planted_bugs --skip a_power_cut_at_any_operation --skip an_operation_that_fails --skip a_topic_is_described_while)
    fi
    step "the suite under ThreadSanitizer"
    # Whatever fails, the rest is run too.
    cargo +nightly test -Zbuild-std --target "$host" --no-fail-fast "${tests[@]}"
}

loom() {
    step "every order in which threads can meet (loom)"
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$target/loom" LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}" \
        cargo test --release --lib -- group::tests::hand_over log::tests::publish
}

fuzz() {
    local seconds=${1:-60} name sanitizer work
    need_nightly
    cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz || skip "cargo-fuzz cannot be installed"
    work=$(mktemp -d)
    for name in frames metadata open; do
        step "fuzzing $name for $seconds seconds"
        # `open` makes and drops thousands of small blocks, which costs the address sanitizer nine tenths
        # of its runs; its memory is that of safe code and of regions, which `frames` checks.
        sanitizer=address
        [ "$name" = open ] && sanitizer=none
        mkdir -p "$work/$name"
        cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir "$target/fuzz/$sanitizer" --sanitizer "$sanitizer" "$name" \
            "$work/$name" "tests/fuzz/corpus/$name" -- -max_total_time="$seconds" -rss_limit_mb=1024 \
            -malloc_limit_mb=8192 -timeout=10 -max_len=2048 -print_final_stats=1
    done
    printf 'what was found is in %s; tests/battery.sh merge %s adds it to the corpus\n' "$work" "$work"
}

# Adds what is worth it of inputs in DIR/<fuzzer>/ to the corpus: those that reach something new.
merge() {
    need_nightly
    local name sanitizer
    for name in frames metadata open; do
        step "merging $name"
        sanitizer=address
        [ "$name" = open ] && sanitizer=none
        cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir "$target/fuzz/$sanitizer" --sanitizer "$sanitizer" "$name" \
            "tests/fuzz/corpus/$name" "$1/$name" -- -merge=1 -use_counters=0 -max_len=2048 -rss_limit_mb=1024 -malloc_limit_mb=8192
    done
}

corpus() {
    step "the corpus, replayed"
    RUSTFLAGS="--cfg fuzzing" CARGO_TARGET_DIR="$target/corpus" \
        cargo test --manifest-path tests/fuzz/Cargo.toml --no-default-features --lib -- --quiet
}

loggers() {
    step "loggers that write to a topic"
    CARGO_TARGET_DIR="$target/log_writers" cargo test --manifest-path tests/log_writers/Cargo.toml -- --nocapture
}

miri() {
    need_nightly miri rust-src
    cargo +nightly miri setup >/dev/null 2>&1 || skip "Miri cannot be set up"
    step "Miri"
    # Isolation is off for the clock alone; no test it runs touches a file.
    export MIRIFLAGS="-Zmiri-disable-isolation"
    cargo +nightly miri test --lib -- storage::region storage::frame record_codec::tests::absent durability growing_list
    cargo +nightly miri test --test power_cut -- a_short_life
}

case "${1:-}" in
kill) shift && kill_loop "$@" ;;
crash | disk | inject | damage | segments | tsan | loom | fuzz | merge | corpus | loggers | miri) "$@" ;;
all)
    # Each in a shell of its own, so that one that is skipped does not end the others.
    for part in crash damage kill disk inject segments loom tsan miri corpus loggers "fuzz 620"; do
        # shellcheck disable=SC2086
        "$0" $part
    done
    ;;
*)
    sed -n '4,18p' "$0"
    exit 2
    ;;
esac
