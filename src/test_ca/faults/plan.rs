use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use http::{Method, StatusCode, header};

use super::{Fault, Injection, PlayedFault, When};
use crate::protocol::Problem;
use crate::test_ca::random::SeededRandom;
use crate::test_ca::reply::{Refusal, Reply};
use crate::test_ca::route::ResourceKind;
use crate::test_ca::settings::{BadChain, RetryAfter};

/// The faults of one CA: those to be played, and what was.
#[derive(Debug)]
pub(in crate::test_ca) struct Faults {
    seed: u64,
    /// How many were ever injected, the number of the next one.
    injected: u64,
    active: Vec<Active>,
    /// By the fault's words and the kind's.
    played: BTreeMap<(String, String), (ResourceKind, u64)>,
}

#[derive(Debug)]
struct Active {
    number: u64,
    injection: Injection,
    requests: HashMap<ResourceKind, u64>,
}

impl Faults {
    pub(in crate::test_ca) fn new(seed: u64, injections: Vec<Injection>) -> Self {
        let mut faults = Self {
            seed,
            injected: 0,
            active: Vec::new(),
            played: BTreeMap::new(),
        };
        for injection in injections {
            faults.inject(injection);
        }
        faults
    }

    pub(in crate::test_ca) fn seed(&self) -> u64 {
        self.seed
    }

    pub(in crate::test_ca) fn inject(&mut self, injection: Injection) {
        self.active.push(Active {
            number: self.injected,
            injection,
            requests: HashMap::new(),
        });
        self.injected += 1;
    }

    pub(in crate::test_ca) fn clear(&mut self) {
        self.active.clear();
    }

    pub(in crate::test_ca) fn played(&self) -> Vec<PlayedFault> {
        let played = self.played.iter();
        let played = played.map(|((fault, _), (kind, count))| PlayedFault {
            fault: fault.clone(),
            kind: *kind,
            count: *count,
        });
        played.collect()
    }

    /// Counts a request, and decides what goes wrong with it.
    pub(in crate::test_ca) fn plan(&mut self, kind: ResourceKind, method: &Method) -> Plan {
        let mut plan = Plan::default();
        for active in &mut self.active {
            let injection = &active.injection;
            if injection.kind.is_some_and(|wanted| wanted != kind)
                || !makes_sense(&injection.fault, kind, method)
            {
                continue;
            }
            let requests = active.requests.entry(kind).or_default();
            *requests += 1;
            let mut draws = SeededRandom::of([self.seed, active.number, kind as u64, *requests]);
            let due = match injection.when {
                When::Nth(request) => *requests == request,
                When::First(count) => *requests <= count,
                When::Every => true,
                When::Share(share) => draws.happens(share),
            };
            // One request has one end, and a second that is due does not count as played.
            let ends = ends(injection);
            if !due || ends && plan.injections.iter().any(self::ends) {
                continue;
            }
            let mut injection = injection.clone();
            if let Fault::RandomDelay(longest) = injection.fault {
                injection.fault = Fault::Delay(longest.mul_f64(draws.unit()));
            }
            let words = (injection.to_string(), format!("{kind:?}"));
            let (_, count) = self.played.entry(words).or_insert((kind, 0));
            *count += 1;
            plan.injections.push(injection);
        }
        plan
    }
}

fn makes_sense(fault: &Fault, kind: ResourceKind, method: &Method) -> bool {
    match fault {
        Fault::RefuseNonce => *method == Method::POST,
        Fault::OmitNonce => *method == Method::POST || kind == ResourceKind::NewNonce,
        Fault::StayProcessing => kind == ResourceKind::Finalize,
        Fault::InvalidChallenge => kind == ResourceKind::Challenge,
        Fault::Chain(_) => kind == ResourceKind::Certificate,
        _ => true,
    }
}

/// Whether the fault decides how the request ends.
fn ends(injection: &Injection) -> bool {
    matches!(
        injection.fault,
        Fault::RefuseNonce
            | Fault::Stall
            | Fault::Reset
            | Fault::Truncate
            | Fault::Html(_)
            | Fault::Status { .. }
    )
}

/// What goes wrong with one request.
#[derive(Debug, Default)]
pub(in crate::test_ca) struct Plan {
    injections: Vec<Injection>,
}

/// How a request ends that gets no reply of the CA's own.
#[derive(Debug)]
pub(in crate::test_ca) enum Ending {
    Stall,
    Reset,
    Reply(Reply),
}

impl Plan {
    /// The faults in words.
    pub(in crate::test_ca) fn names(&self) -> Vec<String> {
        self.injections.iter().map(Injection::to_string).collect()
    }

    fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.injections.iter().map(|injection| &injection.fault)
    }

    /// Those that take place before the deed, or those after it.
    fn at(&self, after_acting: bool) -> impl Iterator<Item = &Fault> {
        let injections = self.injections.iter();
        let injections = injections.filter(move |i| i.after_acting == after_acting);
        injections.map(|injection| &injection.fault)
    }

    pub(in crate::test_ca) fn delay(&self, after_acting: bool) -> Duration {
        let delays = self.at(after_acting).map(|fault| match fault {
            Fault::Delay(delay) => *delay,
            _ => Duration::ZERO,
        });
        delays.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// How the request ends before the CA acts, or after.
    pub(in crate::test_ca) fn ending(&self, after_acting: bool) -> Option<Ending> {
        self.at(after_acting).find_map(|fault| match fault {
            Fault::Stall => Some(Ending::Stall),
            Fault::Reset => Some(Ending::Reset),
            Fault::Html(status) => Some(Ending::Reply(page(*status))),
            Fault::Status {
                status,
                retry_after,
                problem: None,
            } => {
                let reply = Reply::empty(*status);
                Some(Ending::Reply(match retry_after {
                    Some(time) => reply.header(header::RETRY_AFTER, time.value()),
                    None => reply,
                }))
            }
            _ => None,
        })
    }

    /// A refusal in the CA's own form, in place of the deed, or of its reply.
    pub(in crate::test_ca) fn refusal(&self, after_acting: bool) -> Option<Refusal> {
        self.at(after_acting).find_map(|fault| match fault {
            Fault::Status {
                status,
                retry_after,
                problem: Some(problem),
            } => Some(refusal(*status, problem, *retry_after)),
            _ => None,
        })
    }

    pub(in crate::test_ca) fn refuses_nonce(&self) -> bool {
        self.faults().any(|fault| *fault == Fault::RefuseNonce)
    }

    pub(in crate::test_ca) fn stays_processing(&self) -> bool {
        self.faults().any(|fault| *fault == Fault::StayProcessing)
    }

    pub(in crate::test_ca) fn fails_challenge(&self) -> bool {
        self.faults().any(|fault| *fault == Fault::InvalidChallenge)
    }

    pub(in crate::test_ca) fn bad_chain(&self) -> Option<BadChain> {
        self.faults().find_map(|fault| match fault {
            Fault::Chain(chain) => Some(*chain),
            _ => None,
        })
    }

    /// Spoils a reply that goes out.
    pub(in crate::test_ca) fn spoil(&self, reply: &mut Reply) {
        for fault in self.faults() {
            let headers = reply.headers_mut();
            match fault {
                Fault::OmitNonce => {
                    headers.remove("replay-nonce");
                }
                Fault::OmitHeader(name) => {
                    headers.remove(name);
                }
                Fault::DuplicateHeader(name) => {
                    if let Some(value) = headers.get(name).cloned() {
                        headers.append(name, value);
                    }
                }
                Fault::ContentType(value) => {
                    headers.insert(header::CONTENT_TYPE, value.clone());
                }
                Fault::Oversize(octets) => reply.fill(*octets),
                _ => {}
            }
        }
    }

    /// Whether the reply ends halfway.
    pub(in crate::test_ca) fn cuts(&self) -> bool {
        self.faults().any(|fault| *fault == Fault::Truncate)
    }
}

fn page(status: StatusCode) -> Reply {
    let body = format!(
        "<!DOCTYPE html>\n<html><head><title>{status}</title></head>\n\
         <body><center><h1>{status}</h1></center></body></html>\n"
    );
    Reply::empty(status).body("text/html; charset=utf-8", body)
}

fn refusal(status: StatusCode, problem: &Problem, retry_after: Option<RetryAfter>) -> Refusal {
    let refusal = Refusal::with_problem(status, problem.clone());
    match retry_after {
        Some(time) => refusal.header(header::RETRY_AFTER, time.value()),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(faults: &mut Faults, requests: usize) -> Vec<bool> {
        let plans = (0..requests).map(|_| faults.plan(ResourceKind::NewOrder, &Method::POST));
        plans.map(|plan| !plan.injections.is_empty()).collect()
    }

    #[test]
    fn counts_requests_of_a_kind() {
        let on = || Fault::Reset.on(ResourceKind::NewOrder);
        for (injection, expected) in [
            (on(), [true, true, true, true]),
            (on().nth(2), [false, true, false, false]),
            (on().first(3), [true, true, true, false]),
            (on().share(0.0), [false; 4]),
            (on().share(1.0), [true; 4]),
            (Fault::Reset.on(ResourceKind::Order), [false; 4]),
            (Fault::Reset.on_any().nth(4), [false, false, false, true]),
        ] {
            let mut faults = Faults::new(0, vec![injection]);
            // Those of another kind have a count of their own.
            faults.plan(ResourceKind::Finalize, &Method::POST);
            assert_eq!(due(&mut faults, 4), expected);
        }
    }

    #[test]
    fn a_share_is_decided_by_seed_injection_kind_and_number() {
        let draw = |seed, before: usize| {
            let mut injections = vec![Fault::OmitNonce.on(ResourceKind::Order); before];
            injections.push(Fault::Reset.on(ResourceKind::NewOrder).share(0.5));
            due(&mut Faults::new(seed, injections), 200)
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        let count = draw(1, 0).iter().filter(|due| **due).count();
        assert!((70..=130).contains(&count), "{count}");

        // Requests of another kind in between change nothing.
        let injection = || Fault::Reset.on_any().share(0.5);
        let mut faults = Faults::new(1, vec![injection()]);
        let mixed: Vec<_> = (0..100)
            .map(|_| {
                faults.plan(ResourceKind::Order, &Method::POST);
                !faults
                    .plan(ResourceKind::NewOrder, &Method::POST)
                    .injections
                    .is_empty()
            })
            .collect();
        assert_eq!(due(&mut Faults::new(1, vec![injection()]), 100), mixed);
    }

    #[test]
    fn one_end_is_played_and_what_does_not_end_beside_it() {
        let mut faults = Faults::new(
            0,
            vec![
                Fault::Delay(Duration::from_secs(1)).on_any(),
                Fault::RandomDelay(Duration::from_secs(1)).on_any(),
                Fault::RefuseNonce.on_any(),
                Fault::Reset.on_any().after_acting(),
                Fault::Stall.on_any(),
            ],
        );
        let get = faults.plan(ResourceKind::Directory, &Method::GET);
        assert!(!get.refuses_nonce(), "a GET has no nonce");
        assert!(get.ending(false).is_none());
        assert!(matches!(get.ending(true), Some(Ending::Reset)));
        let post = faults.plan(ResourceKind::NewOrder, &Method::POST);
        assert!(post.refuses_nonce() && post.ending(true).is_none());
        let delay = post.delay(false);
        assert!(delay >= Duration::from_secs(1) && delay < Duration::from_secs(2));

        let played = faults.played();
        let table: Vec<_> = played
            .iter()
            .map(|played| (played.fault.as_str(), played.kind, played.count))
            .collect();
        assert_eq!(
            table,
            [
                ("connection reset after acting", ResourceKind::Directory, 1),
                ("delay", ResourceKind::Directory, 2),
                ("delay", ResourceKind::NewOrder, 2),
                ("nonce refused", ResourceKind::NewOrder, 1),
            ]
        );
    }
}
