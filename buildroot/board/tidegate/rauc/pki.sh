#!/bin/sh
# Makes a development authority and a signing certificate in DIR, unless they are there: for trying updates out, never for gateways
# in the field. Their keys stay on this machine (the default folder is ignored by git); see docs/update.md for one's own.
#
#   pki.sh DIR          DIR/keyring.pem goes into the root, DIR/signer.pem and DIR/signer.key sign bundles
set -eu
umask 077

dir=${1:?the folder for the keys}
[ -f "$dir/signer.pem" ] && [ -f "$dir/signer.key" ] && [ -f "$dir/keyring.pem" ] && exit 0
mkdir -p "$dir"
work=$(mktemp -d "$dir/new.XXXXXX")
trap 'rm -rf "$work"' EXIT

ec='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
# shellcheck disable=SC2086 # the words of $ec are words
openssl req -x509 $ec -days 7300 -subj '/O=Tidegate/CN=development authority' -keyout "$work/authority.key" -out "$work/keyring.pem" 2>/dev/null
# shellcheck disable=SC2086
openssl req $ec -subj '/O=Tidegate/CN=development signer' -keyout "$work/signer.key" -out "$work/signer.csr" 2>/dev/null
printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=emailProtection,codeSigning\n' >"$work/signer.ext"
openssl x509 -req -in "$work/signer.csr" -CA "$work/keyring.pem" -CAkey "$work/authority.key" -CAcreateserial -days 7300 \
    -extfile "$work/signer.ext" -out "$work/signer.pem" 2>/dev/null
chmod 644 "$work/keyring.pem" "$work/signer.pem"
mv "$work/authority.key" "$work/signer.key" "$work/signer.pem" "$work/keyring.pem" "$dir"/
