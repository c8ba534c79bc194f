//! How requests that need a nonce share those that come, and the requests to newNonce: exactly, on
//! tokio's paused clock. The CA checks that each nonce is one of its own, and comes once.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use certwright::error::Operation;
use certwright::{Account, Error};
use futures_util::FutureExt;
use futures_util::future::{join_all, select_all};

use support::distant::{Answer, DistantCa, Instantly, ROUND_TRIP, account, request};

/// So many requests to newNonce are under way at once.
const AT_ONCE: usize = 10;

type Requests<'a> = Vec<Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>>;

fn requests(account: &Account, count: usize) -> Requests<'_> {
    let requests = (0..count).map(|_| Box::pin(request(account)) as _);
    requests.collect()
}

async fn all(account: &Account, count: usize) -> Vec<Result<(), Error>> {
    join_all(requests(account, count)).await
}

/// All nonces that the CA gave and that did not come back are in the pool, and as many can be asked
/// for at once as ever.
async fn assert_whole(ca: &DistantCa, account: &Account, context: &str) {
    // What is asked for arrives, also where nobody waits for it any more.
    while ca.asking() > 0 {
        tokio::time::sleep(ROUND_TRIP).await;
    }
    let nonces = ca.nonces();
    let pooled = nonces.given - nonces.used.len();
    ca.on_new_nonce(|_| Answer::Nonce);
    assert!(all(account, pooled).await.iter().all(Result::is_ok));
    assert_eq!(ca.nonces().asked, 0, "{context}: a nonce is lost");
    let more = all(account, pooled + 2 * AT_ONCE).await;
    assert!(more.iter().all(Result::is_ok));
    assert_eq!(ca.nonces().asked_at_once, AT_ONCE, "{context}");
}

#[tokio::test(start_paused = true)]
async fn sixty_four_first_requests_ask_for_half_as_many_nonces() {
    let ca = DistantCa::default();
    let account = account(&ca, 16).await;
    assert!(all(&account, 64).await.iter().all(Result::is_ok));
    // 10 + 20 + 30 + 4 requests: nearly half of them have the nonce of an earlier one's reply.
    let nonces = ca.nonces();
    assert_eq!((nonces.asked, nonces.asked_at_once), (34, AT_ONCE));
    assert_whole(&ca, &account, "after 64").await;
}

#[tokio::test(start_paused = true)]
async fn each_request_has_its_own_error_where_no_nonce_comes() {
    let ca = DistantCa::default();
    let account = account(&ca, 16).await;
    ca.on_new_nonce(|_| Answer::Reset);
    for result in all(&account, 64).await {
        match result {
            Err(Error::Network(fault)) => assert_eq!(fault.operation, Operation::NewNonce),
            other => panic!("{other:?}"),
        }
    }
    let nonces = ca.nonces();
    assert_eq!((nonces.asked, nonces.asked_at_once), (64, AT_ONCE));
    assert_whole(&ca, &account, "after failures").await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_that_of_one_request_at_most() {
    let ca = DistantCa::default();
    let account = account(&ca, 16).await;
    ca.on_new_nonce(|number| match number % 3 {
        0 => Answer::Reset,
        _ => Answer::Nonce,
    });
    let results = all(&account, 64).await;
    let asked = ca.nonces().asked;
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert!((1..=asked.div_ceil(3)).contains(&failed), "{failed}");
    assert!(asked < 64, "{asked}");
    assert_whole(&ca, &account, "after some failures").await;
}

#[tokio::test(start_paused = true)]
async fn a_nonce_that_never_comes_holds_up_one_request() {
    let ca = DistantCa::default();
    let account = account(&ca, 16).await;
    ca.on_new_nonce(|number| match number {
        0 => Answer::Never,
        _ => Answer::Nonce,
    });
    let mut left = requests(&account, 64);
    while left.len() > 1 {
        let (result, _, others) = select_all(left).await;
        result.unwrap();
        left = others;
    }
    let nonces = ca.nonces();
    assert!(nonces.asked < 64, "{}", nonces.asked);
    assert_eq!((nonces.asked_at_once, ca.asking()), (AT_ONCE, 1));
}

/// A future that is kept and not polled has no turn that others wait for.
#[tokio::test(start_paused = true)]
async fn futures_that_are_not_polled_hold_nobody_up() {
    let ca = DistantCa::default();
    let account = account(&ca, 16).await;
    let mut kept = requests(&account, AT_ONCE);
    poll_fn(|context| {
        for request in &mut kept {
            assert!(request.as_mut().poll(context).is_pending());
        }
        Poll::Ready(())
    })
    .await;
    assert!(all(&account, 4).await.iter().all(Result::is_ok));
    assert_eq!(ca.nonces().asked, AT_ONCE + 4);
    assert!(join_all(kept).await.iter().all(Result::is_ok));
    assert_whole(&ca, &account, "after futures that were kept").await;
}

#[tokio::test(start_paused = true)]
async fn a_nonce_of_another_reply_ends_the_wait_for_a_turn() {
    let ca = DistantCa::default();
    let account = account(&ca, 16).await;
    ca.on_new_nonce(|number| match number {
        0 => Answer::Nonce,
        _ => Answer::Never,
    });
    // One turn ends, and the next that has it does not. The first nonce serves all others, one after
    // another.
    let mut left = requests(&account, AT_ONCE + 5);
    while left.len() > AT_ONCE {
        let (result, _, others) = select_all(left).await;
        result.unwrap();
        left = others;
    }
    let nonces = ca.nonces();
    assert_eq!((nonces.asked, nonces.used.len()), (AT_ONCE + 1, 5));
}

#[tokio::test(start_paused = true)]
async fn an_old_nonce_is_none() {
    let ca = DistantCa::default();
    let account = account(&ca, 16).await;
    assert!(all(&account, 64).await.iter().all(Result::is_ok));
    let first = ca.nonces();
    assert_eq!(first.given - first.used.len(), 34);
    tokio::time::advance(Duration::from_secs(31 * 60)).await;
    ca.forget_asked();
    assert!(all(&account, 64).await.iter().all(Result::is_ok));
    let nonces = ca.nonces();
    assert_eq!((nonces.asked, nonces.asked_at_once), (34, AT_ONCE));
}

#[test]
fn a_request_needs_no_runtime() {
    let ca = DistantCa::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let account = runtime.block_on(async { account(&ca, 16).await });
    ca.answer_at_once();
    for _ in 0..2 {
        request(&account).now_or_never().unwrap().unwrap();
    }
    assert_eq!(ca.nonces().asked, 1);
}

/// When a future is dropped.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// As soon as it has to wait.
    AtOnce,
    /// When what it waits for has happened, which it is not told any more.
    WhenWoken,
}

/// Polls a future so often, and drops it. Whether it has come to its end before.
async fn drop_after(future: impl Future, polls: usize, moment: Moment) -> bool {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match (future.as_mut().poll(context), moment) {
            (Poll::Ready(_), _) => Poll::Ready(true),
            (Poll::Pending, Moment::AtOnce) if left == 0 => Poll::Ready(false),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_request_can_be_dropped_at_every_poll() {
    // One that asks, the first that waits, one in the middle, and the last.
    for place in [0, AT_ONCE, 20, 39] {
        for moment in [Moment::AtOnce, Moment::WhenWoken] {
            let mut polls = 0;
            loop {
                let context = format!("{place} {moment:?} {polls}");
                let ca = DistantCa::default();
                let account = account(&ca, 16).await;
                let before = join_all(requests(&account, place));
                let dropped = drop_after(request(&account), polls, moment);
                let after = join_all(requests(&account, 39 - place));
                let (before, ended, after) = tokio::join!(before, dropped, after);
                assert!(before.iter().chain(&after).all(Result::is_ok), "{context}");
                let nonces = ca.nonces();
                assert!(nonces.asked_at_once <= AT_ONCE, "{context}");
                // Three times 8, and some more where a turn is there sooner than a reply of the same
                // moment.
                assert!(nonces.asked <= 4 * AT_ONCE, "{context}: {}", nonces.asked);
                assert_whole(&ca, &account, &context).await;
                if ended {
                    break;
                }
                polls += 1;
            }
            assert!(polls >= 2, "{place} {moment:?}: {polls}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuance_can_be_dropped_at_every_poll() {
    for others in [0, 20] {
        for moment in [Moment::AtOnce, Moment::WhenWoken] {
            let mut polls = 0;
            loop {
                let context = format!("{others} {moment:?} {polls}");
                let ca = DistantCa::new(10, false);
                let account = account(&ca, 16).await;
                request(&account).await.unwrap();
                let names = (0..10).map(|name| format!("name-{name}.example"));
                let issuance = account.issue(names).solver(Instantly).into_future();
                let (ended, others) = tokio::join!(
                    drop_after(issuance, polls, moment),
                    join_all(requests(&account, others)),
                );
                assert!(others.iter().all(Result::is_ok), "{context}");
                assert!(ca.nonces().asked_at_once <= AT_ONCE, "{context}");
                // Answers are taken away in a task, which sends nothing.
                assert_whole(&ca, &account, &context).await;
                if ended {
                    break;
                }
                polls += 1;
            }
            assert!(polls > 6, "{others} {moment:?}: {polls}");
        }
    }
}
