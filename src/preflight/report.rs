use std::error::Error;
use std::fmt;

use super::PreflightFault;
use crate::protocol::{ChallengeType, Identifier};

/// What a [`Preflight`](super::Preflight) found.
#[derive(Debug)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    /// All that was found, in the order of the identifiers; empty where all is well.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What would make the CA refuse.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
    }

    /// What is to be known, but does not stand in the way.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Warning)
    }

    /// Whether nothing stands in the way: there may be warnings.
    pub fn is_ok(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The warnings, or the report as an error where something stands in the way.
    pub fn into_result(self) -> Result<Vec<Finding>, Self> {
        match self.is_ok() {
            true => Ok(self.findings),
            false => Err(self),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return f.write_str("nothing was found that stands in the way");
        }
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for Report {}

/// One thing that was found.
#[derive(Debug)]
pub struct Finding {
    identifier: Identifier,
    challenge_type: Option<ChallengeType>,
    severity: Severity,
    fault: PreflightFault,
}

impl Finding {
    /// For which identifier.
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// For which type of challenge. `None` for all of them.
    pub fn challenge_type(&self) -> Option<&ChallengeType> {
        self.challenge_type.as_ref()
    }

    /// Whether it stands in the way.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong.
    pub fn fault(&self) -> &PreflightFault {
        &self.fault
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.identifier)?;
        if let Some(kind) = &self.challenge_type {
            write!(f, " by {kind}")?;
        }
        write!(f, ": {}", self.fault)?;
        match self.fault.hint() {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Severity {
    /// The certificate can be had all the same: by another type of challenge, most likely.
    Warning,
    /// The CA would refuse, or the solver would fail.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Makes findings of faults. A fault of one type of challenge stands in the way only where there is
/// no other type that is without.
pub(super) fn weigh(
    identifier: &Identifier,
    kinds: &[ChallengeType],
    faults: Vec<(Option<ChallengeType>, PreflightFault)>,
) -> Vec<Finding> {
    let broken = |kind: &ChallengeType| {
        faults
            .iter()
            .any(|(of, fault)| of.as_ref() == Some(kind) && !fault.is_harmless())
    };
    let has_other = !kinds.iter().all(broken);
    let severity = |kind: &Option<ChallengeType>, fault: &PreflightFault| match fault.is_harmless()
        || (kind.is_some() && has_other)
    {
        true => Severity::Warning,
        false => Severity::Error,
    };
    let severities: Vec<_> = faults
        .iter()
        .map(|(kind, fault)| severity(kind, fault))
        .collect();
    let findings = faults.into_iter().zip(severities);
    findings
        .map(|((challenge_type, fault), severity)| Finding {
            identifier: identifier.clone(),
            challenge_type,
            severity,
            fault,
        })
        .collect()
}
