//! Certificate profiles (draft-ietf-acme-profiles).

use std::collections::BTreeMap;
use std::time::Duration;

use super::ca::Ca;
use super::reply::Refusal;
use super::{TestCa, TestCaBuilder};
use crate::protocol::ProblemType;

impl TestCaBuilder {
    /// A profile that orders can name, with the words that the directory has for it and the
    /// lifetime of its certificates (draft-ietf-acme-profiles). It can be called for several.
    ///
    /// By default there are none, and an order that names one is refused with `invalidProfile`.
    /// Orders that name none get the [usual lifetime](Self::certificate_lifetime).
    pub fn profile(
        mut self,
        name: impl Into<String>,
        description: impl Into<String>,
        lifetime: Duration,
    ) -> Self {
        let profile = Profile {
            description: description.into(),
            lifetime,
        };
        self.settings.profiles.0.insert(name.into(), profile);
        self
    }
}

impl TestCa {
    /// Takes a [profile](TestCaBuilder::profile) away. Orders that name it can't be finalized any
    /// more: that is refused with `invalidProfile`, as at Let's Encrypt.
    pub fn withdraw_profile(&self, name: &str) {
        self.0.ca.settings().profiles.0.remove(name);
    }
}

/// Profiles by their name.
#[derive(Clone, Debug, Default)]
pub(super) struct Profiles(BTreeMap<String, Profile>);

impl Profiles {
    /// As the directory has them.
    pub(super) fn descriptions(&self) -> BTreeMap<String, String> {
        let profiles = self.0.iter();
        let described = profiles.map(|(name, profile)| (name.clone(), profile.description.clone()));
        described.collect()
    }
}

#[derive(Clone, Debug)]
struct Profile {
    description: String,
    lifetime: Duration,
}

impl Ca {
    /// How long the certificate of an order is valid that names this profile, or none.
    pub(super) fn lifetime(&self, profile: Option<&str>) -> Result<Duration, Refusal> {
        let settings = self.settings();
        let Some(name) = profile else {
            return Ok(settings.certificate_lifetime);
        };
        match settings.profiles.0.get(name) {
            Some(profile) => Ok(profile.lifetime),
            None => Err(Refusal::new(
                ProblemType::InvalidProfile,
                format!("there is no profile `{name}`"),
            )),
        }
    }
}
