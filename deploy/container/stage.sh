#!/bin/sh
# Lays out what goes into the image: stage.sh BERTHD DIR. BERTHD is a static berthd for the image's platform; the CA
# bundle is that of this machine, or the file CA_BUNDLE names.
set -eu

[ $# = 2 ] || { echo "usage: $0 BERTHD DIR" >&2; exit 2; }
bundle=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
[ -f "$1" ] || { echo "$1: no such program; make build makes bin/berthd" >&2; exit 1; }
[ -s "$bundle" ] || { echo "$bundle: no CA bundle; install ca-certificates, or set CA_BUNDLE" >&2; exit 1; }

mkdir -p "$2/data" "$2/tmp"
cp "$1" "$2/berthd"
chmod 0755 "$2/berthd"
cp "$bundle" "$2/ca-certificates.crt"
chmod 0644 "$2/ca-certificates.crt"
