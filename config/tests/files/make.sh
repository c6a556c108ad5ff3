#!/bin/sh
# Makes the certificates and keys of this folder anew. Nobody trusts them; their keys are published here.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$1" 2> /dev/null; }
# $1: file, $2: common name, $3: extensions
issue() {
    openssl req -new -key device.key -subj "/CN=$2" -out "$work/request.csr"
    printf '%b' "$3" > "$work/extensions"
    openssl x509 -req -in "$work/request.csr" -CA "$work/middle.pem" -CAkey "$work/middle.key" -days 36500 -set_serial "$(date +%N)" \
        -extfile "$work/extensions" -out "$1" 2> /dev/null
}

key "$work/ca.key"
openssl req -x509 -key "$work/ca.key" -subj '/CN=test authority' -days 36500 -out ca.pem
key "$work/middle.key"
openssl req -new -key "$work/middle.key" -subj '/CN=test authority of the plant' -out "$work/middle.csr"
printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n' > "$work/middle.ext"
openssl x509 -req -in "$work/middle.csr" -CA ca.pem -CAkey "$work/ca.key" -days 36500 -set_serial 2 -extfile "$work/middle.ext" \
    -out "$work/middle.pem" 2> /dev/null

key device.key
key other.key
names='subjectAltName=DNS:gateway,IP:192.0.2.1\n'
issue "$work/leaf.pem" gateway "${names}extendedKeyUsage=serverAuth,clientAuth\n"
issue client.pem gateway "${names}extendedKeyUsage=clientAuth\n"
issue server.pem gateway "${names}extendedKeyUsage=serverAuth\n"
# The gateway's own certificate with its chain, as it should be; the chain first; and behind it two in the wrong order.
cat "$work/leaf.pem" "$work/middle.pem" > device.pem
cat "$work/middle.pem" "$work/leaf.pem" > turned-chain.pem
cat "$work/leaf.pem" ca.pem "$work/middle.pem" > mixed-chain.pem
openssl req -x509 -key device.key -subj '/CN=gateway' -days 36500 -out self-signed.pem
# Without a file of extensions openssl 3.0 makes version 1.
openssl req -new -key device.key -subj /CN=gateway -out "$work/request.csr"
openssl x509 -req -in "$work/request.csr" -CA ca.pem -CAkey "$work/ca.key" -days 36500 -set_serial 3 -out version-1.pem 2> /dev/null
