//! Each rule of RFC 8555 §6, broken.

use http::header::{self, HeaderName};
use http::{Method, Request, Version};
use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use crate::jose::Signer;
use crate::test_ca::TestCa;

/// A request for a new order whose protected header was tampered with, by its faults.
async fn tampered(client: &RawClient, path: &str, tamper: impl Fn(&mut Value)) -> RawReply {
    let mut header = client.header(path).await;
    tamper(&mut header);
    let jws = client.sign_header(&header, ORDER).await;
    client.post_jws(path, &jws.to_string()).await
}

fn is(reply: &RawReply, status: u16, problem: &str) {
    assert_eq!(reply.problem(), (status, problem.to_owned()), "{reply:?}");
    assert!(!reply.header("replay-nonce").is_empty());
    assert!(reply.header("link").contains("rel=\"index\""));
}

#[tokio::test]
async fn the_protected_header() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let path = "/new-order";
    let good = tampered(&client, path, |_| {}).await;
    assert_eq!(good.status, 201, "{good:?}");

    let jwk = json!(client.key.public_key());
    let elsewhere = client.url("/new-orders");
    type Tamper<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, u16, &str, Tamper<'_>); 17] = [
        ("no algorithm", 400, "badSignatureAlgorithm", &|h| {
            h["alg"] = json!(null);
        }),
        ("none", 400, "badSignatureAlgorithm", &|h| {
            h["alg"] = json!("none");
        }),
        ("a MAC", 400, "badSignatureAlgorithm", &|h| {
            h["alg"] = json!("HS256");
        }),
        ("another key's", 400, "badSignatureAlgorithm", &|h| {
            h["alg"] = json!("ES384");
        }),
        ("jwk and kid", 400, "malformed", &|h| {
            h["jwk"] = jwk.clone();
        }),
        ("neither", 400, "malformed", &|h| {
            h.as_object_mut().unwrap().remove("kid");
        }),
        ("jwk for kid", 400, "malformed", &|h| {
            h.as_object_mut().unwrap().remove("kid");
            h["jwk"] = jwk.clone();
        }),
        ("a broken jwk", 400, "badPublicKey", &|h| {
            h["jwk"] = json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"});
        }),
        ("a symmetric jwk", 400, "badPublicKey", &|h| {
            h["jwk"] = json!({"kty": "oct", "k": "AA"});
        }),
        ("no account", 400, "accountDoesNotExist", &|h| {
            h["kid"] = json!(client.url("/account/99"));
        }),
        ("no account URL", 400, "malformed", &|h| {
            h["kid"] = json!(client.url("/order/1"));
        }),
        ("a kid elsewhere", 400, "malformed", &|h| {
            h["kid"] = json!("https://ca.example/account/1");
        }),
        ("no nonce", 400, "badNonce", &|h| {
            h.as_object_mut().unwrap().remove("nonce");
        }),
        ("an unknown nonce", 400, "badNonce", &|h| {
            h["nonce"] = json!("AAAAAAAAAAAAAAAAAAAAAA");
        }),
        ("another URL", 400, "malformed", &|h| {
            h["url"] = json!(elsewhere);
        }),
        ("a relative URL", 400, "malformed", &|h| {
            h["url"] = json!(path);
        }),
        ("crit", 400, "malformed", &|h| {
            h["b64"] = json!(false);
            h["crit"] = json!(["b64"]);
        }),
    ];
    for (case, status, problem, tamper) in cases {
        let reply = tampered(&client, path, tamper).await;
        assert_eq!(
            reply.problem(),
            (status, problem.to_owned()),
            "{case}: {reply:?}"
        );
        is(&reply, status, problem);
        if problem == "badSignatureAlgorithm" {
            assert_eq!(reply.json()["algorithms"][0], "ES256");
        }
    }

    let reply = tampered(&client, "/new-account", |_| {}).await;
    is(&reply, 400, "malformed");
}

#[tokio::test]
async fn the_form_of_the_jws() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let good = || async { serde_json::to_value(client.sign("/new-order", ORDER).await).unwrap() };
    let padded = |jws: &mut Value, member: &str| {
        let text = format!("{}==", jws[member].as_str().unwrap());
        jws[member] = json!(text);
    };

    type Tamper<'a> = &'a dyn Fn(&mut Value);
    let cases: [Tamper<'_>; 9] = [
        &|jws| *jws = json!("no object"),
        &|jws| *jws = json!({"payload": "", "signatures": [jws.clone()]}),
        &|jws| jws["header"] = json!({}),
        &|jws| jws["signature"] = json!(""),
        // As many octets as there should be, and a DER signature.
        &|jws| jws["signature"] = json!("A".repeat(86)),
        &|jws| jws["signature"] = json!("MEUCIQD"),
        &|jws| padded(jws, "signature"),
        &|jws| padded(jws, "protected"),
        &|jws| padded(jws, "payload"),
    ];
    for tamper in cases {
        let mut jws = good().await;
        tamper(&mut jws);
        let reply = client.post_jws("/new-order", &jws.to_string()).await;
        is(&reply, 400, "malformed");
    }
    let reply = client.post_jws("/new-order", "{").await;
    is(&reply, 400, "malformed");
    let reply = client.post_jws("/new-order", &" ".repeat(50_001)).await;
    is(&reply, 403, "unauthorized");
}

#[tokio::test]
async fn the_http_request() {
    let ca = TestCa::start().await.unwrap();
    let mut client = RawClient::registered(&ca).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        client.version = version;
        let jws = client.sign("/new-order", ORDER).await;
        let jws = serde_json::to_string(&jws).unwrap();
        let post = |name: HeaderName, value: &str| {
            let request = client.request(Method::POST, "/new-order");
            client.send(request.header(name, value), &jws)
        };
        for content_type in [
            "application/json",
            "application/jose+json; charset=utf-8",
            "Application/JOSE+JSON",
        ] {
            let reply = post(header::CONTENT_TYPE, content_type).await;
            is(&reply, 415, "malformed");
        }
        is(&post(header::ACCEPT, "*/*").await, 415, "malformed");
        let jose = client
            .request(Method::POST, "/new-order")
            .header(header::CONTENT_TYPE, "application/jose+json")
            .header("replay-nonce", "AAAA");
        is(&client.send(jose, &jws).await, 400, "malformed");

        let unknown = client.post("/unknown", "").await;
        is(&unknown, 404, "malformed");
        let unknown = client.post("/order/77", "").await;
        is(&unknown, 404, "malformed");
        for (method, path) in [
            (Method::GET, "/order/1"),
            (Method::DELETE, "/directory"),
            (Method::PUT, "/new-nonce"),
        ] {
            let reply = client.send(client.request(method, path), "").await;
            assert_eq!(reply.problem(), (405, "malformed".to_owned()));
            assert!(reply.header("allow").contains("POST"));
        }
    }

    client.version = Version::HTTP_11;
    let nameless = Request::get("/directory").header(header::HOST, ca.address().to_string());
    let reply = client.send(nameless, "").await;
    assert_eq!(reply.problem(), (400, "malformed".to_owned()));
}

#[tokio::test]
async fn each_nonce_once() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let jws = serde_json::to_string(&client.sign("/new-order", ORDER).await).unwrap();
    assert_eq!(client.post_jws("/new-order", &jws).await.status, 201);
    is(&client.post_jws("/new-order", &jws).await, 400, "badNonce");

    // Whatever the URL is, the nonce is used up before that is looked at.
    let jws = serde_json::to_string(&client.sign("/new-order", ORDER).await).unwrap();
    is(&client.post_jws("/order/1", &jws).await, 400, "malformed");
    is(&client.post_jws("/new-order", &jws).await, 400, "badNonce");
}

#[tokio::test]
async fn the_payload() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let order = client.post("/new-order", ORDER).await.json();
    let authorization = client.post_to(&order["authorizations"][0], "").await.json();
    let challenge = &authorization["challenges"][0]["url"];
    for (url, payload) in [
        (&json!(client.url("/new-order")), ""),
        (&json!(client.url("/new-order")), "[]"),
        (&json!(client.url("/order/1")), "{}"),
        (&order["finalize"], r#"{"csr":"AA=="}"#),
        (&order["finalize"], ""),
        (&order["authorizations"][0], "{}"),
        (&order["authorizations"][0], r#"{"status":"valid"}"#),
        (challenge, r#"{"keyAuthorization":"x"}"#),
        (challenge, "[]"),
        (challenge, "null"),
    ] {
        is(&client.post_to(url, payload).await, 400, "malformed");
    }
    // §6.3: the directory and nonces can be had by POST-as-GET, too.
    assert_eq!(client.post("/directory", "").await.status, 200);
    assert_eq!(client.post("/new-nonce", "").await.status, 204);
}

const ORDER: &str = r#"{"identifiers":[{"type":"dns","value":"a.example.test"}]}"#;
