use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, FailedAuthorization, NoSolver};
use crate::protocol::{
    AuthorizationStatus, ChallengeType, DnsName, Identifier, Problem, ProblemType,
};
use crate::solver::ChallengeSolver;

/// Which solver is taken for which challenge, given what has failed already in this issuance.
pub(super) struct Choice {
    solvers: Vec<Arc<dyn ChallengeSolver>>,
    pasts: Mutex<HashMap<Identifier, Past>>,
}

/// What is known of an identifier.
#[derive(Default)]
struct Past {
    /// The types of challenge that the CA offered, once it was asked.
    offered: Option<Vec<ChallengeType>>,
    /// The solver and the type that are, or were, last tried.
    tried: Option<(usize, ChallengeType)>,
    /// The solvers that were asked to check.
    checked: Vec<usize>,
    /// The solvers that can't be taken, or not for a type.
    ruled_out: Vec<(usize, Option<ChallengeType>)>,
}

/// A solver, and the type of challenge that it would solve.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) solver: Arc<dyn ChallengeSolver>,
    pub(super) kind: ChallengeType,
    index: usize,
}

impl Choice {
    pub(super) fn new(solvers: Vec<Arc<dyn ChallengeSolver>>) -> Self {
        Self {
            solvers,
            pasts: Mutex::default(),
        }
    }

    /// The first solver that can solve one of the challenges that the CA offers, or may offer.
    pub(super) fn candidate(&self, identifier: &Identifier) -> Option<Candidate> {
        let (mut types, ruled_out) = {
            let mut pasts = self.pasts();
            let past = pasts.entry(identifier.clone()).or_default();
            let types = past.offered.as_deref().unwrap_or(ChallengeType::KNOWN);
            (types.to_vec(), past.ruled_out.clone())
        };
        // A CA shuffles them, and the same solver should get the same type each time.
        types.sort_by_key(|kind| {
            let known = ChallengeType::KNOWN.iter();
            let place = known.clone().position(|known| known == kind);
            (place.unwrap_or(known.len()), kind.to_string())
        });
        let solvers = self.solvers.iter().enumerate();
        solvers.into_iter().find_map(|(index, solver)| {
            let kind = types.iter().find(|&kind| {
                // What a solver says of itself does not make a wildcard provable over HTTP.
                kind.can_validate(identifier)
                    && !ruled_out.contains(&(index, None))
                    && !ruled_out.contains(&(index, Some(kind.clone())))
                    && solver.can_solve(identifier, kind)
            })?;
            Some(Candidate {
                solver: solver.clone(),
                kind: kind.clone(),
                index,
            })
        })
    }

    /// Whether there may be a candidate for a type that has no name here, which only the CA can tell.
    pub(super) fn may_have_other(&self, identifier: &Identifier) -> bool {
        let plain = match identifier {
            Identifier::Dns(name) if name.is_wildcard() => name.base(),
            _ => "name.example",
        };
        let plain = DnsName::parse(plain).map(Identifier::Dns);
        // One that solves a known type, if not for this identifier, is not for unknown ones.
        let solves_known = |solver: &Arc<dyn ChallengeSolver>| {
            ChallengeType::KNOWN.iter().any(|kind| {
                let plain = plain.as_ref();
                solver.can_solve(identifier, kind)
                    || plain.is_ok_and(|plain| solver.can_solve(plain, kind))
            })
        };
        let pasts = self.pasts();
        let past = pasts.get(identifier);
        let ruled_out = |index| {
            past.is_some_and(|past| past.ruled_out.iter().any(|(solver, _)| *solver == index))
        };
        self.solvers
            .iter()
            .enumerate()
            .any(|(index, solver)| !ruled_out(index) && !solves_known(solver))
    }

    /// The error for an identifier that there is no candidate for.
    pub(super) fn none(&self, identifier: &Identifier) -> Error {
        let offered = self
            .pasts()
            .get(identifier)
            .and_then(|past| past.offered.clone());
        Error::NoSolver(Box::new(NoSolver {
            identifier: identifier.clone(),
            offered: offered.unwrap_or_default(),
        }))
    }

    /// Notes what the CA offers.
    pub(super) fn offer(&self, identifier: &Identifier, offered: Vec<ChallengeType>) {
        let mut pasts = self.pasts();
        pasts.entry(identifier.clone()).or_default().offered = Some(offered);
    }

    /// Notes what is being tried.
    pub(super) fn try_next(&self, identifier: &Identifier, candidate: &Candidate) {
        let mut pasts = self.pasts();
        pasts.entry(identifier.clone()).or_default().tried =
            Some((candidate.index, candidate.kind.clone()));
    }

    /// Notes that a solver checks, and whether it is the first time.
    pub(super) fn begin_check(&self, identifier: &Identifier, candidate: &Candidate) -> bool {
        let mut pasts = self.pasts();
        let checked = &mut pasts.entry(identifier.clone()).or_default().checked;
        let first = !checked.contains(&candidate.index);
        if first {
            checked.push(candidate.index);
        }
        first
    }

    /// Rules out a solver for the type that it failed at.
    pub(super) fn rule_out(&self, identifier: &Identifier, candidate: &Candidate) {
        self.note(identifier, (candidate.index, Some(candidate.kind.clone())));
    }

    /// Rules out a solver for all types.
    pub(super) fn rule_out_solver(&self, identifier: &Identifier, candidate: &Candidate) {
        self.note(identifier, (candidate.index, None));
    }

    /// Whether another solver could prove control where the CA says that this failed. The one that
    /// was tried is ruled out.
    pub(super) fn has_other(&self, failed: &FailedAuthorization) -> bool {
        let tried = self
            .pasts()
            .get(&failed.identifier)
            .and_then(|past| past.tried.clone());
        // One that was valid before was not tried here.
        let (Some((index, kind)), AuthorizationStatus::Invalid) = (tried, &failed.status) else {
            return false;
        };
        if !failed.problem.as_ref().is_none_or(may_be_the_solvers) {
            return false;
        }
        self.note(&failed.identifier, (index, Some(kind)));
        self.candidate(&failed.identifier).is_some()
    }

    fn note(&self, identifier: &Identifier, ruled_out: (usize, Option<ChallengeType>)) {
        let mut pasts = self.pasts();
        let past = pasts.entry(identifier.clone()).or_default();
        past.ruled_out.push(ruled_out);
    }

    fn pasts(&self) -> MutexGuard<'_, HashMap<Identifier, Past>> {
        self.pasts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a problem of a validation may be gone when control is proved in another way.
pub(super) fn may_be_the_solvers(problem: &Problem) -> bool {
    match problem.kind {
        ProblemType::BadAttestationStatement
        | ProblemType::Blank
        | ProblemType::Connection
        | ProblemType::Dns
        | ProblemType::IncorrectResponse
        | ProblemType::Malformed
        | ProblemType::Other(_)
        | ProblemType::Tls
        | ProblemType::Unauthorized => true,
        ProblemType::Compound => {
            let parts = &problem.subproblems;
            !parts.is_empty() && parts.iter().all(may_be_the_solvers)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::error::BoxError;
    use crate::solver::Presentation;

    /// Says yes to these types, whatever the identifier.
    struct Eager(&'static [ChallengeType]);

    #[async_trait]
    impl ChallengeSolver for Eager {
        fn can_solve(&self, _identifier: &Identifier, kind: &ChallengeType) -> bool {
            self.0.contains(kind)
        }

        async fn present(&self, _presentation: &Presentation) -> Result<(), BoxError> {
            Ok(())
        }

        async fn clean_up(&self, _presentation: &Presentation) -> Result<(), BoxError> {
            Ok(())
        }
    }

    #[test]
    fn takes_the_first_solver_for_what_the_protocol_allows() {
        use ChallengeType::{Dns01, Http01, TlsAlpn01};

        let choice = Choice::new(vec![
            Arc::new(Eager(&[Http01, TlsAlpn01])),
            Arc::new(Eager(&[Dns01, Http01])),
        ]);
        let chosen = |identifier: &Identifier| {
            let candidate = choice.candidate(identifier)?;
            Some((candidate.index, candidate.kind))
        };
        // A CA may offer anything, in any order.
        let offers = [
            [Http01, Dns01, TlsAlpn01],
            [Dns01, TlsAlpn01, Http01],
            [TlsAlpn01, Http01, Dns01],
        ];
        let [name, wildcard, address]: [Identifier; 3] =
            ["example.com", "*.example.com", "192.0.2.1"].map(|text| text.parse().unwrap());
        for offered in offers {
            for identifier in [&name, &wildcard, &address] {
                choice.offer(identifier, offered.to_vec());
            }
            assert_eq!(chosen(&name), Some((0, Http01)));
            assert_eq!(chosen(&wildcard), Some((1, Dns01)));
            assert_eq!(chosen(&address), Some((0, Http01)));
        }

        // What failed for one identifier is taken for others still.
        let mut tried = Vec::new();
        while let Some(candidate) = choice.candidate(&name) {
            tried.push((candidate.index, candidate.kind.clone()));
            choice.rule_out(&name, &candidate);
        }
        assert_eq!(
            tried,
            [(0, Http01), (0, TlsAlpn01), (1, Http01), (1, Dns01)]
        );
        let candidate = choice.candidate(&address).unwrap();
        choice.rule_out_solver(&address, &candidate);
        assert_eq!(chosen(&address), Some((1, Http01)));
        choice.offer(&address, vec![Dns01]);
        assert_eq!(chosen(&address), None);
        assert_eq!(chosen(&wildcard), Some((1, Dns01)));
    }

    #[test]
    fn another_solver_does_not_help_against_the_cas_policy() {
        for (kind, expected) in [
            (ProblemType::Connection, true),
            (ProblemType::Dns, true),
            (ProblemType::IncorrectResponse, true),
            (ProblemType::Tls, true),
            (ProblemType::Unauthorized, true),
            (ProblemType::BadAttestationStatement, true),
            (ProblemType::from("urn:example:own"), true),
            (ProblemType::Caa, false),
            (ProblemType::RateLimited, false),
            (ProblemType::RejectedIdentifier, false),
            (ProblemType::UnsupportedIdentifier, false),
            (ProblemType::UserActionRequired, false),
            (ProblemType::ServerInternal, false),
        ] {
            let problem = Problem::new(kind.clone(), "told");
            assert_eq!(may_be_the_solvers(&problem), expected, "{kind}");
        }
        let compound = |parts: [ProblemType; 2]| {
            Problem::new(ProblemType::Compound, "told")
                .with_subproblems(parts.map(|kind| Problem::new(kind, "part")).to_vec())
        };
        assert!(may_be_the_solvers(&compound([
            ProblemType::Dns,
            ProblemType::Connection
        ])));
        assert!(!may_be_the_solvers(&compound([
            ProblemType::Dns,
            ProblemType::Caa
        ])));
    }
}
