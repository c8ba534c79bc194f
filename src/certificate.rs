use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::stream::{self, StreamExt};
use rustls_pki_types::CertificateDer;
use tracing::{debug, warn};

use crate::account::{Account, payload};
use crate::client::Client;
use crate::error::{BadCertificate, BadCrl, ConfigurationError, Error, NoChain, Operation};
use crate::jose::{KeyReference, Signer};
use crate::protocol::{ProblemType, Resource, Revocation, RevocationReason, Url};
use crate::renewal::RenewalAdvice;
use crate::session::{Reply, SignedRequest};
use crate::x509::{CertificateChain, ChainChoice, Csr, InvalidChain, RevocationStatus};

/// A certificate that was issued (RFC 8555 §7.4.2).
///
/// Clones are handles of the same certificate.
#[derive(Clone)]
pub struct Certificate {
    account: Account,
    url: Url,
    chain: Arc<CertificateChain>,
    /// The chain that the CA offers first.
    offered: Arc<CertificateChain>,
    alternates: Arc<[Url]>,
    matched: bool,
}

impl Certificate {
    /// How many alternate chains are looked at. Let's Encrypt has two at most.
    const MAX_ALTERNATES: usize = 8;

    /// How many alternate chains are fetched side by side.
    const SIDE_BY_SIDE: usize = 4;

    /// Downloads a chain, and checks that it is the one that the CSR asked for.
    pub(crate) async fn download(account: Account, url: Url, csr: &Csr) -> Result<Self, Error> {
        Self::fetch(account, url).await?.checked(csr)
    }

    /// Downloads a chain, whatever it is for.
    pub(crate) async fn fetch(account: Account, url: Url) -> Result<Self, Error> {
        let reply = request_chain(&account, &url).await?;
        Self::read(account, url, &reply)
    }

    /// Reads a chain from a reply, whatever it is for.
    pub(crate) fn read(account: Account, url: Url, reply: &Reply) -> Result<Self, Error> {
        let chain = parse_chain(&url, reply)?;
        let mut alternates: Vec<Url> = Vec::new();
        for link in reply.links("alternate") {
            if link != url && !alternates.contains(&link) {
                alternates.push(link);
            }
        }
        if alternates.len() > Self::MAX_ALTERNATES {
            warn!(certificate = %url, offered = alternates.len(), "some alternate chains are passed over");
            alternates.truncate(Self::MAX_ALTERNATES);
        }
        let chain = Arc::new(chain);
        Ok(Self {
            account,
            url,
            offered: chain.clone(),
            chain,
            alternates: alternates.into(),
            matched: true,
        })
    }

    /// Checks that the chain is the one that the CSR asked for.
    pub(crate) fn checked(self, csr: &Csr) -> Result<Self, Error> {
        self.chain
            .check(csr.public_key_info(), csr.identifiers(), SystemTime::now())
            .map_err(|fault| bad_certificate(&self.url, fault))?;
        Ok(self)
    }

    /// Where the CA keeps the certificate: with the account, all that is needed to read it again.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The account that it was issued to.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The chain: the one that the CA offers first, or the one [chosen](Self::choose).
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }

    /// Whether [`chain`](Self::chain) is as was asked for. `false` where a choice was made that no
    /// chain meets, so that the one is used that the CA offers first.
    pub fn is_as_chosen(&self) -> bool {
        self.matched
    }

    /// The other chains that the CA offers (§7.4.2), fetched side by side. All are for the same
    /// certificate.
    ///
    /// Fails where one of them can't be had, or is for another certificate.
    pub async fn alternates(&self) -> Result<Vec<CertificateChain>, Error> {
        self.fetch_alternates().await.into_iter().collect()
    }

    /// The certificate with the chain that suits the choice best.
    ///
    /// Where no chain does, that is no error: it has the chain that the CA offers first, a warning
    /// is logged, and [`is_as_chosen`](Self::is_as_chosen) says so. An alternate chain that can't be
    /// had, or is for another certificate, is passed over with a warning.
    pub async fn choose(&self, choice: &ChainChoice) -> Self {
        if choice.is_offered() {
            return self.with_chain(self.offered.clone(), true);
        }
        let alternates = self.fetch_alternates().await;
        let mut chains = vec![self.offered.clone()];
        for alternate in alternates {
            match alternate {
                Ok(chain) => chains.push(Arc::new(chain)),
                Err(error) => warn!(%error, "an alternate chain is passed over"),
            }
        }
        let candidates: Vec<_> = chains.iter().map(Arc::as_ref).collect();
        let place = choice.choose(&candidates, SystemTime::now());
        match place.and_then(|place| chains.get(place)) {
            Some(chain) => self.with_chain(chain.clone(), true),
            None => {
                warn!(
                    certificate = %self.url,
                    offered = chains.len(),
                    wanted = %choice,
                    "the CA does not offer the chain wanted; its first one is used"
                );
                self.with_chain(self.offered.clone(), false)
            }
        }
    }

    /// Like [`choose`](Self::choose), where no other chain will do.
    pub async fn require(&self, choice: &ChainChoice) -> Result<Self, Error> {
        let certificate = self.choose(choice).await;
        match certificate.matched {
            true => Ok(certificate),
            false => Err(self.no_chain(choice)),
        }
    }

    /// Asks the CA when to renew the certificate (RFC 9773); see [`Client::renewal_info`].
    pub async fn renewal_info(&self) -> Result<RenewalAdvice, Error> {
        self.account.client().renewal_info(&self.chain).await
    }

    /// Revokes the certificate; see [`Account::revoke`].
    pub async fn revoke(&self, reason: Option<RevocationReason>) -> Result<(), Error> {
        self.account.revoke(self.chain.leaf(), reason).await
    }

    /// Asks whether the certificate is revoked; see [`Client::revocation_status`].
    pub async fn revocation_status(&self) -> Result<RevocationStatus, Error> {
        self.account.client().revocation_status(&self.chain).await
    }

    pub(crate) fn no_chain(&self, choice: &ChainChoice) -> Error {
        Error::NoChain(Box::new(NoChain {
            certificate: self.url.clone(),
            wanted: choice.to_string(),
            offered: self.alternates.len().saturating_add(1),
        }))
    }

    pub(crate) fn unmatched(&self) -> Self {
        self.with_chain(self.offered.clone(), false)
    }

    fn with_chain(&self, chain: Arc<CertificateChain>, matched: bool) -> Self {
        Self {
            chain,
            matched,
            ..self.clone()
        }
    }

    async fn fetch_alternates(&self) -> Vec<Result<CertificateChain, Error>> {
        let fetches = self.alternates.iter().map(|url| async move {
            let reply = request_chain(&self.account, url).await?;
            let chain = parse_chain(url, &reply)?;
            match chain.leaf() == self.offered.leaf() {
                true => Ok(chain),
                false => Err(bad_certificate(url, InvalidChain::OtherLeaf)),
            }
        });
        stream::iter(fetches.collect::<Vec<_>>())
            .buffered(Self::SIDE_BY_SIDE)
            .collect()
            .await
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("url", &self.url)
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// Reads a certificate again, by its URL (RFC 8555 §7.4.2).
    ///
    /// Its chain is parsed as strictly as that of a new one. Whether it is the one that is wanted,
    /// [`CertificateChain::check`] tells.
    pub async fn certificate(&self, url: Url) -> Result<Certificate, Error> {
        Certificate::fetch(self.clone(), url).await
    }

    /// Revokes a certificate, given in DER, in the account's name (§7.6).
    ///
    /// The account must have ordered it, or be authorized for all of its names. A certificate that
    /// is revoked already is a success. When the reply is lost, the request is sent again.
    ///
    /// A certificate that was merely replaced needs no revocation. Of the reasons, Let's Encrypt
    /// takes `Unspecified`, `KeyCompromise`, `Superseded` and `CessationOfOperation`; where another
    /// account than the one that ordered asks, it records `CessationOfOperation` whatever was given.
    ///
    /// ```no_run
    /// # async fn example(account: certwright::Account, chain: certwright::x509::CertificateChain)
    /// # -> Result<(), certwright::Error> {
    /// use certwright::protocol::RevocationReason;
    ///
    /// account.revoke(chain.leaf(), Some(RevocationReason::Superseded)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn revoke(
        &self,
        certificate: &CertificateDer<'_>,
        reason: Option<RevocationReason>,
    ) -> Result<(), Error> {
        let payload = revocation(certificate, reason)?;
        let url = revoke_cert(self.client()).await?;
        let request = self.request(Operation::Revocation, &url, payload);
        revoke(self.client(), request).await
    }
}

impl Client {
    /// Asks the CA when to renew a certificate (RFC 9773 §4.1). No account is needed.
    ///
    /// Fails with [`Error::Unsupported`] where the CA has no renewal information. Feed the answer, or
    /// the error, to a [`RenewalPlan`](crate::renewal::RenewalPlan), which draws the moment and says
    /// when to ask again.
    pub async fn renewal_info(&self, chain: &CertificateChain) -> Result<RenewalAdvice, Error> {
        let base = self.session().resource(Resource::RenewalInfo).await?;
        let id = chain.certificate_id()?;
        // The one URL that a client builds; some CAs list its base with a slash at the end.
        let url = Url::parse(&format!("{}/{id}", base.as_str().trim_end_matches('/')))?;
        let reply = self.session().get(Operation::RenewalInfo, &url).await?;
        Ok(RenewalAdvice::new(reply.json()?, reply.retry_after()))
    }

    /// Revokes a certificate, given in DER, in the name of its own key (RFC 8555 §7.6): for whoever
    /// holds the key, and has no account or another.
    ///
    /// A CA may take it as a proof that the key is compromised: Let's Encrypt then records
    /// `KeyCompromise` whatever reason was given, and never issues for the key again. Otherwise as
    /// [`Account::revoke`].
    ///
    /// The key is a [`CertificateKey`](crate::x509::CertificateKey), or a [`Signer`] for one that is
    /// held elsewhere.
    pub async fn revoke_with_key(
        &self,
        certificate: &CertificateDer<'_>,
        key: &impl Signer,
        reason: Option<RevocationReason>,
    ) -> Result<(), Error> {
        let payload = revocation(certificate, reason)?;
        let url = revoke_cert(self).await?;
        let request = SignedRequest {
            operation: Operation::Revocation,
            url: &url,
            signer: key,
            key: KeyReference::Jwk,
            payload,
            accept: None,
            repeat: false,
        };
        revoke(self, request).await
    }

    /// Asks whether a certificate is revoked, by the list that its issuer publishes (RFC 5280 §5).
    ///
    /// The list is fetched from where the certificate says, by http too, and verified; see
    /// [`CertificateChain::revocation_status`]. Where the certificate names several places, the next
    /// one is tried when one fails. A list may have 16 MiB.
    pub async fn revocation_status(
        &self,
        chain: &CertificateChain,
    ) -> Result<RevocationStatus, Error> {
        const LIMIT: usize = 16 << 20;
        // Without the issuer nothing can be verified, so nothing is fetched.
        if chain.certificates().len() < 2 {
            return Ok(RevocationStatus::IssuerUnknown);
        }
        let urls = chain.details()?.crl_urls;
        // Other schemes, such as ldap, are of no use to browsers either.
        let urls = urls.iter().filter_map(|url| Url::parse(url).ok());
        let mut last = None;
        for url in urls {
            let fetched = self.session().get_public(Operation::Crl, &url, LIMIT).await;
            let status = fetched.and_then(|reply| {
                let status = chain.revocation_status(reply.body(), SystemTime::now());
                status.map_err(|fault| Error::Crl(Box::new(BadCrl { url, fault })))
            });
            match status {
                Ok(status) => return Ok(status),
                Err(error) => {
                    debug!(%error, "trying the next distribution point, if any");
                    last = Some(error);
                }
            }
        }
        last.map_or(Ok(RevocationStatus::NoDistributionPoint), Err)
    }
}

async fn request_chain(account: &Account, url: &Url) -> Result<Reply, Error> {
    let request = SignedRequest {
        accept: Some("application/pem-certificate-chain"),
        repeat: true,
        ..account.request(Operation::Certificate, url, Vec::new())
    };
    account.post(&request).await
}

fn parse_chain(url: &Url, reply: &Reply) -> Result<CertificateChain, Error> {
    str::from_utf8(reply.body())
        .map_err(|_| InvalidChain::Text)
        .and_then(CertificateChain::from_pem)
        .map_err(|fault| bad_certificate(url, fault))
}

fn bad_certificate(url: &Url, fault: InvalidChain) -> Error {
    Error::Certificate(Box::new(BadCertificate {
        url: url.clone(),
        fault,
    }))
}

/// A revocation's JSON, where its reason is one.
fn revocation(
    certificate: &CertificateDer<'_>,
    reason: Option<RevocationReason>,
) -> Result<Vec<u8>, Error> {
    if let Some(RevocationReason::Other(code)) = reason {
        return Err(ConfigurationError::RevocationReason(code).into());
    }
    payload(&Revocation::new(certificate.as_ref(), reason))
}

async fn revoke_cert(client: &Client) -> Result<Url, Error> {
    client.session().resource(Resource::RevokeCert).await
}

async fn revoke(client: &Client, request: SignedRequest<'_>) -> Result<(), Error> {
    let request = SignedRequest {
        repeat: true,
        ..request
    };
    match client.session().post(&request).await {
        Ok(_) => Ok(()),
        // It is what was asked for; and after a lost reply, it is the answer.
        Err(error) if error.is(&ProblemType::AlreadyRevoked) => {
            debug!("the certificate is revoked already");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
