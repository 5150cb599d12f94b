#!/bin/bash
# Builds rules with current toolchains of other languages, and inspects and tests them with `belfry plugin`. Run it by hand: it
# needs node, npm, go and Python with venv on this machine, downloads the toolchains from npm and PyPI, and takes a few minutes.
#
#   tests/foreign-guests.sh [PATH TO belfry] [OUTPUT DIRECTORY]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
belfry=${1:-belfry}
work=${2:-$(mktemp -d)}
wit=$here/../wit
world=notification-projector
mkdir -p "$work/javascript" && cd "$work"

step() { printf '\n== %s\n' "$1"; }

step 'toolchains'
[ -x venv/bin/componentize-py ] || {
  python3 -m venv venv
  venv/bin/pip install --quiet componentize-py==0.25.1 ziglang==0.13.0
}
[ -d javascript/node_modules ] || (
  cd javascript
  # With later versions of the shim, jco cannot read files.
  cat > package.json <<'JSON'
{
  "private": true,
  "devDependencies": {
    "componentize-qjs": "0.4.5",
    "@bytecodealliance/componentize-js": "0.23.0",
    "@bytecodealliance/jco": "1.35.0"
  },
  "overrides": {"@bytecodealliance/preview2-shim": "0.26.0"}
}
JSON
  npm install --silent
)
tools=$work/javascript/node_modules/.bin

step 'Python: componentize-py'
(cd "$here/foreign/python" && "$work/venv/bin/componentize-py" -d "$wit" -w $world componentize --stub-wasi app -o "$work/python.wasm")

step 'JavaScript: componentize-qjs (QuickJS) and componentize-js (SpiderMonkey)'
"$tools/componentize-qjs" --wit "$wit" --world $world --js "$here/foreign/javascript/rule.js" --sync --stub-wasi -o quickjs.wasm
cat > javascript/componentize.mjs <<'JS'
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';
const [sourcePath, witPath, worldName, output] = process.argv.slice(2);
const disableFeatures = ['random', 'stdio', 'clocks', 'http', 'fetch-event'];
const { component } = await componentize({ sourcePath, witPath, worldName, disableFeatures });
await writeFile(output, component);
JS
node javascript/componentize.mjs "$here/foreign/javascript/rule.js" "$wit" $world "$work/spidermonkey.wasm"

# Core modules for WASI preview 1 become components with an adapter whose functions do nothing. The standard adapter calls
# the rule to allocate memory before Go has started.
"$tools/jco" parse "$here/foreign/no-wasi.wat" -o no-wasi.wasm
component() { # name
  "$tools/jco" embed "$1.core.wasm" --wit "$wit" --world-name $world -o "$1.embedded.wasm"
  "$tools/jco" new "$1.embedded.wasm" --adapt wasi_snapshot_preview1=no-wasi.wasm -o "$1.wasm"
}

step 'Go: the stock compiler'
(cd "$here/foreign/go" && GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w' -o "$work/go.core.wasm" .)
component go

step 'C: clang and wasi-libc, as bundled with zig'
# By default, zig reserves a stack of 16 MiB, which would make the rule dynamic.
venv/bin/python -m ziglang cc --target=wasm32-wasi -Oz -mexec-model=reactor -Wl,--strip-all -Wl,-z,stack-size=65536 \
  "$here/foreign/c/rule.c" -o c.core.wasm
component c

failed=0
for rule in python quickjs spidermonkey go c; do
  step "$rule: inspect and test"
  cases=$here/foreign/cases/notifies
  case $rule in go | c) cases=$here/foreign/cases/returns-nothing ;; esac
  "$belfry" plugin inspect "$rule.wasm" || failed=1
  "$belfry" plugin test "$rule.wasm" --cases "$cases" || failed=1
done
exit $failed
