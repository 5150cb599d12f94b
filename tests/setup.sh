#!/usr/bin/env bash
# Installs the dependencies other than Rust. As root on Debian and Ubuntu, it installs missing packages; elsewhere it prints
# the one command that does, and fails before anything is compiled. Writes nothing to standard output, which belongs to the
# caller.
#
#   tests/setup.sh build     to build Belfry: a C and a C++ compiler, pkg-config, OpenSSL's headers, the WebAssembly target
#   tests/setup.sh servers   the same, and the servers that `make services` starts
#   tests/setup.sh test      the same, and the other programs that the tests use
set -euo pipefail
exec >&2

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cargo=${CARGO:-cargo}
target=wasm32-wasip2

# Each program or library, and its package in Debian, Fedora and Homebrew. Building librdkafka requires a C++ compiler,
# although Belfry uses only the C part, and finds OpenSSL through pkg-config.
packages() {
  cat <<'TABLE'
cc          gcc                   gcc                          -
cxx         g++                   gcc-c++                      -
make        make                  make                         -
pkg-config  pkg-config            pkgconf-pkg-config           pkgconf
openssl     libssl-dev            openssl-devel                openssl@3
postgresql  postgresql            postgresql-server            postgresql
redis       redis-server          valkey-compat-redis          redis
java        default-jre-headless  java-latest-openjdk-headless openjdk
maven       maven                 maven                        maven
strace      strace                strace                       -
venv        python3-venv          python3                      python
TABLE
}

has() { # name in the table
  case "$1" in
    cc) found "${CC:-cc}" || found gcc || found clang ;;
    cxx) found "${CXX:-c++}" || found g++ || found clang++ ;;
    pkg-config) found "${PKG_CONFIG:-pkg-config}" ;;
    openssl)
      [ -n "${OPENSSL_DIR:-}" ] || "${PKG_CONFIG:-pkg-config}" --exists openssl 2>/dev/null ||
        [ -d "$(brew --prefix openssl@3 2>/dev/null)/include/openssl" ]
      ;;
    postgresql) found initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
    redis) found redis-server ;;
    maven) found mvn ;;
    venv) python3 -c 'import ensurepip' 2>/dev/null ;;
    *) found "$1" ;;
  esac
}

found() { command -v "${1%% *}" >/dev/null; } # CC may have arguments

case "${1:-}" in
  build) needed='cc cxx make pkg-config openssl' ;;
  servers) needed='cc cxx make pkg-config openssl postgresql redis java maven' ;;
  test) needed='cc cxx make pkg-config openssl postgresql redis java maven strace venv' ;;
  *) echo "usage: $0 build|servers|test"; exit 2 ;;
esac

# Prints the missing packages on one line, by their names in Debian, Fedora or Homebrew.
missing() { # apt, dnf or brew
  local name apt dnf brew package names=()
  while read -r name apt dnf brew; do
    case " $needed " in *" $name "*) ;; *) continue ;; esac
    case "$1" in apt) package=$apt ;; dnf) package=$dnf ;; brew) package=$brew ;; esac
    [ "$package" = - ] || has "$name" || names+=("$package")
  done < <(packages)
  echo "${names[*]-}"
}

# Debian's server packages start the servers at once and at each boot, and PostgreSQL's package creates a database. The tests
# start their own servers, so this prevents all three, and afterwards restores the machine's policy.
install_on_debian() {
  export DEBIAN_FRONTEND=noninteractive
  local apt=(apt-get -qy -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
  kept=$(mktemp -d) installed=" $* "
  trap put_back EXIT
  trap 'exit 1' HUP INT TERM
  keep /usr/sbin/policy-rc.d
  rm -f /usr/sbin/policy-rc.d
  printf '#!/bin/sh\n# Written by %s, which removes it when it ends: no service may start.\nexit 101\n' "$here/setup.sh" \
    >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
  # A package source that does not respond may not be needed.
  "${apt[@]}" update || echo 'apt-get update failed; continuing with the existing package lists'
  case " $* " in
    *' postgresql '*)
      # This package contains the settings for new databases.
      "${apt[@]}" install --no-install-recommends postgresql-common
      keep /etc/postgresql-common/createcluster.conf
      echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
      ;;
  esac
  "${apt[@]}" install --no-install-recommends "$@"
}

# Saves a copy of a file, or a marker that it is absent.
keep() { # path
  local as=$kept/${1//\//+}
  if [ -e "$1" ] || [ -L "$1" ]; then
    cp -a "$1" "$as"
  else
    : >"$as.absent"
  fi
}

put_back() {
  local as path service
  for service in postgresql redis-server; do
    case "$installed" in *" $service "*) [ ! -e "/etc/init.d/$service" ] || update-rc.d "$service" disable || true ;; esac
  done
  shopt -s nullglob
  for as in "$kept"/*; do
    path=${as##*/}
    path=${path//+//}
    case "$path" in
      *.absent) rm -f "${path%.absent}" ;;
      *) rm -f "$path" && cp -a "$as" "$path" ;;
    esac
  done
  rm -rf "$kept"
}

# Under sudo, Rust is not checked: it belongs to the user, not to root.
if [ -z "${SUDO_USER:-}" ] && ! found "$cargo"; then
  echo 'Rust is missing; install it with: curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs | sh'
  exit 1
fi

if found apt-get; then
  read -ra names <<<"$(missing apt)"
  if [ ${#names[@]} -gt 0 ] && [ "$(id -u)" != 0 ]; then
    echo "missing: ${names[*]}; install them with: sudo $here/setup.sh $1"
    exit 1
  fi
  [ ${#names[@]} = 0 ] || install_on_debian "${names[@]}"
else
  manager=apt
  install='install them; these are the package names in Debian'
  if found dnf; then manager=dnf; install='install them with: sudo dnf install'; fi
  if found brew; then manager=brew; install='install them with: brew install'; fi
  names=$(missing $manager)
  if [ -n "$names" ]; then
    [ $manager = apt ] && echo "missing: $names; $install" || echo "missing: $names; $install $names"
    exit 1
  fi
fi
[ -z "${SUDO_USER:-}" ] || exit 0

# Without this check, a build fails with hundreds of errors about a missing `core`.
if [ ! -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
  if ! found rustup; then
    echo "rustc cannot build for $target; install Rust with rustup, see https://rustup.rs"
    exit 1
  fi
  rustup target add "$target"
fi
