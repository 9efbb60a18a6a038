#!/usr/bin/env bash
# Installs what the tests run against: real servers and clients from Debian, Go modules and npm.
#
#   test/setup/setup.sh [GROUP...]     groups: test (default), bench, lint
#
# It starts nothing and leaves nothing running: the tests start their own servers, in folders and on ports
# of their own, and end them. Run it as often as you like; when everything is there it takes under a second.
# Go programs go to ${BERTH_TEST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/berth-test}/bin, pinned in peers.txt.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=(test)

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
wants() { local g; for g in "${groups[@]}"; do [ "$g" = "$1" ] && return 0; done; return 1; }

for g in "${groups[@]}"; do
  case $g in test | bench | lint) ;; *) die "group \"$g\" is unknown; groups are: test, bench, lint" ;; esac
done

if [ -z "${HOME:-}" ]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
  export HOME
fi
cache=${BERTH_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/berth-test}

# --- Debian packages -------------------------------------------------------------------------------------
# package, then what proves that it (or another package that does the same, such as Docker's own) is there.
debian_packages() {
  if wants test; then
    cat <<'LIST'
postgresql       /usr/lib/postgresql/*/bin/initdb
pgbouncer        /usr/sbin/pgbouncer
docker.io        dockerd
containerd       containerd
podman           podman
buildah          buildah
skopeo           skopeo
gnupg            gpg
curl             curl
jq               jq
patch            patch
ca-certificates  /etc/ssl/certs/ca-certificates.crt
openssl          openssl
runc             runc
systemd          systemd-analyze
nginx-light      nginx
haproxy          haproxy
caddy            caddy
slapd            slapd
nodejs           node
npm              npm
ldap-utils       ldapadd
LIST
  fi
  if wants bench; then
    cat <<'LIST'
docker-registry  docker-registry
LIST
    wants test || echo "nginx-light      nginx"
  fi
}

present() { # a program on PATH (or in sbin, which a user's PATH may lack), or a file
  case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] ;;
  esac
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo -- "$@"; else return 127; fi
}

# Debian starts a server as soon as its package is unpacked. Those would take ports 5432 and 80 and edit the
# firewall (docker), and no test uses them: policy-rc.d forbids it while we install, as debootstrap does.
policy=/usr/sbin/policy-rc.d
forbid_start() {
  [ -e "$policy" ] && return 0
  trap allow_start EXIT
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}
allow_start() {
  as_root rm -f "$policy"
  trap - EXIT
}

install_debian() {
  local missing=() name proof
  while read -r name proof; do
    if present "$proof"; then say "$name: there"; else missing+=("$name"); fi
  done < <(debian_packages)
  [ ${#missing[@]} -gt 0 ] || return 0

  command -v apt-get >/dev/null ||
    die "${missing[*]}: not installed, and this system has no apt-get; install them with its own package manager"
  as_root true || die "${missing[*]}: not installed; run as root or with sudo: apt-get install ${missing[*]}"

  say "${missing[*]}: installing with apt"
  local log start=$SECONDS
  log=$(mktemp)
  forbid_start
  if ! { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
    --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 40 "$log" >&2
    rm -f "$log"
    die "${missing[*]}: apt-get failed (its last lines are above)"
  fi
  rm -f "$log"
  [ "$(trap -p EXIT)" = "" ] || allow_start
  say "${missing[*]}: installed in $((SECONDS - start)) s"

  # Under systemd the new servers would still start at the next boot.
  if [ -d /run/systemd/system ]; then
    local unit
    for name in "${missing[@]}"; do
      case $name in
        postgresql) unit=postgresql.service ;;
        pgbouncer) unit=pgbouncer.service ;;
        docker.io) unit="docker.service docker.socket" ;;
        containerd) unit=containerd.service ;;
        docker-registry) unit=docker-registry.service ;;
        nginx-light) unit=nginx.service ;;
        haproxy) unit=haproxy.service ;;
        caddy) unit=caddy.service ;;
        slapd) unit=slapd.service ;;
        *) continue ;;
      esac
      # shellcheck disable=SC2086 # one or two units
      as_root systemctl disable --quiet $unit && say "$name: its service will not start at boot"
    done
  fi
}

# --- Go programs -----------------------------------------------------------------------------------------
# From outside our module: a peer must not see our go.mod, and needs no work tree. One that is built beside another is built in a
# module that needs both, so that what both are made of is compiled once.
build_go() (
  export GOFLAGS=-trimpath GOWORK=off CGO_ENABLED=0
  if [ -z "$beside" ]; then
    cd "$cache" && GOBIN=$dir.tmp exec go install -ldflags='-s -w' "$package@$version"
  fi
  mkdir -p "$dir.tmp/module" && cd "$dir.tmp/module" && go mod init peers &&
    go get "$package@$version" "$(awk -v other="$beside" '$2 == other { print $3 "@" $4 }' "$here/peers.txt")" &&
    go build -ldflags='-s -w' -o "$dir.tmp/$program" "$package" && rm -r "$dir.tmp/module"
)

install_go() {
  command -v go >/dev/null || die "go: not found; install Go (the version in go.mod, or newer)"
  local group program package version beside dir log start=0
  while read -r group program package version beside; do
    case $group in '' | '#'*) continue ;; esac
    wants "$group" || continue
    dir=$cache/bin/$program@$version
    if [ -x "$dir/$program" ]; then
      say "$program $version: there"
      continue
    fi
    say "$program $version: building"
    start=$SECONDS
    # Built beside its place and moved in, so that a run cut short never leaves half a program.
    mkdir -p "$cache/bin"
    rm -rf "$dir.tmp"
    log=$(mktemp)
    if ! build_go >"$log" 2>&1 </dev/null; then
      tail -n 20 "$log" >&2
      rm -f "$log"
      die "$program $version: go failed to build it (its last lines are above)"
    fi
    rm -rf "$log" "$dir"
    mv "$dir.tmp" "$dir"
    say "$program $version: built in $((SECONDS - start)) s"
  done <"$here/peers.txt"
}

# --- Node programs ---------------------------------------------------------------------------------------
# As npm/package-lock.json pins them, with the hash of each. The folder is named after the lock: a changed one is another.
install_npm() {
  wants test || return 0
  local sum dir log start=$SECONDS
  sum=$(sha256sum "$here/npm/package-lock.json" | cut -c1-16)
  dir=$cache/npm/$sum
  if [ -d "$dir/node_modules" ]; then
    say "npm peers: there"
    return 0
  fi
  say "npm peers: installing"
  rm -rf "$dir.tmp"
  mkdir -p "$dir.tmp"
  cp "$here/npm/package.json" "$here/npm/package-lock.json" "$dir.tmp/"
  log=$(mktemp)
  if ! (cd "$dir.tmp" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund) >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "npm peers: npm ci failed (its last lines are above)"
  fi
  rm -rf "$log" "$dir"
  mv "$dir.tmp" "$dir"
  say "npm peers: installed in $((SECONDS - start)) s"
}

install_debian
install_go
install_npm
say "ready after $SECONDS s"
