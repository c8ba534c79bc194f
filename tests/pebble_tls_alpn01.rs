//! tls-alpn-01 at Pebble, which validates for real.
//!
//! Pebble 2.10 can lock itself up when orders are created while authorizations are fetched, so each
//! test has a Pebble of its own and makes its orders one after another.

#![cfg(all(
    feature = "hyper",
    feature = "tls-alpn-01",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use certwright::jose::AccountKey;
use certwright::protocol::ProblemType;
use certwright::solver::{TlsAlpn01Resolver, TlsAlpn01Server};
use certwright::{Account, Client};
use rustls::ServerConfig;
use rustls::server::ResolvesServerCertUsingSni;
use support::pebble::Pebble;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

async fn account(pebble: &Pebble) -> Account {
    Client::builder(pebble.directory_url())
        .add_root_pem(pebble.root_pem())
        .build()
        .await
        .unwrap()
        .new_account(AccountKey::generate().unwrap())
        .agree_to_terms()
        .create()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_server_of_its_own_proves_a_name_and_addresses() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let port = pebble.tls_alpn01_port();
    let both = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    let solver = TlsAlpn01Server::bind(&both[..]).await.unwrap();
    pebble.set_default_ipv6(Some(Ipv6Addr::LOCALHOST)).await;
    let account = account(&pebble).await;
    let books = match cfg!(feature = "idna") {
        true => "bücher.example",
        false => "xn--bcher-kva.example",
    };
    for names in [
        &["One.Example."][..],
        &["127.0.0.1"],
        &["::1"],
        &[books, "two.example", "127.0.0.1", "::1"],
    ] {
        let issued = account
            .issue(names.iter().copied())
            .solver(solver.clone())
            .await
            .unwrap();
        let expected = names.iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(issued.chain().identifiers(), &expected);
    }
}

#[tokio::test]
async fn a_server_with_certificates_of_its_own_proves_a_name_and_an_address() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let provider = pebble.client_config().crypto_provider().clone();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let solver = TlsAlpn01Resolver::install(&mut config).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, pebble.tls_alpn01_port()))
        .await
        .unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // The connection ends with the handshake, as there is nobody but the CA.
            let _ = acceptor.accept(stream).await;
        }
    });

    let names = ["one.example", "127.0.0.1"];
    let issued = account(&pebble).await.issue(names).solver(solver).await;
    let expected = names.iter().map(|name| name.parse().unwrap()).collect();
    assert_eq!(issued.unwrap().chain().identifiers(), &expected);
}

#[tokio::test]
async fn a_solver_that_nobody_asks_is_told_in_the_words_of_the_ca() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let solver = TlsAlpn01Resolver::default();
    let error = account(&pebble)
        .await
        .issue(["one.example"])
        .solver(solver)
        .await
        .unwrap_err();
    let by_identifier = error.by_identifier();
    let [(identifier, problem)] = &by_identifier[..] else {
        panic!("{error:?}");
    };
    assert_eq!(identifier.to_string(), "one.example");
    // Where Boulder says `connection`.
    assert_eq!(problem.kind, ProblemType::Unauthorized);
    let detail = problem.detail.as_deref().unwrap_or_default();
    assert!(
        detail.contains("Failed to connect to 127.0.0.1:"),
        "{detail}"
    );
    assert!(error.to_string().contains("tls-alpn-01"), "{error}");
}
