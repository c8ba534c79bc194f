//! The validation of challenges, done as a CA does it: by asking the name's own server.

mod http01;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::ca::Ca;
use crate::jose::KeyAuthorization;
use crate::protocol::{ChallengeType, Identifier, Problem, ProblemType};

/// Validates one challenge, and notes how that ended.
pub(super) async fn run(ca: Arc<Ca>, challenge: u64) {
    let outcome = match ca.attempt(challenge) {
        Some(attempt) => attempt.run(&ca).await,
        // Replies may wait for an outcome, so there has to be one.
        None => Err(Problem::new(
            ProblemType::ServerInternal,
            "the challenge has lost its authorization, its account, or its token",
        )),
    };
    if let Err(problem) = &outcome {
        tracing::debug!(challenge, %problem, "a validation failed");
    }
    ca.state().conclude(challenge, outcome);
    ca.announce_validation();
}

impl Ca {
    fn attempt(&self, challenge: u64) -> Option<Attempt> {
        let state = self.state();
        let challenge = state.challenges.get(challenge)?;
        let authorization = state.authorizations.get(challenge.authorization)?;
        let account = state.accounts.get(authorization.account)?;
        let token = challenge.object.token().ok()??;
        Some(Attempt {
            identifier: authorization.object.base_identifier.clone(),
            kind: challenge.object.kind.clone(),
            token: token.to_string(),
            key_authorization: KeyAuthorization::new(&token, &account.key.thumbprint()),
        })
    }

    /// When a validation that begins now has to be over.
    fn validation_deadline(&self) -> Instant {
        Instant::now() + self.settings().validation_timeout.min(MAX_TIMEOUT)
    }

    /// Where the server of a name is: on this machine, whatever the name.
    fn address(&self, host: &str) -> Result<IpAddr, String> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = match host.parse() {
            Ok(address) => address,
            Err(_) => {
                let settings = self.settings();
                let configured = settings.addresses.get(&host.to_ascii_lowercase());
                configured.copied().unwrap_or(Ipv4Addr::LOCALHOST.into())
            }
        };
        match address.is_loopback() {
            true => Ok(address),
            false => Err(format!(
                "{address} is not a loopback address, and this CA asks no others"
            )),
        }
    }
}

/// A validation to be done.
struct Attempt {
    identifier: Identifier,
    kind: ChallengeType,
    token: String,
    key_authorization: KeyAuthorization,
}

impl Attempt {
    async fn run(self, ca: &Ca) -> Result<(), Problem> {
        match self.kind {
            ChallengeType::Http01 => http01::validate(&self, ca).await,
            _ => Err(Problem::new(
                ProblemType::Dns,
                "this CA has no resolver, so it can't validate by DNS",
            )),
        }
    }
}

/// Connects to a server, or says in Boulder's words why not.
async fn connect(address: IpAddr, port: u16, deadline: Instant) -> Result<TcpStream, String> {
    timeout_at(deadline, TcpStream::connect((address, port)))
        .await
        .map_err(|_| "Timeout during connect (likely firewall problem)")?
        .map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => "Connection refused".to_owned(),
            _ => error.to_string(),
        })
}

/// So that no sum of times can overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);
