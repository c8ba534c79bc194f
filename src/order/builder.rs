use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::sleep;
use tracing::{debug, warn};

use super::Order;
use crate::account::{Account, payload};
use crate::error::{ConfigurationError, Error, Operation, ProfileNotOffered};
use crate::protocol::{
    self, AutoRenewal, DnsName, Extension, Identifier, IdentifierFault, Identifiers,
    InvalidIdentifier, Meta, NewOrder, Problem, ProblemType, Resource, Url,
};
use crate::session::{Reply, SignedRequest};

/// Creates an order (RFC 8555 §7.4).
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `create`"]
pub struct OrderBuilder {
    account: Account,
    /// Shared by an issuance's orders.
    identifiers: Result<Arc<Identifiers>, InvalidIdentifier>,
    ancestors: Vec<Result<DnsName, InvalidIdentifier>>,
    profiles: Vec<String>,
    or_default_profile: bool,
    request: NewOrder,
}

impl OrderBuilder {
    pub(crate) fn new(
        account: Account,
        identifiers: Result<Identifiers, InvalidIdentifier>,
    ) -> Self {
        Self {
            account,
            identifiers: identifiers.map(Arc::new),
            ancestors: Vec::new(),
            profiles: Vec::new(),
            or_default_profile: false,
            request: NewOrder::default(),
        }
    }

    /// Asks for a profile that the CA's directory lists (draft-ietf-acme-profiles).
    ///
    /// One that it does not list is refused by [`create`](Self::create) before anything is sent.
    pub fn profile(self, profile: impl Into<String>) -> Self {
        self.profiles([profile])
    }

    /// Asks for the first of these profiles that the CA's directory lists.
    ///
    /// CAs rename and withdraw profiles. Where none of these is listed, [`create`](Self::create)
    /// fails before anything is sent, but for [`or_default_profile`](Self::or_default_profile).
    ///
    /// ```no_run
    /// # async fn example(account: certwright::Account) -> Result<(), certwright::Error> {
    /// let order = account
    ///     .new_order(["example.com"])
    ///     .profiles(["shortlived", "classic"])
    ///     .or_default_profile()
    ///     .create()
    ///     .await?;
    /// println!("the profile is {:?}", order.state().profile);
    /// # Ok(()) }
    /// ```
    pub fn profiles(mut self, profiles: impl IntoIterator<Item: Into<String>>) -> Self {
        self.profiles = profiles.into_iter().map(Into::into).collect();
        self
    }

    /// Takes whichever profile the CA chooses, where it has none of those asked for.
    pub fn or_default_profile(mut self) -> Self {
        self.or_default_profile = true;
        self
    }

    /// Asks for a certificate that is valid from this time on. Let's Encrypt refuses such orders.
    ///
    /// What the CA made of it is in the `not_before` of [`Order::state`].
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.request.not_before = Some(time);
        self
    }

    /// Asks for a certificate that is valid until this time. Let's Encrypt refuses such orders.
    ///
    /// What the CA made of it is in the `not_after` of [`Order::state`].
    pub fn not_after(mut self, time: SystemTime) -> Self {
        self.request.not_after = Some(time);
        self
    }

    /// Tells the CA which certificate the new one replaces, by its identifier (RFC 9773 §4.1 and
    /// §5). At Let's Encrypt, rate limits do not apply to an order that renews in time.
    ///
    /// Give it only for a certificate of this CA that this account ordered, with a name in common.
    ///
    /// It is a wish that no order fails for: it is left out where the CA has no renewal information,
    /// and where the CA refuses it, the order is made again without it. [`Order::replacement`] tells.
    ///
    /// At Let's Encrypt, a certificate counts as replaced from the order on, finished or not. So
    /// keep the order's URL, and take that order up again rather than make another.
    pub fn replaces(mut self, certificate_id: impl Into<String>) -> Self {
        self.request.replaces = Some(certificate_id.into());
        self
    }

    /// Lets the CA renew the certificate by itself until the order ends (STAR, RFC 8739). Such an
    /// order has no `not_before` and no `not_after` of its own.
    ///
    /// Once it is finalized, [`Order::current_certificate`] brings the current certificate, and
    /// [`Order::cancel`] ends it.
    pub fn auto_renewal(mut self, renewal: AutoRenewal) -> Self {
        self.request.auto_renewal = Some(renewal);
        self
    }

    /// Orders under a delegation (RFC 9115 §2.3.2), one of [`Account::delegations`]. The CSR must
    /// follow the template of [`Account::delegation`].
    pub fn delegation(mut self, delegation: Url) -> Self {
        self.request.delegation = Some(delegation);
        self
    }

    /// Lets the certificate be had by a GET without a signature (RFC 9115 §2.3.5). For one that
    /// renews by itself, see [`AutoRenewal::allow_certificate_get`].
    pub fn allow_certificate_get(mut self) -> Self {
        self.request.allow_certificate_get = true;
        self
    }

    /// Lets control of the names below this one be proved by control of it (RFC 9444 §4.2). May be
    /// given for several names.
    pub fn ancestor_domain(mut self, name: impl AsRef<str>) -> Self {
        self.ancestors.push(DnsName::parse(name.as_ref()));
        self
    }

    /// The identifiers, as they will be sent.
    pub(crate) fn identifiers(&self) -> Result<&[Identifier], InvalidIdentifier> {
        match &self.identifiers {
            Ok(identifiers) => Ok(identifiers),
            Err(invalid) => Err(invalid.clone()),
        }
    }

    /// What an issuance can ask for beside the identifiers.
    pub(crate) fn wishes(&self) -> Wishes<'_> {
        Wishes {
            profiles: &self.profiles,
            or_default_profile: self.or_default_profile,
            replaces: self.request.replaces.as_deref(),
        }
    }

    /// Leaves out identifiers. Fails where none is left.
    pub(crate) fn without(&mut self, unwanted: &[Identifier]) -> Result<(), InvalidIdentifier> {
        let identifiers = self.identifiers()?.iter();
        let left = identifiers.filter(|identifier| !unwanted.contains(identifier));
        self.identifiers = Ok(Arc::new(Identifiers::collect(left)?));
        Ok(())
    }

    /// Creates the order.
    ///
    /// Fails before anything is sent where a name is invalid, or the CA does not offer what is asked
    /// for. When the reply is lost, the request is sent again: the CA then answers with the same
    /// order, or makes another and lets the lost one expire.
    ///
    /// The order may be one that the account has already, and in any state: look at its
    /// [`status`](Order::status) before going on.
    pub async fn create(self) -> Result<Order, Error> {
        self.order().await
    }

    /// See [`create`](Self::create).
    pub(crate) async fn order(&self) -> Result<Order, Error> {
        let session = self.account.client().session();
        let url = session.resource(Resource::NewOrder).await?;
        let directory = session.directory().await?;
        let mut request = NewOrder {
            identifiers: self.identifiers()?.to_vec(),
            ..self.request.clone()
        };
        self.check_extensions(&directory.meta)?;
        self.add_ancestors(&mut request)?;
        let mut replacement = Replacement::NotAsked;
        if request.replaces.is_some() && directory.renewal_info.is_none() {
            debug!("the CA has no renewal information, so it is not told what is replaced");
            request.replaces = None;
            replacement = Replacement::NotOffered;
        }

        let mut profiles = self
            .offered_profiles(&directory.meta)?
            .into_iter()
            .peekable();
        let (reply, announced) = loop {
            request.profile = profiles.next().flatten();
            match self.send(&url, &request).await {
                Ok(sent) => break sent,
                // The directory is an hour old, and the profile was withdrawn since.
                Err(error)
                    if error.is(&ProblemType::InvalidProfile) && profiles.peek().is_some() =>
                {
                    warn!(profile = ?request.profile, %error, "trying the next profile");
                }
                Err(error) => return Err(error),
            }
        };
        if request.replaces.is_some() {
            replacement = announced;
        }

        // The only place where the order's URL is told (CAs leave it out later).
        let order = reply.location()?;
        let state: protocol::Order = reply.json()?;
        if request.profile.is_some() && state.profile != request.profile {
            warn!(
                %order,
                asked = ?request.profile,
                taken = ?state.profile,
                "the CA took another profile than the one asked for",
            );
        }
        Ok(Order::new(self.account.clone(), order, state, replacement))
    }

    fn check_extensions(&self, meta: &Meta) -> Result<(), Error> {
        let request = &self.request;
        let renewal = request.auto_renewal.as_ref();
        let needs = [
            (renewal.is_some(), Extension::AutoRenewal),
            (
                renewal.is_some_and(|renewal| renewal.allow_certificate_get),
                Extension::AutoRenewalGet,
            ),
            (request.delegation.is_some(), Extension::Delegation),
            (request.allow_certificate_get, Extension::CertificateGet),
            (
                !self.ancestors.is_empty(),
                Extension::SubdomainAuthorization,
            ),
        ];
        for (needed, extension) in needs {
            if needed && !meta.offers(extension) {
                return Err(Error::ExtensionNotOffered(extension));
            }
        }
        // RFC 8739 §3.1.1: they "MUST NOT be present".
        if renewal.is_some() && (request.not_before.is_some() || request.not_after.is_some()) {
            return Err(ConfigurationError::ValidityOfAutoRenewal.into());
        }
        Ok(())
    }

    /// Gives each identifier the closest of the ancestor domains that it is below.
    fn add_ancestors(&self, request: &mut NewOrder) -> Result<(), InvalidIdentifier> {
        for ancestor in &self.ancestors {
            let ancestor = ancestor.as_ref().map_err(Clone::clone)?;
            let mut below = request
                .identifiers
                .iter()
                .filter(|identifier| {
                    identifier
                        .dns_name()
                        .is_some_and(|name| name.is_below(ancestor))
                })
                .peekable();
            if below.peek().is_none() {
                let fault = IdentifierFault::NoSubdomain;
                return Err(InvalidIdentifier::new(ancestor.as_str(), fault));
            }
            for identifier in below {
                let closest = request
                    .ancestor_domains
                    .entry(identifier.clone())
                    .or_insert_with(|| ancestor.clone());
                if ancestor.is_below(closest) {
                    *closest = ancestor.clone();
                }
            }
        }
        Ok(())
    }

    /// The profiles to try, one after another; `None` is for the CA's own choice.
    fn offered_profiles(&self, meta: &Meta) -> Result<Vec<Option<String>>, Error> {
        let wanted = self.profiles.iter();
        let offered = wanted.filter(|&profile| meta.profiles.contains_key(profile));
        let mut profiles: Vec<_> = offered.cloned().map(Some).collect();
        if self.profiles.is_empty() || self.or_default_profile {
            profiles.push(None);
        }
        if profiles.is_empty() {
            return Err(Error::ProfileNotOffered(Box::new(ProfileNotOffered {
                wanted: self.profiles.clone(),
                offered: meta.profiles.clone(),
            })));
        }
        Ok(profiles)
    }

    async fn send(&self, url: &Url, request: &NewOrder) -> Result<(Reply, Replacement), Error> {
        match request.replaces {
            Some(_) => Box::pin(self.send_replacing(url, request)).await,
            None => Ok((self.post(url, request, true).await?, Replacement::NotAsked)),
        }
    }

    /// Sends the request, and once more without `replaces` where that may be why it was refused: for
    /// good, or because an order whose reply was lost has replaced the certificate.
    async fn send_replacing(
        &self,
        url: &Url,
        request: &NewOrder,
    ) -> Result<(Reply, Replacement), Error> {
        let mut retries = self.account.client().session().retries();
        let mut result = self.post(url, request, false).await;
        if let Err(error) = &result
            && let Some(pause) = retries.pause(error)
        {
            debug!(%error, ?pause, "sending the order again");
            sleep(pause).await;
            // Some CAs fail at a certificate that they don't know: as often as they are asked. Others
            // fail once, so it is worth one more try.
            let fails_at_it = refused_replacement(error).is_some();
            result = self.post(url, request, !fails_at_it).await;
        }
        let error = match result {
            Ok(reply) => return Ok((reply, Replacement::Announced)),
            Err(error) => error,
        };
        let Some(problem) = refused_replacement(&error) else {
            return Err(error);
        };
        warn!(%problem, "the CA refuses to replace the certificate; ordering without");
        let without = NewOrder {
            replaces: None,
            ..request.clone()
        };
        let reply = self.post(url, &without, true).await?;
        Ok((reply, Replacement::Refused(Box::new(problem.clone()))))
    }

    async fn post(&self, url: &Url, request: &NewOrder, repeat: bool) -> Result<Reply, Error> {
        let request = SignedRequest {
            repeat,
            ..self
                .account
                .request(Operation::NewOrder, url, payload(request)?)
        };
        self.account.post(&request).await
    }
}

/// See [`OrderBuilder::wishes`].
pub(crate) struct Wishes<'a> {
    pub(crate) profiles: &'a [String],
    pub(crate) or_default_profile: bool,
    pub(crate) replaces: Option<&'a str>,
}

/// What became of the wish that a CA mark a certificate as replaced by an order's one
/// (RFC 9773 §5); see [`OrderBuilder::replaces`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Replacement {
    /// Nobody asked for it.
    NotAsked,
    /// The CA knows which certificate is replaced.
    Announced,
    /// The CA has no renewal information, so it was not told.
    NotOffered,
    /// The CA refused an order that replaces the certificate, and took one that replaces none.
    Refused(Box<Problem>),
}

/// What a CA said that refused an order, where `replaces` may be why.
///
/// RFC 9773 §5 has `alreadyReplaced` for one reason of several; Boulder and Pebble say the others by
/// these types.
fn refused_replacement(error: &Error) -> Option<&Problem> {
    let Error::Refused(refusal) = error else {
        return None;
    };
    let may_be = match refusal.problem.kind {
        ProblemType::AlreadyReplaced
        | ProblemType::Conflict
        | ProblemType::Malformed
        | ProblemType::Unauthorized => true,
        ProblemType::Blank | ProblemType::Other(_) | ProblemType::ServerInternal => {
            matches!(refusal.status, 400 | 403 | 404 | 409 | 500)
        }
        _ => false,
    };
    may_be.then_some(&refusal.problem)
}
