//! What the CA issues for.

use http::StatusCode;

use super::ca::Ca;
use super::reply::Refusal;
use crate::protocol::{Identifier, Problem, ProblemType};

impl Ca {
    /// The identifiers in their canonical form, each once, or what is wrong with each of them.
    pub(super) fn check_identifiers(
        &self,
        identifiers: Vec<Identifier>,
    ) -> Result<Vec<Identifier>, Refusal> {
        let mut unique: Vec<Identifier> = Vec::new();
        for identifier in identifiers {
            if !unique.contains(&identifier) {
                unique.push(identifier);
            }
        }
        if unique.is_empty() {
            return Err(Refusal::malformed("the order is for no identifier"));
        }
        if unique.len() > MAX_IDENTIFIERS {
            return Err(Refusal::malformed(format!(
                "the order is for more than {MAX_IDENTIFIERS} identifiers"
            )));
        }

        let mut problems: Vec<Problem> = Vec::new();
        for identifier in &unique {
            if let Some(problem) = self.identifier_problem(identifier, &unique) {
                problems.push(problem.for_identifier(identifier.clone()));
            }
        }
        let Some(first) = problems.first() else {
            return Ok(unique);
        };
        // §6.7.1: `compound` where the subproblems have nothing in common.
        let kind = match problems.iter().all(|problem| problem.kind == first.kind) {
            true => first.kind.clone(),
            false => ProblemType::Compound,
        };
        let problem = Problem::new(kind, "the CA does not issue for some of the identifiers");
        Err(Refusal::with_problem(
            StatusCode::BAD_REQUEST,
            problem.with_subproblems(problems),
        ))
    }

    fn identifier_problem(&self, identifier: &Identifier, all: &[Identifier]) -> Option<Problem> {
        let name = match identifier {
            Identifier::Dns(name) => name,
            Identifier::Ip(_) => return None,
            Identifier::Other(other) if matches!(other.type_name.as_str(), "dns" | "ip") => {
                return Some(Problem::new(
                    ProblemType::Malformed,
                    "the value is not one of its type",
                ));
            }
            Identifier::Other(_) => {
                return Some(Problem::new(
                    ProblemType::UnsupportedIdentifier,
                    "the CA issues for identifiers of the types `dns` and `ip` only",
                ));
            }
        };

        let settings = self.settings();
        let blocks = |blocked: &String| {
            let rest = name.base().strip_suffix(blocked.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if settings.blocked.iter().any(blocks) {
            return Some(Problem::new(
                ProblemType::RejectedIdentifier,
                "the CA's policy forbids issuing for this name",
            ));
        }

        // As at Let's Encrypt: the wildcard covers the name already.
        let (_, parent) = name.as_str().split_once('.')?;
        let covers = |other: &Identifier| {
            other
                .dns_name()
                .is_some_and(|other| other.is_wildcard() && other.base() == parent)
        };
        if !name.is_wildcard() && all.iter().any(covers) {
            return Some(Problem::new(
                ProblemType::Malformed,
                format!("the name is redundant with `*.{parent}` in the same order"),
            ));
        }
        None
    }
}

/// As at Let's Encrypt.
const MAX_IDENTIFIERS: usize = 100;
