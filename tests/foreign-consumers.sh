#!/usr/bin/env bash
# Reads a topic with third-party clients as their registries provide them, with no extras installed: aiokafka from PyPI, in a
# virtual environment, and kcat from Debian. Prints one line of JSON for each record and client.
# Exits with 0 if both read COUNT records, and with 77 if one of them cannot be installed here.
#
#   tests/foreign-consumers.sh localhost:9092 TOPIC COUNT
set -euo pipefail

[ $# -eq 3 ] || { echo "usage: $0 BROKERS TOPIC COUNT" >&2; exit 2; }
brokers=$1 topic=$2 count=$3
cache=${XDG_CACHE_HOME:-$HOME/.cache}/belfry/foreign-consumers
mkdir -p "$cache"
# Only one process installs at a time.
exec 9>"$cache/lock"
flock 9

skip() { echo "$1" >&2; exit 77; }

python=$cache/venv/bin/python
if ! "$python" -c 'import aiokafka' 2>/dev/null; then
  rm -rf "$cache/venv"
  python3 -m venv "$cache/venv" >&2 || skip "python3 cannot create a virtual environment; install python3-venv"
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check aiokafka >&2 || skip "cannot download aiokafka from PyPI"
fi
if ! command -v kcat >/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || skip "kcat is missing; install it as root: apt-get install kcat"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -qy --no-install-recommends kcat; } >&2 || skip "cannot install kcat"
fi
flock -u 9

timeout 120 "$python" - "$brokers" "$topic" "$count" <<'PYTHON'
import asyncio, json, sys
from aiokafka import AIOKafkaConsumer

async def read(brokers, topic, count):
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=brokers, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        for _ in range(count):
            record = await asyncio.wait_for(consumer.getone(), 60)
            headers = {name: value.decode() for name, value in record.headers}
            event_id = json.loads(record.value)["event_id"]
            print(json.dumps({"client": "aiokafka", "event_id": event_id, "header": headers["event_id"]}), flush=True)
    finally:
        await consumer.stop()

asyncio.run(read(sys.argv[1], sys.argv[2], int(sys.argv[3])))
PYTHON

timeout 120 kcat -C -q -b "$brokers" -t "$topic" -o beginning -c "$count" -J |
  "$python" -c '
import json, sys
for line in sys.stdin:
    record = json.loads(line)
    headers = dict(zip(record["headers"][::2], record["headers"][1::2]))
    event_id = json.loads(record["payload"])["event_id"]
    print(json.dumps({"client": "kcat", "event_id": event_id, "header": headers["event_id"]}))'
