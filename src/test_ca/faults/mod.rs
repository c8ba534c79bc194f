//! Faults on demand: what breaks between a client and a CA, and what a CA gets wrong.

mod body;
mod breaker;
mod plan;

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

pub(super) use self::body::ReplyBody;
pub(super) use self::breaker::{Breakable, Breaker, Broken, breakable};
pub(super) use self::plan::{Ending, Faults, Plan};
use super::reply::Refusal;
use super::route::ResourceKind;
use super::settings::{BadChain, RetryAfter};
use super::{TestCa, TestCaBuilder};
use crate::protocol::{Problem, ProblemType};

impl TestCaBuilder {
    /// Plays a fault, from the first request on. May be called again, for others.
    ///
    /// ```
    /// use certwright::test_ca::{Fault, ResourceKind, TestCa};
    ///
    /// let builder = TestCa::builder()
    ///     .seed(7)
    ///     // A fifth of all nonces are refused, ...
    ///     .inject(Fault::RefuseNonce.on_any().share(0.2))
    ///     // ... and the reply to the first finalize never arrives.
    ///     .inject(Fault::Reset.on(ResourceKind::Finalize).nth(1).after_acting());
    /// ```
    pub fn inject(mut self, injection: Injection) -> Self {
        self.injections.push(injection);
        self
    }
}

impl TestCa {
    /// Plays a fault, from the next request on, beside those that are played already.
    ///
    /// Where several are due for one request, all are played that can be: the first one that was
    /// injected decides how the request ends.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use certwright::test_ca::{Fault, ResourceKind, RetryAfter, TestCa};
    /// use http::StatusCode;
    ///
    /// let ca = TestCa::start().await?;
    /// // The CA is busy for two requests, ...
    /// let busy = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    /// let busy = busy.retry_after(RetryAfter::Seconds(2));
    /// ca.inject(busy.on(ResourceKind::NewOrder).first(2));
    /// // ... and the third one creates an order that the client never hears of.
    /// ca.inject(Fault::Reset.on(ResourceKind::NewOrder).nth(3).after_acting());
    ///
    /// // ... a client is put to the test here ...
    ///
    /// for played in ca.faults() {
    ///     println!("{played}");
    /// }
    /// ca.clear_faults();
    /// # Ok(())
    /// # }
    /// ```
    pub fn inject(&self, injection: Injection) {
        self.0.ca.faults().inject(injection);
    }

    /// Ends all faults that were injected. What was [played](Self::faults) stays counted.
    pub fn clear_faults(&self) {
        self.0.ca.faults().clear();
    }

    /// How often each fault was played so far, by the kind of request; sorted.
    pub fn faults(&self) -> Vec<PlayedFault> {
        self.0.ca.faults().played()
    }

    /// The seed of all that is left to [chance](Injection::share); see [`TestCaBuilder::seed`].
    pub fn seed(&self) -> u64 {
        self.0.ca.faults().seed()
    }
}

/// Something that goes wrong. [`on`](Self::on) says with which requests.
///
/// Faults end with the reply that they spoil, but for [`StayProcessing`](Self::StayProcessing) and
/// [`InvalidChallenge`](Self::InvalidChallenge), which the CA remembers. The revocation list, which
/// is no resource of ACME, is never spoiled.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// A POST is answered with `badNonce` although its nonce is good (RFC 8555 §6.5). The CA does
    /// not act.
    RefuseNonce,
    /// The reply has no `Replay-Nonce` header.
    OmitNonce,
    /// The CA waits this long before it acts; [after acting](Injection::after_acting), before it
    /// replies.
    Delay(Duration),
    /// Like [`Delay`](Self::Delay), for a time between nothing and this one, drawn by the seed.
    RandomDelay(Duration),
    /// No reply ever comes, and the connection stays open. The CA does not act, unless that is
    /// [said](Injection::after_acting).
    Stall,
    /// The TCP connection is reset, with all other requests on it that HTTP/2 may have under way.
    /// The CA does not act on this request, unless that is [said](Injection::after_acting).
    Reset,
    /// The CA acts, and its reply ends halfway through the body, where the connection is closed. A
    /// reply without a body does not come at all.
    Truncate,
    /// The reply has this `Content-Type`.
    ContentType(HeaderValue),
    /// The reply's body is filled up with spaces to this many octets, and is correct else.
    Oversize(usize),
    /// The reply is a page of HTML with this status, and has no header of ACME, as from a gateway.
    /// The CA does not act, unless that is [said](Injection::after_acting).
    Html(StatusCode),
    /// The reply has this status. The CA does not act, unless that is
    /// [said](Injection::after_acting). [`Fault::status`] and [`Fault::problem`] make one.
    Status {
        /// The status.
        status: StatusCode,
        /// When the client is told to come back.
        retry_after: Option<RetryAfter>,
        /// The body, next to which there is a nonce as in any reply of the CA. Without it, the body
        /// is empty and there is no header of ACME, as from a gateway.
        problem: Option<Box<Problem>>,
    },
    /// The reply lacks this header.
    OmitHeader(HeaderName),
    /// The reply has this header twice, where it has it.
    DuplicateHeader(HeaderName),
    /// The order that is finalized stays `processing` for ever (RFC 8555 §7.1.6).
    StayProcessing,
    /// The challenge that is responded to becomes `invalid`, whatever its server would have answered.
    InvalidChallenge,
    /// The chain that is downloaded is not the one that was asked for.
    Chain(BadChain),
}

impl Fault {
    /// A reply with this status and an empty body.
    pub fn status(status: StatusCode) -> Self {
        Self::Status {
            status,
            retry_after: None,
            problem: None,
        }
    }

    /// A refusal with a problem of this type, and the status that most CAs send it with: for
    /// instance [`ProblemType::OrderNotReady`] for an order that is ready,
    /// [`ProblemType::AlreadyReplaced`], or [`ProblemType::RateLimited`].
    pub fn problem(kind: ProblemType) -> Self {
        let detail = format!("the test wants this `{kind}`");
        let (status, problem) = Refusal::new(kind, detail).into_problem();
        Self::Status {
            status,
            retry_after: None,
            problem: Some(Box::new(problem)),
        }
    }

    /// Adds a `Retry-After`. Only a [`Status`](Self::Status) can have one.
    #[must_use]
    pub fn retry_after(mut self, time: RetryAfter) -> Self {
        if let Self::Status { retry_after, .. } = &mut self {
            *retry_after = Some(time);
        }
        self
    }

    /// Plays the fault with the requests of a kind: with each of them, unless the [`Injection`] is
    /// told otherwise.
    pub fn on(self, kind: ResourceKind) -> Injection {
        Injection::new(self, Some(kind))
    }

    /// Plays the fault with the requests of every kind, where it makes sense.
    pub fn on_any(self) -> Injection {
        Injection::new(self, None)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RefuseNonce => f.write_str("nonce refused"),
            Self::OmitNonce => f.write_str("nonce omitted"),
            Self::Delay(_) | Self::RandomDelay(_) => f.write_str("delay"),
            Self::Stall => f.write_str("stall"),
            Self::Reset => f.write_str("connection reset"),
            Self::Truncate => f.write_str("body cut"),
            Self::ContentType(_) => f.write_str("wrong content type"),
            Self::Oversize(_) => f.write_str("body too large"),
            Self::Html(status) => write!(f, "{} in HTML", status.as_u16()),
            Self::Status {
                status, problem, ..
            } => match problem {
                Some(problem) => write!(f, "{} {}", status.as_u16(), problem.kind),
                None => write!(f, "{}", status.as_u16()),
            },
            Self::OmitHeader(name) => write!(f, "{name} omitted"),
            Self::DuplicateHeader(name) => write!(f, "{name} twice"),
            Self::StayProcessing => f.write_str("order stays processing"),
            Self::InvalidChallenge => f.write_str("challenge turns invalid"),
            Self::Chain(chain) => write!(f, "chain: {chain:?}"),
        }
    }
}

/// A [`Fault`], and which requests it is played with.
///
/// Requests are counted by their kind, from when the fault was injected; those that the fault makes
/// no sense for, such as a GET for one about nonces, do not count.
#[derive(Clone, Debug)]
#[must_use = "nothing is played before `inject`"]
pub struct Injection {
    fault: Fault,
    kind: Option<ResourceKind>,
    when: When,
    after_acting: bool,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Nth(u64),
    First(u64),
    Every,
    Share(f64),
}

impl Injection {
    fn new(fault: Fault, kind: Option<ResourceKind>) -> Self {
        Self {
            fault,
            kind,
            when: When::Every,
            after_acting: false,
        }
    }

    /// Only with the nth request of a kind, counted from 1.
    pub fn nth(mut self, request: u64) -> Self {
        self.when = When::Nth(request);
        self
    }

    /// Only with so many requests of a kind, the first ones.
    pub fn first(mut self, requests: u64) -> Self {
        self.when = When::First(requests);
        self
    }

    /// Only with a share of the requests: of 0.5, every other one; of 1, all of them.
    ///
    /// Which ones is decided by the CA's [seed](TestCaBuilder::seed), the place of this injection
    /// among all of them, the kind, and the request's number among those of its kind; so that the
    /// same sequence of requests of a kind meets the same faults again. A client that works side by
    /// side may send other requests in that place from run to run.
    pub fn share(mut self, share: f64) -> Self {
        self.when = When::Share(share);
        self
    }

    /// Lets the CA act first, so that only the reply is lost or spoiled. It concerns
    /// [`Fault::Delay`], [`Fault::RandomDelay`], [`Fault::Stall`], [`Fault::Reset`],
    /// [`Fault::Html`] and [`Fault::Status`]; of the others, each has its own time.
    pub fn after_acting(mut self) -> Self {
        self.after_acting = true;
        self
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = match self.has_a_choice() && self.after_acting {
            true => " after acting",
            false => "",
        };
        write!(f, "{}{after}", self.fault)
    }
}

impl Injection {
    fn has_a_choice(&self) -> bool {
        matches!(
            self.fault,
            Fault::Delay(_)
                | Fault::RandomDelay(_)
                | Fault::Stall
                | Fault::Reset
                | Fault::Html(_)
                | Fault::Status { .. }
        )
    }
}

/// How often a fault was played with the requests of one kind.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PlayedFault {
    /// The fault, in words.
    pub fault: String,
    /// The kind of request.
    pub kind: ResourceKind,
    /// How often.
    pub count: u64,
}

impl fmt::Display for PlayedFault {
    /// A line of a table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = format!("{:?}", self.kind);
        write!(f, "{:<34} {kind:<14} {:>7}", self.fault, self.count)
    }
}
