//! The validation of challenges, done as a CA does it: by asking the name's own server.

#[cfg(feature = "dns-01")]
mod dns01;
#[cfg(feature = "dns-01")]
mod dns_persist;
mod http01;
mod tls_alpn01;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::ca::Ca;
#[cfg(feature = "dns-01")]
use super::route::Route;
use crate::jose::KeyAuthorization;
use crate::protocol::{ChallengeType, Identifier, Problem, ProblemType};

/// Validates one challenge, and notes how that ended.
pub(super) async fn run(ca: Arc<Ca>, challenge: u64) {
    #[cfg(feature = "dns-01")]
    if let Some(attempt) = ca.persist_attempt(challenge) {
        return conclude(&ca, challenge, attempt.run(&ca).await);
    }
    let outcome = match ca.attempt(challenge) {
        Some(attempt) => attempt.run(&ca).await,
        // Replies may wait for an outcome, so there has to be one.
        None => Err(Problem::new(
            ProblemType::ServerInternal,
            "the challenge has lost its authorization, its account, or its token",
        )),
    };
    conclude(&ca, challenge, outcome);
}

fn conclude(ca: &Ca, challenge: u64, outcome: Result<(), Problem>) {
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
            #[cfg(feature = "dns-01")]
            account: self
                .url(Route::Account(authorization.account))
                .ok()?
                .to_string(),
            identifier: authorization.object.base_identifier.clone(),
            kind: challenge.object.kind.clone(),
            token: token.to_string(),
            key_authorization: KeyAuthorization::new(&token, &account.key.thumbprint()),
        })
    }

    /// A challenge of dns-persist-01, which has no token.
    #[cfg(feature = "dns-01")]
    fn persist_attempt(&self, challenge: u64) -> Option<dns_persist::Attempt> {
        let state = self.state();
        let challenge = state.challenges.get(challenge)?;
        if challenge.object.kind != ChallengeType::DnsPersist01 {
            return None;
        }
        let authorization = state.authorizations.get(challenge.authorization)?;
        let account = state.accounts.get(authorization.account)?;
        Some(dns_persist::Attempt {
            identifier: authorization.object.base_identifier.clone(),
            is_wildcard: authorization.object.identifier().is_wildcard(),
            account: self
                .url(Route::Account(authorization.account))
                .ok()?
                .to_string(),
            thumbprint: account.key.thumbprint().to_string(),
        })
    }

    /// When a validation that begins now has to be over.
    fn validation_deadline(&self) -> Instant {
        Instant::now() + self.settings().validation_timeout.min(MAX_TIMEOUT)
    }

    /// Where the server of a name is: on this machine, whatever the name. A fault of anything but the
    /// DNS is told by `refuse`.
    async fn address(
        &self,
        host: &str,
        refuse: impl Fn(String) -> Problem + Send,
    ) -> Result<IpAddr, Problem> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = match host.parse() {
            Ok(address) => address,
            Err(_) => self.address_of_name(host).await?,
        };
        match address.is_loopback() {
            true => Ok(address),
            false => Err(refuse(format!(
                "{address} is not a loopback address, and this CA asks no others"
            ))),
        }
    }

    async fn address_of_name(&self, name: &str) -> Result<IpAddr, Problem> {
        let configured = self
            .settings()
            .addresses
            .get(&name.to_ascii_lowercase())
            .copied();
        #[cfg(feature = "dns-01")]
        if configured.is_none() && self.settings().dns.resolver.is_some() {
            return self.look_up_address(name).await;
        }
        Ok(configured.unwrap_or(Ipv4Addr::LOCALHOST.into()))
    }
}

/// A validation to be done.
struct Attempt {
    #[cfg(feature = "dns-01")]
    account: String,
    identifier: Identifier,
    kind: ChallengeType,
    token: String,
    key_authorization: KeyAuthorization,
}

impl Attempt {
    async fn run(self, ca: &Ca) -> Result<(), Problem> {
        match self.kind {
            ChallengeType::Http01 => http01::validate(&self, ca).await,
            #[cfg(feature = "dns-01")]
            ChallengeType::Dns01 => dns01::validate(&self, "_acme-challenge", ca).await,
            #[cfg(feature = "dns-01")]
            ChallengeType::DnsAccount01 => {
                let label = dns01::account_label(&self.account);
                dns01::validate(&self, &label, ca).await
            }
            ChallengeType::TlsAlpn01 => tls_alpn01::validate(&self, ca).await,
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
