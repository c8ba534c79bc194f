use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Map, Value};

use super::ca::{Ca, asks_for};
use super::custom_challenge::CustomChallenge;
use super::orders::WEEK;
use super::reply::{Refusal, Reply};
use super::request::Payload;
use super::route::Route;
use super::settings::Validation;
use super::state::{State, StoredAuthorization, StoredChallenge};
use super::subdomains::Needed;
use super::{custom_challenge, validation};
use crate::protocol::{
    Authorization, AuthorizationStatus, Challenge, ChallengeStatus, ChallengeType, DnsName,
    Identifier, Problem, ProblemType, Url,
};

impl Ca {
    /// A look at an authorization (RFC 8555 §7.5), or its deactivation (§7.5.2).
    pub(super) async fn authorization(
        &self,
        account: u64,
        id: u64,
        payload: &Payload,
    ) -> Result<Reply, Refusal> {
        if payload.is_empty() && self.settings().validation == Validation::BeforeNextLook {
            self.wait_while(|state| state.authorization_is_validating(id))
                .await;
        }

        let mut state = self.state();
        check_owner(&state, account, id)?;
        if !payload.is_empty() {
            let request: Map<String, Value> = payload.json()?;
            if !asks_for(&request, "deactivated") {
                return Err(Refusal::malformed(
                    "an authorization's status can become `deactivated` only",
                ));
            }
            deactivate(&mut state, id)?;
        }

        let object = state.authorization(id).ok_or_else(Refusal::not_found)?;
        let reply = Reply::json(StatusCode::OK, &object)?;
        Ok(self.with_retry_after(reply, state.authorization_is_validating(id)))
    }

    /// A look at a challenge, or the client's word that it is ready (§7.5.1).
    pub(super) async fn challenge(
        self: &Arc<Self>,
        account: u64,
        id: u64,
        payload: &Payload,
        fails: bool,
    ) -> Result<Reply, Refusal> {
        let pace = self.settings().validation;
        let responds = !payload.is_empty();
        if responds {
            self.start_validation(account, id, payload.json()?, fails)?;
        }

        let waits = match responds {
            true => pace == Validation::BeforeReply,
            false => pace == Validation::BeforeNextLook,
        };
        if waits {
            self.wait_while(|state| state.challenge_is_validating(id))
                .await;
        }

        let state = self.state();
        let challenge = state.challenges.get(id).ok_or_else(Refusal::not_found)?;
        check_owner(&state, account, challenge.authorization)?;
        let up = self.url(Route::Authorization(challenge.authorization));
        let reply = Reply::json(StatusCode::OK, &challenge.object)?;
        // §7.1: from a challenge to its authorization.
        Ok(reply.link(up.map_err(Refusal::internal)?, "up"))
    }

    /// The authorization that an order needs: one that is there already, or a new one.
    pub(super) fn authorization_for(
        &self,
        state: &mut State,
        account: u64,
        needed: &Needed,
    ) -> Result<u64, Refusal> {
        let identifier = &needed.identifier;
        let fits = |id: &u64| {
            let stored = state.authorizations.get(*id);
            !needed.with_subdomains || stored.is_some_and(StoredAuthorization::allows_subdomains)
        };
        let mut reused = state
            .pre_authorization(account, identifier)
            .filter(fits)
            .or_else(|| state.ancestor_authorization(account, needed));
        if reused.is_none() && self.settings().reuses_authorizations {
            reused = state.valid_authorization(account, identifier).filter(fits);
        }
        if let Some(id) = reused {
            return Ok(id);
        }

        let id = self.new_authorization(state, account, identifier)?;
        if needed.with_subdomains {
            state.allow_subdomains(id);
        }
        Ok(id)
    }

    /// Makes a pending authorization with its challenges.
    pub(super) fn new_authorization(
        &self,
        state: &mut State,
        account: u64,
        identifier: &Identifier,
    ) -> Result<u64, Refusal> {
        // §8.3, §8.4: only DNS can prove control of a wildcard. A challenge that can only fail here
        // is kept from those who have a choice.
        #[cfg_attr(not(feature = "dns-01"), expect(unused_mut))]
        let (base, mut kinds) = match identifier {
            Identifier::Dns(name) if name.is_wildcard() => {
                let base = DnsName::parse(name.base()).map_err(Refusal::internal)?;
                (base.into(), vec![ChallengeType::Dns01])
            }
            identifier => (
                identifier.clone(),
                vec![ChallengeType::Http01, ChallengeType::TlsAlpn01],
            ),
        };
        #[cfg(feature = "dns-01")]
        kinds.extend(self.offered_by_dns(identifier));
        let mut customs = self.settings().custom_challenges.clone();
        customs.retain(|custom| custom.kind().can_validate(identifier));
        // Offered only with a resolver.
        let asks_dns = kinds.contains(&ChallengeType::DnsAccount01);
        let has_own = |kind: &ChallengeType| {
            let can_pass = *kind != ChallengeType::Dns01 || asks_dns || customs.is_empty();
            can_pass && customs.iter().all(|custom| custom.kind() != kind)
        };

        let authorization = state.authorizations.next_id();
        let mut challenges = Vec::new();
        let mut add = |state: &mut State, object| {
            challenges.push(state.challenges.insert(StoredChallenge {
                authorization,
                object,
            }));
        };
        for kind in kinds.iter().filter(|kind| has_own(kind)) {
            let (url, token) = self.challenge_basis(state)?;
            let object = Challenge::pending(kind.clone(), url, Some(token));
            #[cfg(feature = "dns-01")]
            let object = self.with_persist_members(object, account)?;
            add(state, object);
        }
        for custom in &customs {
            let (url, token) = self.challenge_basis(state)?;
            add(state, custom.offer(url, token));
        }

        let mut object = Authorization::pending(base, identifier.is_wildcard(), Vec::new());
        object.expires = SystemTime::now().checked_add(WEEK);
        Ok(state.authorizations.insert(StoredAuthorization {
            account,
            is_pre_authorization: false,
            orders: Vec::new(),
            challenges,
            object,
        }))
    }

    /// The URL of the next challenge, and a token for it.
    fn challenge_basis(&self, state: &State) -> Result<(Url, String), Refusal> {
        let url = self.url(Route::Challenge(state.challenges.next_id()));
        Ok((url.map_err(Refusal::internal)?, self.random.token::<32>()?))
    }

    fn start_validation(
        self: &Arc<Self>,
        account: u64,
        id: u64,
        response: Map<String, Value>,
        fails: bool,
    ) -> Result<(), Refusal> {
        let mut state = self.state();
        let challenge = state.challenges.get(id).ok_or_else(Refusal::not_found)?;
        let authorization = challenge.authorization;
        check_owner(&state, account, authorization)?;

        let pending = state
            .authorizations
            .get(authorization)
            .is_some_and(|stored| stored.object.status == AuthorizationStatus::Pending);
        let challenge = state
            .challenges
            .get_mut(id)
            .ok_or_else(Refusal::not_found)?;
        let custom = self.custom_challenge(&challenge.object.kind);
        let takes_members = custom.as_ref().is_some_and(CustomChallenge::takes_members);
        if !takes_members && !response.is_empty() {
            return Err(Refusal::malformed("the response must be `{}`"));
        }
        // As Pebble says it; Boulder has `conflict` for it.
        if !pending || challenge.object.status != ChallengeStatus::Pending {
            return Err(Refusal::malformed(format!(
                "the challenge is `{}`, and only one that is `pending`, of an authorization that \
                 is, can be responded to",
                challenge.object.status
            )));
        }
        challenge.object.status = ChallengeStatus::Processing;
        let ca = Arc::clone(self);
        if fails {
            let problem = Problem::new(
                ProblemType::Unauthorized,
                "the test wants this challenge to fail",
            );
            self.tasks.spawn(async move {
                ca.state().conclude(id, Err(problem));
                ca.announce_validation();
            });
            return Ok(());
        }
        match custom {
            Some(custom) => {
                let run = custom_challenge::run(ca, id, custom, response);
                self.tasks.spawn(run);
            }
            None => self.tasks.spawn(validation::run(ca, id)),
        }
        Ok(())
    }
}

fn check_owner(state: &State, account: u64, id: u64) -> Result<(), Refusal> {
    let authorization = state.authorizations.get(id);
    let authorization = authorization.ok_or_else(Refusal::not_found)?;
    match authorization.account == account {
        true => Ok(()),
        false => Err(Refusal::unauthorized(
            "the authorization is another account's",
        )),
    }
}

fn deactivate(state: &mut State, id: u64) -> Result<(), Refusal> {
    let authorization = state.authorizations.get(id);
    let status = authorization.map(|stored| &stored.object.status);
    match status {
        Some(AuthorizationStatus::Pending | AuthorizationStatus::Valid) => {
            state.set_authorization_status(id, AuthorizationStatus::Deactivated);
            Ok(())
        }
        Some(status) => Err(Refusal::malformed(format!(
            "the authorization is `{status}`, and only one that is `pending` or `valid` can be \
             deactivated"
        ))),
        None => Err(Refusal::not_found()),
    }
}
