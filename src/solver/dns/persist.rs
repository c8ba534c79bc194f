use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::error::{DnsPersist01Error, NotPropagated};
use super::propagation::{Patience, Sought};
use crate::dns::Dns;
use crate::error::BoxError;
use crate::jose::{DnsPersistAccount, DnsPersistRecord};
use crate::protocol::{
    ChallengeType, Directory, DnsName, DnsPersistChallenge, DnsPersistValue, Identifier,
    InvalidDnsPersist, Meta, Url,
};
use crate::solver::{AccountContext, ChallengeSolver, Presentation};

/// Solves dns-persist-01 (draft-ietf-acme-dns-persist) by a TXT record that is there already, and
/// stays: [`DnsPersistRecord`] tells which.
///
/// Nothing is presented, and nothing taken away. Before there is an order, and again before the CA
/// is told, the solver asks all name servers of the zone for a record that the CA will take: one of
/// this CA and account, still in force, and with `policy=wildcard` for a wildcard. Where there is
/// none, the error says which record to publish, and no order is spent.
///
/// Both versions of the draft that CAs speak are solved, as the CA's directory and challenge say: up
/// to draft 01 the record has the account's URL, from draft 02 on a hash.
///
/// ```no_run
/// # async fn example(account: certwright::Account) -> Result<(), certwright::Error> {
/// use certwright::solver::DnsPersist01;
///
/// let issued = account.issue(["*.example.com"]).solver(DnsPersist01::new()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DnsPersist01 {
    dns: Dns,
    follows_aliases: bool,
    checks: bool,
    patience: Patience,
    /// What each CA says of itself, by its accounts: a challenge can't be read without.
    directories: Arc<Mutex<HashMap<Url, Arc<Directory>>>>,
}

impl DnsPersist01 {
    /// A solver that asks the system's name servers where the zones are.
    pub fn new() -> Self {
        Self {
            dns: Dns::system(),
            follows_aliases: true,
            checks: true,
            patience: Patience {
                timeout: Duration::ZERO,
                first_pause: super::Dns01::POLL_INTERVAL,
                resolvers: Vec::new(),
            },
            directories: Arc::default(),
        }
    }

    /// Asks the DNS by this; [`Dns::system`] by default.
    pub fn dns(mut self, dns: Dns) -> Self {
        self.dns = dns;
        self
    }

    /// Sets how long to wait until all name servers have the record, where it has been published
    /// just now. By default they are asked once.
    pub fn propagation_timeout(mut self, timeout: Duration) -> Self {
        self.patience.timeout = timeout;
        self
    }

    /// Does not ask the zone's name servers, where they can't be reached, or are not those that the
    /// CA asks. The challenge is checked all the same.
    pub fn without_check(mut self) -> Self {
        self.checks = false;
        self
    }

    /// Asks for the record at its own name only, even where that is an alias.
    pub fn without_aliases(mut self) -> Self {
        self.follows_aliases = false;
        self
    }

    /// Looks for a record that the CA will take.
    async fn look(&self, wanted: &Wanted<'_>) -> Result<(), DnsPersist01Error> {
        let name = DnsPersistValue::record_name(wanted.name);
        let target = match self.follows_aliases {
            true => self.dns.canonical_name(&name).await?,
            false => name.clone(),
        };
        let sought = Sought {
            dns: &self.dns,
            name: &name,
            target: &target,
            zone: None,
            value: None,
            matches: &|texts| texts.iter().any(|text| wanted.judge(text).is_ok()),
        };
        let seen = sought.wait(&self.patience).await;
        seen.map_err(|report| wanted.missing(report))
    }

    fn remember(&self, account: &AccountContext) {
        let mut directories = self
            .directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let directory = Arc::new(account.directory().clone());
        directories.insert(account.account().clone(), directory);
    }

    fn directory(&self, account: &Url) -> Arc<Directory> {
        let directories = self
            .directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        directories.get(account).cloned().unwrap_or_default()
    }

    /// What the challenge wants, once it was found to follow the rules.
    fn read(&self, presentation: &Presentation) -> Result<DnsPersistChallenge, InvalidDnsPersist> {
        let directory = self.directory(presentation.account());
        DnsPersistChallenge::read(
            presentation.challenge(),
            presentation.account(),
            &directory.meta,
        )
    }
}

impl Default for DnsPersist01 {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ChallengeSolver for DnsPersist01 {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        *challenge_type == ChallengeType::DnsPersist01 && challenge_type.can_validate(identifier)
    }

    async fn check(
        &self,
        identifier: &Identifier,
        account: &AccountContext,
    ) -> Result<(), BoxError> {
        self.remember(account);
        if !self.checks {
            return Ok(());
        }
        let meta = &account.directory().meta;
        let wanted = Wanted {
            name: dns_name(identifier)?,
            account: DnsPersistAccount::new(account.account(), account.thumbprint(), meta),
            issuers: announced_issuers(meta),
        };
        Ok(self.look(&wanted).await?)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.read(presentation)
            .map_err(DnsPersist01Error::Challenge)?;
        Ok(())
    }

    async fn wait(&self, presentation: &Presentation) -> Result<(), BoxError> {
        if !self.checks {
            return Ok(());
        }
        let challenge = self
            .read(presentation)
            .map_err(DnsPersist01Error::Challenge)?;
        let wanted = Wanted {
            name: dns_name(presentation.identifier())?,
            account: DnsPersistAccount::with_form(
                presentation.account(),
                presentation.thumbprint(),
                challenge.account,
            ),
            issuers: challenge.issuer_domain_names,
        };
        Ok(self.look(&wanted).await?)
    }

    /// Leaves the record, which is to stay.
    async fn clean_up(&self, _presentation: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }
}

impl fmt::Debug for DnsPersist01 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsPersist01")
            .field("dns", &self.dns)
            .field("checks", &self.checks)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// The record that is to be there.
struct Wanted<'a> {
    name: &'a DnsName,
    account: DnsPersistAccount,
    /// The names that the CA goes by; empty where it does not tell before there is an order.
    issuers: Vec<String>,
}

impl Wanted<'_> {
    /// Why a CA would not take this record.
    fn judge(&self, text: &str) -> Result<(), String> {
        let value = DnsPersistValue::parse(text).map_err(|error| error.to_string())?;
        if !self.issuers.is_empty() && !self.issuers.contains(&value.issuer) {
            return Err("it is for another CA".to_owned());
        }
        let uris = [self.account.uri(self.name), self.account.shared_uri()];
        if !uris.contains(&value.account_uri) {
            return Err("it is for another account, or another key of it".to_owned());
        }
        if !value.is_in_force(SystemTime::now()) {
            return Err("its persistUntil is past".to_owned());
        }
        if self.name.is_wildcard() && !value.wildcard {
            return Err("it has no policy=wildcard".to_owned());
        }
        Ok(())
    }

    fn missing(&self, report: Box<NotPropagated>) -> DnsPersist01Error {
        let issuer = self.issuers.first().map_or(NO_ISSUER, String::as_str);
        DnsPersist01Error::NotPublished {
            record: DnsPersistRecord::new(self.name, issuer, &self.account).to_string(),
            why: self.why(&report),
            report,
        }
    }

    fn why(&self, report: &NotPropagated) -> String {
        let found = report.servers.iter().find_map(|server| match &server.seen {
            super::Seen::Others(texts) => texts.iter().find_map(|text| self.judge(text).err()),
            _ => None,
        });
        match found {
            Some(fault) => format!("of the record that is there, {fault}"),
            None => "there is none at all of the name servers".to_owned(),
        }
    }
}

/// In place of a name that the CA's documentation tells, and its directory does not.
const NO_ISSUER: &str = "<the CA's issuer domain name>";

/// The names that a record may have, as far as the directory tells before there is an order. Up to
/// draft 01, CAs take them from their CAA identities.
fn announced_issuers(meta: &Meta) -> Vec<String> {
    meta.issuer_domain_names().unwrap_or_else(|| {
        let names = meta.caa_identities.iter();
        names
            .filter_map(|name| DnsName::parse(name).ok())
            .map(|name| name.to_string())
            .collect()
    })
}

fn dns_name(identifier: &Identifier) -> Result<&DnsName, DnsPersist01Error> {
    identifier
        .dns_name()
        .ok_or_else(|| DnsPersist01Error::NoDnsName(identifier.clone()))
}
