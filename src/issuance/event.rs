use std::fmt;
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::error::{Error, SolverFailure};
use crate::order::Order;
use crate::protocol::{Identifier, Problem};
use crate::solver::{Leftover, Presentation};
use crate::x509::{CertificateKey, Csr};

/// A step of an issuance, for a program that shows progress or keeps what it would need to resume.
///
/// Displays as a short sentence.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The CA refuses to order a certificate for the identifier, and the issuance goes on without
    /// it, as it was allowed to.
    Dropped {
        /// The identifier.
        identifier: &'a Identifier,
        /// What the CA says of it.
        problem: &'a Problem,
    },
    /// The order exists. Its URL is all that is needed to take it up again.
    OrderCreated {
        /// The order.
        order: &'a Order,
    },
    /// The order of a checkpoint is taken up where it stands.
    OrderResumed {
        /// The order.
        order: &'a Order,
    },
    /// The CA refused an order that replaces the certificate it was told of, so this one replaces
    /// none (RFC 9773 §5).
    ReplacementRefused {
        /// The order.
        order: &'a Order,
        /// What the CA says.
        problem: &'a Problem,
    },
    /// The account proved control of the identifier before, and the CA still counts it.
    AlreadyAuthorized {
        /// The identifier.
        identifier: &'a Identifier,
    },
    /// A solver failed before the CA was asked to validate, and the next one is taken.
    SolverFailed {
        /// What failed.
        failure: &'a SolverFailure,
    },
    /// The answer to a challenge is presented.
    Presented {
        /// What the solver was given.
        presentation: &'a Presentation,
    },
    /// The CA knows that the answer can be seen, and validates.
    ChallengeReady {
        /// What the solver was given.
        presentation: &'a Presentation,
    },
    /// The CA could not validate, and another order is made, with other solvers for what failed.
    OrderFailed {
        /// The order, which is of no use any more.
        order: &'a Order,
        /// Why it failed.
        error: &'a Error,
    },
    /// The CA has validated all identifiers.
    Validated {
        /// The order.
        order: &'a Order,
    },
    /// The CSR is about to be sent.
    Finalizing {
        /// The order.
        order: &'a Order,
        /// The certificate's key. Whoever must not lose it stores it now.
        key: &'a CertificateKey,
    },
    /// The caller's CSR is about to be sent.
    FinalizingCsr {
        /// The order.
        order: &'a Order,
        /// The CSR.
        csr: &'a Csr,
    },
    /// The certificate is there, and checked.
    Issued {
        /// The certificate.
        certificate: &'a Certificate,
    },
    /// The answer to a challenge could not be taken away. The issuance goes on. It is told also when
    /// the issuance was dropped.
    CleanUpFailed {
        /// The answer. Whoever wants to take it away later stores it.
        leftover: &'a Leftover,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped {
                identifier,
                problem,
            } => write!(f, "going on without {identifier}: {problem}"),
            Self::OrderCreated { order } => {
                write!(f, "order {} is {}", order.url(), order.status())
            }
            Self::OrderResumed { order } => {
                write!(
                    f,
                    "going on with order {}, which is {}",
                    order.url(),
                    order.status()
                )
            }
            Self::ReplacementRefused { problem, .. } => {
                write!(f, "the order replaces no certificate: {problem}")
            }
            Self::AlreadyAuthorized { identifier } => {
                write!(f, "{identifier} is authorized already")
            }
            Self::SolverFailed { failure } => write!(f, "{failure}; the next one is taken"),
            Self::Presented { presentation } => write!(
                f,
                "answer to {} for {} presented",
                presentation.challenge().kind,
                presentation.identifier()
            ),
            Self::ChallengeReady { presentation } => write!(
                f,
                "the CA is asked to validate {} by {}",
                presentation.identifier(),
                presentation.challenge().kind
            ),
            Self::OrderFailed { order, error } => write!(
                f,
                "order {} failed, and another is made: {error}",
                order.url()
            ),
            Self::Validated { .. } => f.write_str("the CA has validated all identifiers"),
            Self::Finalizing { order, .. } | Self::FinalizingCsr { order, .. } => {
                write!(f, "sending the CSR for order {}", order.url())
            }
            Self::Issued { certificate } => write!(f, "certificate {} issued", certificate.url()),
            Self::CleanUpFailed { leftover } => write!(f, "{leftover}"),
        }
    }
}

/// Whom each event is told.
#[derive(Clone, Default)]
pub(super) struct Observer(Option<Arc<Callback>>);

type Callback = dyn Fn(&Event<'_>) + Send + Sync;

impl Observer {
    pub(super) fn new(observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observer)))
    }

    pub(super) fn emit(&self, event: &Event<'_>) {
        tracing::debug!(%event);
        if let Some(observer) = &self.0 {
            observer(event);
        }
    }
}
