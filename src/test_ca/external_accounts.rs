//! External account bindings (RFC 8555 §7.3.4): accounts for those only who have one elsewhere.

use serde_json::Value;

use super::TestCaBuilder;
use super::ca::Ca;
use super::reply::Refusal;
use super::route::Route;
use crate::jose::{InvalidJws, Jwk, Jws, MacKey, SignatureAlgorithm, SignatureFault};
use crate::protocol::ProblemType;

impl TestCaBuilder {
    /// Makes an account outside of ACME that a new ACME account can be bound to, and a binding
    /// required of each new account (RFC 8555 §7.3.4). It can be called for several; a binding is
    /// good any number of times.
    ///
    /// By default there are none, and a binding is passed over.
    pub fn external_account(mut self, kid: impl Into<String>, mac_key: MacKey) -> Self {
        self.settings.external_accounts.insert(kid.into(), mac_key);
        self
    }
}

impl Ca {
    /// Checks the binding in the newAccount request of a key.
    pub(super) fn check_binding(
        &self,
        account_key: &Jwk,
        binding: Option<&Value>,
    ) -> Result<(), Refusal> {
        let settings = self.settings();
        if settings.external_accounts.is_empty() {
            return Ok(());
        }
        let Some(binding) = binding else {
            return Err(Refusal::new(
                ProblemType::ExternalAccountRequired,
                "a new account must be bound to an external one by `externalAccountBinding`",
            ));
        };

        let malformed = |error: String| Refusal::malformed(format!("the binding: {error}"));
        let jws: Jws = serde_json::from_value(binding.clone())
            .map_err(|error| malformed(error.to_string()))?;
        let header = jws.header().map_err(|error| malformed(error.to_string()))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(malformed(format!(
                "its algorithm is `{}`, which is no HMAC",
                header.alg
            )));
        }
        if header.nonce.is_some() || header.jwk.is_some() {
            return Err(malformed(
                "it must have neither a `nonce` nor a `jwk` in its header".to_owned(),
            ));
        }
        let url = self.url(Route::NewAccount).map_err(Refusal::internal)?;
        if header.url != url.as_str() {
            return Err(malformed(
                "it must be for the same URL as the outer JWS".to_owned(),
            ));
        }
        let Some(kid) = &header.kid else {
            return Err(malformed("it has no `kid`".to_owned()));
        };

        let key = settings.external_accounts.get(kid).ok_or_else(|| {
            Refusal::unauthorized(format!("the binding's `kid` `{kid}` is not known"))
        })?;
        key.verify(&jws).map_err(|error| match error {
            InvalidJws::Signature(SignatureFault::Wrong) => {
                Refusal::unauthorized("the binding's MAC is wrong")
            }
            error => malformed(error.to_string()),
        })?;

        let payload = jws
            .payload()
            .map_err(|error| malformed(error.to_string()))?;
        match serde_json::from_slice::<Jwk>(&payload) {
            Ok(bound) if &bound == account_key => Ok(()),
            Ok(_) => Err(Refusal::unauthorized(
                "the binding is for another key than the account's",
            )),
            Err(error) => Err(malformed(format!("its payload is no JWK: {error}"))),
        }
    }
}

/// §7.3.4: the algorithm MUST be a MAC's.
const ALGORITHMS: [SignatureAlgorithm; 3] = [
    SignatureAlgorithm::Hs256,
    SignatureAlgorithm::Hs384,
    SignatureAlgorithm::Hs512,
];
