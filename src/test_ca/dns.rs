//! How the CA asks the DNS, and which challenges it can validate by it.

use std::net::IpAddr;
use std::net::SocketAddr;

use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::{DnsError, NetError};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use serde_json::{Map, Value, json};

use super::ca::Ca;
use super::directory::IDENTITY;
use super::reply::Refusal;
use super::route::Route;
use crate::protocol::{Challenge, ChallengeType, Identifier, Problem, ProblemType};

/// What a test may change of how the CA uses the DNS.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DnsSettings {
    pub(super) resolver: Option<SocketAddr>,
    pub(super) persist: Option<DnsPersist>,
}

/// The version of dns-persist-01 that a [`TestCa`](super::TestCa) speaks. The two don't fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DnsPersist {
    /// Up to draft-ietf-acme-dns-persist-01: records have the account's URL, as at Let's Encrypt in
    /// 2026.
    AccountUrl,
    /// From draft-ietf-acme-dns-persist-02 on: records have a hash.
    AccountHash,
}

impl Ca {
    /// The types of challenge that the CA offers for an identifier where it has a resolver.
    pub(super) fn offered_by_dns(&self, identifier: &Identifier) -> Vec<ChallengeType> {
        let settings = self.settings().dns;
        let Identifier::Dns(name) = identifier else {
            return Vec::new();
        };
        let mut kinds = Vec::new();
        if settings.resolver.is_some() {
            // A wildcard has it anyway.
            kinds.extend((!name.is_wildcard()).then_some(ChallengeType::Dns01));
            kinds.push(ChallengeType::DnsAccount01);
            kinds.extend(settings.persist.map(|_| ChallengeType::DnsPersist01));
        }
        kinds
    }

    /// The challenge, with what dns-persist-01 has in place of a token if it is of that type.
    pub(super) fn with_persist_members(
        &self,
        mut challenge: Challenge,
        account: u64,
    ) -> Result<Challenge, Refusal> {
        if challenge.kind == ChallengeType::DnsPersist01 {
            challenge.raw_token = None;
            challenge.other = self.persist_members(account)?;
        }
        Ok(challenge)
    }

    /// What a challenge of dns-persist-01 has in place of a token.
    fn persist_members(&self, account: u64) -> Result<Map<String, Value>, Refusal> {
        let account = self
            .url(Route::Account(account))
            .map_err(Refusal::internal)?;
        let members = match self.settings().dns.persist {
            Some(DnsPersist::AccountHash) => json!({ "issuerDomainNames": [IDENTITY] }),
            _ => json!({ "issuer-domain-names": [IDENTITY], "accounturi": account }),
        };
        Ok(members.as_object().cloned().unwrap_or_default())
    }

    /// What the directory says of dns-persist-01.
    pub(super) fn persist_meta(&self) -> Map<String, Value> {
        let meta = match self.settings().dns.persist {
            Some(DnsPersist::AccountHash) => json!({
                "issuerDomainNames": [IDENTITY],
                "accountHashPrefix": self.account_hash_prefix(),
            }),
            _ => json!({}),
        };
        meta.as_object().cloned().unwrap_or_default()
    }

    pub(super) fn account_hash_prefix(&self) -> String {
        format!("{}/account-hash/", self.base())
    }

    /// The texts of all TXT records of a name, aliases followed.
    pub(super) async fn texts(&self, name: &str) -> Result<Vec<String>, Problem> {
        let found = self.look_up(name, RecordType::TXT).await?;
        Ok(found
            .into_iter()
            .filter_map(|data| match data {
                RData::TXT(text) => Some(text.txt_data.concat()),
                _ => None,
            })
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect())
    }

    /// The address of a name: one of IPv6, if there is any, as Let's Encrypt prefers it.
    pub(super) async fn look_up_address(&self, name: &str) -> Result<IpAddr, Problem> {
        for record_type in [RecordType::AAAA, RecordType::A] {
            let found = self.look_up(name, record_type).await?;
            if let Some(address) = found.iter().find_map(RData::ip_addr) {
                return Ok(address);
            }
        }
        let detail =
            format!("no valid A records found for {name}; no valid AAAA records found for {name}");
        Err(Problem::new(ProblemType::Dns, detail))
    }

    async fn look_up(&self, name: &str, record_type: RecordType) -> Result<Vec<RData>, Problem> {
        let problem = |fault: String| {
            let detail = format!("DNS problem: {fault} looking up {record_type} for {name}");
            Problem::new(ProblemType::Dns, detail)
        };
        let resolver = self.resolver().map_err(problem)?;
        let mut owner = Name::from_ascii(name).map_err(|error| problem(error.to_string()))?;
        owner.set_fqdn(true);
        match resolver.lookup(owner, record_type).await {
            Ok(lookup) => {
                let records = lookup.answers().iter();
                Ok(records.map(|record| record.data.clone()).collect())
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(Vec::new()),
            Err(NetError::Dns(DnsError::ResponseCode(code))) => {
                Err(problem(format!("{code:?}").to_uppercase()))
            }
            Err(NetError::Timeout) => Err(problem("query timed out".to_owned())),
            Err(error) => Err(problem(error.to_string())),
        }
    }

    /// A resolver without a cache, for one validation.
    fn resolver(&self) -> Result<TokioResolver, String> {
        let settings = self.settings();
        let address = settings
            .dns
            .resolver
            .ok_or("this CA has no resolver, so it can't validate by DNS")?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "{address} is not a loopback address, and this CA asks no others"
            ));
        }
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.map(|mut connection| {
            connection.port = address.port();
            connection
        });
        let server = NameServerConfig::new(address.ip(), true, connections.into());
        let configuration = ResolverConfig::from_name_servers(vec![server]);
        let mut options = ResolverOpts::default();
        options.cache_size = 0;
        options.timeout = settings.validation_timeout;
        options.attempts = 1;
        TokioResolver::builder_with_config(configuration, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| error.to_string())
    }
}
