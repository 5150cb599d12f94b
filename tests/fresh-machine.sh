#!/usr/bin/env bash
# Tests the two commands of the README on a machine with only gcc, make and rustup: a new Debian root in a folder. Needs root,
# debootstrap and rustup. Takes as long as a first build; run it by hand.
#
#   tests/fresh-machine.sh demo     an unprivileged user gets the one command to run; `make demo` cold, then again
#   tests/fresh-machine.sh setup    what `make test` installs, and that it neither starts nor enables a service
#   tests/fresh-machine.sh test     the same, then `make test`
#   tests/fresh-machine.sh all      demo, then test
#
#   SUITE=bookworm   the Debian release
#   MIRROR=          the package mirror; default: that of this machine
#   ROOT=            the folder of the new machine, which must not exist and is kept; default: a temporary folder
#   TOOLCHAIN=copy   copy this machine's Rust instead of installing it with rustup
#
# Proxies, certificates and registries are taken from this machine's environment and cargo's configuration.
set -euo pipefail

what=${1:-all}
case "$what" in demo | setup | test | all) ;; *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
[ "$(id -u)" = 0 ] || { echo 'run this as root: it creates a file system and enters it with chroot' >&2; exit 1; }
# A private mount namespace: all mounts disappear when this process ends.
[ -n "${FRESH_MACHINE:-}" ] || FRESH_MACHINE=1 exec unshare --mount --propagation private "$0" "$@" 2>&1

repository=$(cd "$(dirname "$0")/.." && pwd)
suite=${SUITE:-bookworm}
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 2>/dev/null | awk -v suite="$suite" '$2 == suite { print $1; exit }')}
mirror=${mirror:-http://deb.debian.org/debian}
if [ -n "${ROOT:-}" ]; then
  root=$ROOT
  [ ! -e "$root" ] || { echo "$root exists; remove it, or set ROOT to another folder" >&2; exit 1; }
else
  root=$(mktemp -d)
  # Unprivileged users of the new machine enter it, too.
  chmod 755 "$root"
  trap 'umount -qlR "$root/dev" "$root/proc" || true; rm -rf --one-file-system "$root"' EXIT
fi

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*"; }

# Runs a command and prints its elapsed time and its processor time.
step() { # name, command
  local status TIMEFORMAT="          $1: %0R s, of processors %0U s"
  say "$1 …"
  shift
  # On the left of `||`, `set -e` would not apply inside the command.
  set +e
  time (set -e; "$@")
  status=$?
  set -e
  [ "$status" = 0 ] || say "failed with status $status"
  return $status
}

# Prints the environment variables through which this machine reaches the registries.
carried() {
  local name
  while IFS='=' read -r name _; do
    case "$name" in
      http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY | SSL_CERT_FILE | CARGO_HTTP_* | CARGO_NET_* | \
        CARGO_REGISTRIES_* | CARGO_SOURCE_* | RUSTUP_*_SERVER | CARGO_BUILD_JOBS) echo "$name=${!name}" ;;
    esac
  done < <(env)
}

# Runs a command line on the new machine, in the checkout.
inside() {
  local variables
  mapfile -t variables < <(carried)
  chroot "$root" /usr/bin/env -i HOME=/root USER=root TERM=dumb LANG=C.UTF-8 "${variables[@]}" \
    PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /bin/bash -c "cd /root/belfry 2>/dev/null; $1"
}

make_machine() {
  local log
  log=$(mktemp)
  debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$log" || { cat "$log"; return 1; }
  rm "$log"
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  # This machine's settings for downloading packages, such as a proxy.
  grep -lsiE 'proxy|check-(date|valid-until)' /etc/apt/apt.conf.d/* | xargs -r cp -t "$root/etc/apt/apt.conf.d/" || true
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  inside 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends gcc make libc6-dev ca-certificates' >/dev/null
  # Java trusts the system's certificate authorities and no file of the environment.
  if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
    cp -L /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
    inside 'update-ca-certificates' >/dev/null
  fi
  if [ -n "${SSL_CERT_FILE:-}" ]; then
    mkdir -p "$root$(dirname "$SSL_CERT_FILE")"
    cp -L "$SSL_CERT_FILE" "$root$SSL_CERT_FILE"
  fi
}

install_rust() {
  local cargo_home=${CARGO_HOME:-$HOME/.cargo} rustup_home=${RUSTUP_HOME:-$HOME/.rustup} file
  if [ "${TOOLCHAIN:-}" = copy ]; then
    mkdir -p "$root/root/.cargo" "$root/root/.rustup/toolchains"
    cp -a "$cargo_home/bin" "$root/root/.cargo/"
    cp -a "$rustup_home/settings.toml" "$root/root/.rustup/"
    cp -a "$rustup_home/toolchains/$(rustup show active-toolchain | cut -d' ' -f1)" "$root/root/.rustup/toolchains/"
  else
    # Under this name, rustup acts as its own installer.
    cp -L "$(rustup which rustup 2>/dev/null || command -v rustup)" "$root/tmp/rustup-init"
    inside '/tmp/rustup-init -y -q --profile minimal --no-modify-path'
  fi
  for file in config config.toml; do
    [ ! -e "$cargo_home/$file" ] || cp "$cargo_home/$file" "$root/root/.cargo/$file"
  done
  inside 'rustc --version; cargo --version'
}

check_out() {
  rm -rf "$root/root/belfry"
  git -c safe.directory='*' clone --quiet --no-hardlinks "$repository" "$root/root/belfry"
}

# Checks that a user without install rights gets the one command to run, before anything is compiled.
without_rights() {
  local said
  inside 'id guest >/dev/null 2>&1 || useradd --create-home guest; rm -rf /home/guest/belfry; cp -r /root/belfry /home/guest/; chown -R guest: /home/guest'
  if said=$(inside 'cd /home/guest/belfry && su guest -c "make demo CARGO=true"' 2>&1); then
    echo "make demo continued without its dependencies: $said"
    return 1
  fi
  echo "$said"
  grep -q 'install them with: sudo .*/tests/setup.sh build' <<<"$said"
}

# Checks that the installed packages run nothing, now or at boot, and that the machine's policies are unchanged.
no_services() {
  inside '
    status=0
    complain() { echo "$*"; status=1; }
    for name in /proc/[0-9]*/exe; do
      [ "$(readlink /proc/self/root)" != "$(readlink "${name%exe}root")" ] && continue
      case "$(readlink "$name")" in *postgres | *redis*) complain "running: $(readlink "$name")" ;; esac
    done
    [ ! -e /usr/sbin/policy-rc.d ] || complain "left behind: /usr/sbin/policy-rc.d"
    cmp /etc/postgresql-common/createcluster.conf /usr/share/postgresql-common/createcluster.conf || complain "createcluster.conf was changed"
    [ -z "$(ls -A /var/lib/postgresql/*/ 2>/dev/null)" ] || complain "a database was created"
    for name in /etc/rc[2-5].d/S*postgresql /etc/rc[2-5].d/S*redis-server /etc/systemd/system/*.wants/postgresql.service \
      /etc/systemd/system/*.wants/redis-server.service; do
      [ ! -e "$name" ] && [ ! -L "$name" ] || complain "enabled: $name"
    done
    exit $status'
}

step 'a new machine' make_machine
step 'Rust' install_rust
step 'checkout' check_out
if [ "$what" = demo ] || [ "$what" = all ]; then
  step 'make demo without rights' without_rights
  step 'make demo, cold' inside 'make demo'
  step 'make demo, again' inside 'make demo >/dev/null'
fi
if [ "$what" != demo ]; then
  step 'make setup-test' inside 'make setup-test'
  step 'no services' no_services
  step 'make setup-test, again' inside 'make setup-test'
fi
if [ "$what" = test ] || [ "$what" = all ]; then
  step 'make test' inside 'make test'
fi
say 'all checks passed'
