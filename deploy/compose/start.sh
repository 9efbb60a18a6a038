#!/bin/sh
# Starts berth with three replicas: ./start.sh registry.example.com. The first start makes random secrets and, unless there
# is secrets/tls.pem (certificate, chain and key in one file), a self-signed certificate. What is there is kept.
#
#   BERTH_PORT=8443 ./start.sh registry.example.com:8443    another port
#   ./start.sh --prepare registry.example.com               secrets and .env only
set -eu
umask 077
cd "$(dirname "$0")"

prepare=
if [ "${1:-}" = --prepare ]; then prepare=1; shift; fi
host=${1:-}
[ -n "$host" ] || [ -s .env ] || { echo "usage: $0 [--prepare] HOST[:PORT], the name by which clients reach the registry" >&2; exit 2; }

# The folder is for its owner only; the files are for the users of the containers, to which they are given one by one.
mkdir -p secrets
chmod 700 secrets
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
secret() { # name, value
  [ -s "secrets/$1" ] || { printf '%s' "$2" >"secrets/$1.new" && mv "secrets/$1.new" "secrets/$1"; }
  chmod 444 "secrets/$1"
}
[ -s secrets/admin-password ] || fresh=1
secret admin-password "$(random)"
secret postgres-password "$(random)"
secret database-url "postgres://berth:$(cat secrets/postgres-password)@postgres:5432/berth?sslmode=disable"
secret s3-accesskey "$(random | cut -c1-20)"
secret s3-secretkey "$(random)"

if [ -n "$host" ]; then
  printf 'BERTH_HOST=%s\nBERTH_PORT=%s\n' "$host" "${BERTH_PORT:-443}" >.env
else
  host=$(sed -n 's/^BERTH_HOST=//p' .env)
fi
name=${host%:*}
if [ ! -s secrets/tls.pem ]; then
  case $name in *[!0-9.]*) san=DNS:$name ;; *) san=IP:$name ;; esac
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 397 -subj "/CN=$name" \
    -addext "subjectAltName=$san" -keyout secrets/tls.key -out secrets/ca.crt 2>/dev/null
  cat secrets/ca.crt secrets/tls.key >secrets/tls.pem
  rm -f secrets/tls.key
  echo "certificate for $name made: give secrets/ca.crt to clients, or put your own into secrets/tls.pem"
fi
chmod 444 secrets/tls.pem

[ -z "$prepare" ] || exit 0
docker compose up -d --wait
echo "berth answers at https://$host"
if [ "${fresh:-}" = 1 ]; then echo "login: admin, password in secrets/admin-password"; fi
