#!/usr/bin/env bash
# Fuzzes the code that reads foreign bytes: each target for SECONDS (default 300), one after the other.
#
#   tests/fuzz/run.sh [SECONDS] [TARGET...]
#
# Targets: envelope, projector_output, component. A finding does not stop the other targets; the script then ends with
# exit code 1, after cargo-fuzz has printed how to reproduce it. The corpus stays in corpus/, so that the next run
# continues from it.
set -euo pipefail
cd "$(dirname "$0")"

seconds="${1:-300}"
targets=("${@:2}")
[[ ${#targets[@]} -gt 0 ]] || targets=(envelope projector_output component)

# Everything built here stays here, whatever target directory the caller's own builds use.
export CARGO_TARGET_DIR="$PWD/target"
# One thread compiles: more would share the fuzzer's counters and make coverage nondeterministic.
export RAYON_NUM_THREADS=1

say() { printf '\n== %s\n' "$*"; }

if ! rustup run nightly rustc --version >/dev/null 2>&1; then
  echo 'fuzzing needs a nightly compiler: rustup toolchain install nightly --profile minimal' >&2
  exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
  say 'installing cargo-fuzz'
  cargo install --locked cargo-fuzz
fi

seed_events() {
  cp ../../host/model/tests/samples/*.json corpus/envelope/
}

# Belfry's own components, sound and hostile ones. They are built with the stable compiler, as always; cargo itself
# reports their location.
seed_components() {
  say 'building the components to start from'
  local built
  built="$(cargo build --locked --manifest-path ../../Cargo.toml --package belfry-artifacts \
    --message-format json-render-diagnostics |
    sed -nE '/"reason":"build-script-executed".*belfry-artifacts/ s/.*"out_dir":"([^"]*)".*/\1/p')"
  mkdir -p corpus/seeds
  cp "$built"/*.wasm corpus/seeds/
  # Only the small ones serve as whole inputs: a large one takes a second to compile, each time it is tried.
  find corpus/seeds -name '*.wasm' -size -16k -exec cp {} corpus/component/ \;
}

# Timeouts are in wall-clock time and only end inputs that hang: on a busy machine a valid input may wait for a long
# time.
options() {
  case "$1" in
    # Larger than the samples; an event need not be large to be invalid.
    envelope) echo '-max_len=4096 -timeout=60 -rss_limit_mb=1024 -dict=envelope.dict' ;;
    projector_output) echo '-max_len=4096 -timeout=60 -rss_limit_mb=1024' ;;
    # The small seeds as a whole, or a large one with two thousand changes. Quick inputs get a larger share of the time.
    component) echo '-max_len=8192 -timeout=300 -report_slow_units=300 -rss_limit_mb=4096 -entropic_scale_per_exec_time=1' ;;
  esac
}

# No sanitizer: the host's crates deny unsafe code, and panics and failed assertions show without one. Of the thousands
# of lines about new inputs, only the summaries are printed.
fuzz() {
  local target="$1" features=''
  [[ "$target" != component ]] || features=sandbox
  # shellcheck disable=SC2046 # options are words
  cargo +nightly fuzz run --fuzz-dir . --sanitizer none --features "$features" "$target" -- \
    -max_total_time="$seconds" -print_final_stats=1 $(options "$target") 2>&1 |
    { grep --line-buffered -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE) |NEW_FUNC|# Uses:|^######' || true; }
}

findings=()
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  case "$target" in
    envelope) seed_events ;;
    component) seed_components ;;
  esac
  say "$target: $seconds s"
  fuzz "$target" || findings+=("$target")
done

if [[ ${#findings[@]} -gt 0 ]]; then
  say "failed: ${findings[*]}; findings, unless it was interrupted, are in tests/fuzz/artifacts"
  exit 1
fi
say 'no findings'
