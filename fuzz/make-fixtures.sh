#!/usr/bin/env bash
# Makes the keys, certificates and lists among the fixtures and seeds anew, by openssl. Nobody trusts
# these keys.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/conf" <<'CONF'
[req]
distinguished_name = name
prompt = no
[name]
CN = Fuzz Issuer
[issuer]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
subjectAltName = DNS:example.com, DNS:*.example.com, IP:192.0.2.1, IP:2001:db8::1
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
authorityKeyIdentifier = keyid
crlDistributionPoints = URI:http://crl.example/1.crl
tlsfeature = status_request
[ca]
default_ca = lists
[lists]
database = index
default_md = sha256
default_crl_days = 7300
crlnumber = number
[list]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical, @point
[point]
fullname = URI:http://crl.example/1.crl
onlyuser = true
CONF

chain() { # NAME, then the arguments that make a key
    local name=$1
    shift
    openssl genpkey "$@" -out "$work/$name-issuer.key"
    openssl genpkey "$@" -out "$work/$name-leaf.key"
    openssl req -new -x509 -config "$work/conf" -extensions issuer -days 7300 \
        -key "$work/$name-issuer.key" -out "$work/$name-issuer.pem"
    openssl req -new -config "$work/conf" -subj /CN=example.com \
        -addext "subjectAltName=DNS:example.com,IP:192.0.2.1" \
        -key "$work/$name-leaf.key" -out "$work/$name.csr"
    openssl x509 -req -in "$work/$name.csr" -CA "$work/$name-issuer.pem" -days 7000 \
        -CAkey "$work/$name-issuer.key" -extfile "$work/conf" -extensions leaf \
        -set_serial 0x8765432112345678 -out "$work/$name-leaf.pem"
    cat "$work/$name-leaf.pem" "$work/$name-issuer.pem" > "corpus/pem_chain/$name.pem"
    openssl x509 -in "$work/$name-leaf.pem" -outform der -out "corpus/certificate/$name-leaf.der"
    openssl x509 -in "$work/$name-issuer.pem" -outform der -out "corpus/certificate/$name-issuer.der"
    openssl req -in "$work/$name.csr" -outform der -out "corpus/csr/$name.der"
    cp "$work/$name-leaf.key" "corpus/private_key/$name.pem"
}

mkdir -p fixtures corpus/{certificate,crl,csr,pem_chain,private_key}
chain p256 -algorithm EC -pkeyopt ec_paramgen_curve:P-256
chain rsa -algorithm RSA -pkeyopt rsa_keygen_bits:2048
chain ed25519 -algorithm ED25519 2> /dev/null || true
openssl ec -in "$work/p256-leaf.key" -out corpus/private_key/sec1.pem
openssl rsa -in "$work/rsa-leaf.key" -traditional -out corpus/private_key/pkcs1.pem
cp corpus/pem_chain/p256.pem fixtures/chain.pem
cp "$work/p256-issuer.key" fixtures/issuer-key.pem

# Lists as they are signed: of a signed one, the first element of the outer sequence.
lists() { # NAME, then arguments
    local name=$1
    shift
    (cd "$work" && openssl ca -batch -config conf -gencrl -keyfile p256-issuer.key -cert p256-issuer.pem \
        -out list.pem "$@")
    openssl crl -in "$work/list.pem" -outform der -out "$work/list.der"
    local start
    start=$(openssl asn1parse -inform der -in "$work/list.der" | sed -n '2s/ *\([0-9]*\):.*/\1/p')
    openssl asn1parse -inform der -in "$work/list.der" -strparse "$start" -noout \
        -out "corpus/crl/$name.tbs"
}
echo 01 > "$work/number"
: > "$work/index"
lists empty
printf 'R\t400101000000Z\t251101000000Z,keyCompromise\t8765432112345678\tunknown\t/CN=example.com\n' > "$work/index"
printf 'R\t400101000000Z\t251101000000Z\t01\tunknown\t/CN=other\n' >> "$work/index"
lists revoked
lists points -crlexts list
cp "$work/list.der" corpus/crl/signed.der
