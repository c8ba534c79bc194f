//! When certwright looks at an order that the CA is working on: exactly, by tokio's paused clock,
//! which stands still while anything is left to do and then goes on to whatever is due next.

#![cfg(all(feature = "hyper", feature = "test-ca"))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use certwright::jose::{AccountKey, Signer as _};
use certwright::protocol::{ChallengeType, Identifier};
use certwright::solver::{ChallengeSolver, Presentation};
use certwright::test_ca::{Issuance, RetryAfter, TestCa, TestCaBuilder, Validation};
use certwright::transport::{HyperTransport, Transport, TransportError};
use certwright::{BoxError, Client};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

/// Notes when a request for an order, a challenge or an issuance goes out.
#[derive(Clone, Debug)]
struct Recorder {
    transport: HyperTransport,
    sent: Arc<Mutex<Vec<(String, Instant)>>>,
}

#[async_trait::async_trait]
impl Transport for Recorder {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let sent = (request.uri().path().to_owned(), Instant::now());
        self.sent.lock().unwrap().push(sent);
        self.transport.send(request).await
    }
}

impl Recorder {
    /// When the order was looked at, in milliseconds after the request with this in its path.
    fn looks(&self, begin: &str) -> Vec<u64> {
        let sent = self.sent.lock().unwrap();
        let from = sent
            .iter()
            .position(|(path, _)| path.contains(begin))
            .expect("it was begun");
        let (_, start) = sent[from];
        sent[from + 1..]
            .iter()
            .take_while(|(path, _)| path.starts_with("/order/") && !path.contains(FINALIZE))
            .map(|(_, at)| u64::try_from((*at - start).as_millis()).unwrap())
            .collect()
    }
}

/// The CA asks a responder that takes its time.
struct Stateless;

#[async_trait::async_trait]
impl ChallengeSolver for Stateless {
    fn can_solve(&self, identifier: &Identifier, kind: &ChallengeType) -> bool {
        *kind == ChallengeType::Http01 && kind.can_validate(identifier)
    }

    async fn present(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    async fn clean_up(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Answers any http-01 request, so much later.
async fn respond(listener: TcpListener, thumbprint: String, delay: Duration) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = vec![0; 4_096];
        let length = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let path = request.split_whitespace().nth(1).unwrap_or_default();
        let token = path.rsplit('/').next().unwrap_or_default();
        sleep(delay).await;
        let body = format!("{token}.{thumbprint}");
        let response = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(response.as_bytes()).await.unwrap();
    }
}

/// Issues one certificate, validation taking so long.
async fn issue(ca: TestCaBuilder, validation: Duration) -> Recorder {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ca = ca
        .http01_port(listener.local_addr().unwrap().port())
        .validation_timeout(Duration::from_secs(3_600))
        .start()
        .await
        .unwrap();
    let key = AccountKey::generate().unwrap();
    let thumbprint = key.public_key().thumbprint().to_string();
    let responder = tokio::spawn(respond(listener, thumbprint, validation));

    let transport = HyperTransport::builder()
        .add_root_pem(ca.root_pem())
        .without_platform_roots()
        .build()
        .unwrap();
    let recorder = Recorder {
        transport,
        sent: Arc::default(),
    };
    let client = Client::builder(ca.directory_url().as_str())
        .transport(recorder.clone())
        .build()
        .await
        .unwrap();
    let account = client.new_account(key).agree_to_terms().create().await;
    let issuance = account.unwrap().issue(["www.example.com"]);
    issuance
        .solver(Stateless)
        .timeout(Duration::from_secs(3_600))
        .await
        .unwrap();
    responder.abort();
    recorder
}

fn background() -> TestCaBuilder {
    TestCa::builder()
        .validation(Validation::InBackground)
        .retry_after(None::<RetryAfter>)
}

const CHALLENGE: &str = "/challenge/";
const FINALIZE: &str = "/finalize";

#[tokio::test(start_paused = true)]
async fn a_validation_is_looked_for_after_a_quarter_of_the_time_waited() {
    let looks = issue(background(), Duration::from_millis(2_000))
        .await
        .looks(CHALLENGE);
    // Milliseconds, which tokio's clock rounds up to.
    let expected = [
        50, 150, 250, 350, 450, 563, 704, 880, 1_100, 1_375, 1_719, 2_149,
    ];
    assert_eq!(looks, expected);
}

#[tokio::test(start_paused = true)]
async fn what_the_ca_finished_is_noticed_within_a_quarter_of_its_time() {
    for finished in [0, 49, 120, 399, 1_000, 9_876, 60_000, 600_000] {
        let looks = issue(background(), Duration::from_millis(finished))
            .await
            .looks(CHALLENGE);
        let noticed = *looks.last().expect("there was a look");
        let late = noticed - finished;
        let allowed = (finished / 4).clamp(100, 10_000) + 1;
        assert!(late <= allowed, "{late} ms after {finished} ms: {looks:?}");
        // Each look but the last was one in vain: there were not more of them than that takes.
        assert!(looks.len() < 120, "{looks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuance_is_looked_for_by_the_same_rule() {
    let ca = background().issuance(Issuance::After(Duration::from_millis(1_000)));
    let looks = issue(ca, Duration::ZERO).await.looks(FINALIZE);
    assert_eq!(looks, [100, 200, 300, 400, 500, 625, 782, 978, 1_223]);
}

#[tokio::test(start_paused = true)]
async fn the_retry_after_of_the_ca_goes_before() {
    let ca = background()
        .retry_after(RetryAfter::Seconds(3))
        .issuance(Issuance::After(Duration::from_millis(4_000)));
    let recorder = issue(ca, Duration::from_millis(7_000)).await;
    // One look is before its time, for the CA that has finished meanwhile.
    assert_eq!(recorder.looks(CHALLENGE), [50, 3_050, 6_050, 9_050]);
    assert_eq!(recorder.looks(FINALIZE), [100, 3_100, 6_100]);
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_answers_when_it_has_finished_is_asked_at_once() {
    let ca = TestCa::builder().validation(Validation::BeforeReply);
    let recorder = issue(ca, Duration::from_millis(300)).await;
    assert_eq!(recorder.looks(CHALLENGE), [300]);
    assert_eq!(recorder.looks(FINALIZE), [0u64; 0]);
}
