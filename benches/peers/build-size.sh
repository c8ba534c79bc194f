#!/usr/bin/env bash
# What a program that issues one certificate takes to build with certwright, and with instant-acme:
# crates in its tree, time of a clean build, size of the stripped binary.
#
#     benches/peers/build-size.sh
#
# Both programs are made here, as small as they get, and built with the libraries' default features
# (instant-acme's `rcgen` besides, without which it makes no CSR). The build is a release build, one
# after the other, from what cargo has downloaded already.

set -euo pipefail

repository=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

program() {
    mkdir -p "$work/$1/src"
    cat >"$work/$1/Cargo.toml" <<TOML
[package]
name = "one-certificate"
version = "0.0.0"
edition = "2024"
publish = false

[workspace]

[dependencies]
$2
tokio = { version = "1.47", features = ["macros", "rt-multi-thread"] }

[profile.release]
strip = true
TOML
    cat >"$work/$1/src/main.rs"
}

program certwright "certwright = { path = \"$repository\" }" <<'RUST'
use certwright::jose::AccountKey;
use certwright::solver::Http01Server;
use certwright::{Client, LetsEncrypt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder(LetsEncrypt::Staging).build().await?;
    let account = client
        .new_account(AccountKey::generate()?)
        .agree_to_terms()
        .create()
        .await?;
    let issued = account
        .issue(["www.example.com"])
        .solver(Http01Server::on_port(80).await?)
        .await?;
    println!("{}{}", issued.chain().pem(), *issued.key().to_pkcs8_pem()?);
    Ok(())
}
RUST

# Its user answers the challenge; the smallest answer is one over a plain socket.
program instant-acme 'instant-acme = { version = "0.8.5", features = ["rcgen"] }' <<'RUST'
use std::io::{Read, Write};
use std::net::TcpListener;

use instant_acme::{
    Account, ChallengeType, Identifier, LetsEncrypt, NewAccount, NewOrder, RetryPolicy,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let new_account = NewAccount {
        contact: &[],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, _) = Account::builder()?
        .create(&new_account, LetsEncrypt::Staging.url().to_owned(), None)
        .await?;
    let names = [Identifier::Dns("www.example.com".to_owned())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let mut challenge = authorization
            .challenge(ChallengeType::Http01)
            .ok_or("no http-01")?;
        let body = challenge.key_authorization().as_str().to_owned();
        let listener = TcpListener::bind("0.0.0.0:80")?;
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 1_024]);
                let length = body.len();
                let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            }
        });
        challenge.set_ready().await?;
    }
    order.poll_ready(&RetryPolicy::default()).await?;
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&RetryPolicy::default()).await?;
    println!("{chain}{key}");
    Ok(())
}
RUST

printf '| library | crates | clean build s | stripped binary KiB |\n|---|--:|--:|--:|\n'
for library in certwright instant-acme; do
    cd "$work/$library"
    cargo generate-lockfile --quiet --offline 2>/dev/null || cargo generate-lockfile --quiet
    cargo fetch --quiet
    crates=$(cargo tree --edges normal --prefix none --no-dedupe | awk '{ print $1, $2 }' | sort -u | wc -l)
    start=$(date +%s.%N)
    CARGO_TARGET_DIR="$work/target-$library" cargo build --release --quiet
    end=$(date +%s.%N)
    size=$(stat -c %s "$work/target-$library/release/one-certificate")
    awk -v library="$library" -v crates="$((crates - 1))" -v start="$start" -v end="$end" \
        -v size="$size" 'BEGIN {
            printf "| %s | %d | %.0f | %d |\n", library, crates, end - start, size / 1024
        }'
done
