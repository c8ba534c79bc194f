//! How many round trips follow each other in an issuance, and how many nonces are asked for: exactly,
//! on tokio's paused clock, where each request takes one second and all else takes none.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use certwright::{Account, Error};
use tokio::time::Instant;

use support::distant::{Answer, DistantCa, Instantly, ROUND_TRIP, account, request};

/// The round trips that follow each other from the order to the chain (which is none here), and the
/// nonces that were asked for.
async fn round_trips(ca: &DistantCa, account: &Account, names: usize) -> (u64, usize) {
    let names = (0..names).map(|name| format!("name-{name}.example"));
    let start = Instant::now();
    let error = account.issue(names).solver(Instantly).await.unwrap_err();
    assert!(matches!(error, Error::Certificate(_)), "{error:?}");
    // The finer part of the clock's reading is the timer's own rounding.
    let taken = (start.elapsed().as_secs_f64() / ROUND_TRIP.as_secs_f64()).round();
    (taken as u64, ca.nonces().asked)
}

/// With a client that has no nonce.
async fn cold(names: usize, concurrency: usize) -> (u64, usize) {
    let ca = DistantCa::new(names, false);
    let account = account(&ca, concurrency).await;
    round_trips(&ca, &account, names).await
}

/// A client that has one nonce, as each has that has made a request.
async fn warm(ca: &DistantCa, concurrency: usize) -> Account {
    let account = account(ca, concurrency).await;
    request(&account).await.unwrap();
    ca.forget_asked();
    account
}

#[tokio::test(start_paused = true)]
async fn fifty_names_take_those_of_one_and_what_the_bound_forces() {
    // newNonce, newOrder, authorization, challenge, order, finalize, certificate.
    assert_eq!(cold(1, 16).await, (7, 1));
    // Nonces for the authorizations come before the order is made, 10 at once.
    assert_eq!(cold(10, 16).await, (7, 10));
    // 16 at once: 3 × 16 + 2 authorizations, and as many challenges.
    assert_eq!(cold(50, 16).await, (7 + 3 + 3, 16));
    assert_eq!(cold(100, 16).await, (7 + 6 + 6, 16));
    // One at a time, no nonce is lacking: a reply brings that of the next request.
    assert_eq!(cold(50, 1).await, (7 + 2 * 49, 1));
    // Where there is no bound to speak of but that of newNonce, 10 have a nonce when the order is
    // there; these bring the next 10, beside 10 new ones; and the last 20 come after. So there are 30
    // nonces for the challenges, and some of the other 20 have to ask.
    assert_eq!(cold(50, 1_000).await, (7 + 2 + 1, 30 + 10));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_a_nonce_takes_one_less() {
    for (names, expected) in [
        (1, (6, 0)),
        // While newOrder is under way, 10 nonces come, and one more with its reply.
        (11, (6, 10)),
        (12, (6 + 1, 11)),
        // 11 + 16 + 16 + 7 authorizations, 3 × 16 + 2 challenges.
        (50, (6 + 3 + 3, 15)),
        (100, (6 + 6 + 6, 15)),
    ] {
        let ca = DistantCa::new(names, false);
        let account = warm(&ca, 16).await;
        assert_eq!(round_trips(&ca, &account, names).await, expected, "{names}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_in_processing_takes_one_more() {
    let ca = DistantCa::new(1, true);
    let account = account(&ca, 16).await;
    assert_eq!(round_trips(&ca, &account, 1).await, (8, 1));
}

/// A request whose nonce did not come ahead sees for itself, or has that of another's reply.
#[tokio::test(start_paused = true)]
async fn a_nonce_that_does_not_come_ahead_is_no_error() {
    for (failing, failure, expected) in [
        // Those of the authorizations that have none ask.
        (1, Answer::Reset, (7, 9 + 1)),
        (9, Answer::Reset, (7, 9 + 9)),
        // It may still come: the authorization without waits until a reply brings another, and so does
        // one of the challenges.
        (1, Answer::Never, (8, 9)),
    ] {
        let ca = DistantCa::new(10, false);
        let account = warm(&ca, 16).await;
        ca.on_new_nonce(move |number| match number < failing {
            true => failure,
            false => Answer::Nonce,
        });
        let taken = round_trips(&ca, &account, 10).await;
        assert_eq!(taken, expected, "{failing} {failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_order_asks_for_no_more_nonces() {
    let ca = DistantCa::new(50, false);
    let account = warm(&ca, 16).await;
    ca.refuse_orders();
    let names = (0..50).map(|name| format!("name-{name}.example"));
    let error = account.issue(names).solver(Instantly).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert_eq!(ca.nonces().asked, 10);
}
