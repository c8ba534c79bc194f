//! Waits follow the clock that only goes forward. What a CA says by the wall clock, which may jump or
//! be wrong, is turned into a time to wait as soon as it arrives, and neither hangs nor hurries one.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use certwright::{Error, Order};
use httpdate::fmt_http_date;
use serde_json::{Value, json};
use support::script::{BASE, Script, located, refusal, reply, with_header};
use tokio::time::Instant;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The wall clock stands still in these tests, next to tokio's, which jumps from wait to wait.
#[tokio::test(start_paused = true)]
async fn a_date_is_a_time_to_wait_once_it_has_come() {
    let script = Script::default();
    let looks = looks(&script, Some(Duration::from_secs(20)));
    let error = order(&script).await.wait_ready_within(WEEK).await;
    assert!(matches!(error, Ok(())), "{error:?}");
    // In whole seconds, as dates are; and the machine may be slow in between.
    let looks = looks.lock().unwrap();
    assert_eq!(looks.len(), 3);
    for (look, expected) in looks.iter().zip([0, 20, 40]) {
        assert!(
            (expected - 10..=expected).contains(&look.as_secs().try_into().unwrap()),
            "{looks:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_neither_hangs_nor_hurries_a_wait() {
    // The CA's clock is years ahead of ours: the deadline is the last look.
    let script = Script::default();
    let ahead = looks(&script, Some(YEAR));
    let error = order(&script)
        .await
        .wait_ready_within(WEEK)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
    let seconds: Vec<_> = ahead
        .lock()
        .unwrap()
        .iter()
        .map(Duration::as_secs)
        .collect();
    assert_eq!(seconds, [0, WEEK.as_secs()]);

    // Ours is years ahead of the CA's: each of its dates is past, and no busy loop comes of it.
    let script = Script::default();
    let behind = looks(&script, None);
    order(&script).await.wait_ready_within(WEEK).await.unwrap();
    let behind = behind.lock().unwrap();
    assert_eq!(behind.len(), 3);
    for pair in behind.windows(2) {
        assert!(
            pair[1] - pair[0] >= Duration::from_millis(100),
            "{behind:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_again_by_the_same_clock() {
    const SECOND: Duration = Duration::from_secs(1);
    for (date, pauses) in [
        // Waited for, each time. The date is in whole seconds, and the machine may be slow.
        (
            SystemTime::now() + 20 * SECOND,
            Some(10 * SECOND..21 * SECOND),
        ),
        // Long past: the pauses are certwright's own.
        (SystemTime::UNIX_EPOCH, Some(SECOND / 4..20 * SECOND)),
        // Too long to wait for, so the caller is told.
        (SystemTime::now() + YEAR, None),
    ] {
        let script = Script::default();
        let date = fmt_http_date(date);
        let asked = date.clone();
        script.on("/order/1", move |_| {
            Ok(with_header(
                refusal(503, "serverInternal"),
                "retry-after",
                &asked,
            ))
        });
        let start = Instant::now();
        let url = format!("{BASE}/order/1").as_str().try_into().unwrap();
        let account = script.account().await;
        let error = account.order(url).await.unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error}");
        let again = u32::try_from(script.asked("/order/1").len() - 1).unwrap();
        match pauses {
            Some(pauses) => {
                assert!(again > 0, "{date}");
                assert!(pauses.contains(&(start.elapsed() / again)), "{date}");
            }
            None => assert_eq!((again, start.elapsed()), (0, Duration::ZERO), "{date}"),
        }
    }
}

/// Has the order be ready at the third look, and notes when the looks come. Until then it is asked
/// to wait until a date so far from now, or one that is long past; for a date that is a year away,
/// it is never ready.
fn looks(script: &Script, wait: Option<Duration>) -> Arc<Mutex<Vec<Duration>>> {
    let looks = Arc::new(Mutex::new(Vec::new()));
    let log = looks.clone();
    let start = Instant::now();
    script.on("/order/1", move |asked| {
        log.lock().unwrap().push(start.elapsed());
        let date = match wait {
            Some(wait) => SystemTime::now() + wait,
            None => SystemTime::UNIX_EPOCH,
        };
        let status = match asked.before {
            2.. => "ready",
            _ => "pending",
        };
        let status = if wait == Some(YEAR) {
            "pending"
        } else {
            status
        };
        let reply = reply(200, state(status));
        Ok(with_header(reply, "retry-after", &fmt_http_date(date)))
    });
    looks
}

async fn order(script: &Script) -> Order {
    script.on("/new-order", |_| {
        Ok(located(reply(201, state("pending")), "/order/1"))
    });
    let account = script.account().await;
    account.new_order(["example.com"]).create().await.unwrap()
}

fn state(status: &str) -> Value {
    json!({
        "status": status,
        "identifiers": [{"type": "dns", "value": "example.com"}],
        "authorizations": [],
        "finalize": format!("{BASE}/order/1/finalize"),
    })
}
