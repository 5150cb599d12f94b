#!/usr/bin/env bash
# The programs that the tests' servers and `make services` need: installed on Debian as root, otherwise named.
# Says nothing on standard output, which is for what `make services` prints.
set -euo pipefail

missing=()
shopt -s nullglob
in_versions=(/usr/lib/postgresql/*/bin/initdb)
command -v initdb >/dev/null || [ ${#in_versions[@]} -gt 0 ] || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v mvn >/dev/null || missing+=(maven)
command -v java >/dev/null || missing+=(default-jre-headless)
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
# More, if it is asked for.
while [ $# -gt 0 ]; do
  case "$1" in
    strace) command -v strace >/dev/null || missing+=(strace) ;;
    libssl-dev) [ -e /usr/include/openssl/ssl.h ] || missing+=(libssl-dev pkg-config) ;;
    *) echo "usage: $0 [strace] [libssl-dev]" >&2; exit 2 ;;
  esac
  shift
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"; } >&2
else
  echo "missing programs; install them as root: apt-get install ${missing[*]} (names as on Debian)" >&2
  exit 1
fi
