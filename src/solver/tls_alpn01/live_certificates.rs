use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use super::TlsAlpn01Error;
use crate::jose::{InvalidKey, KeyAuthorization};
use crate::provider::crypto_provider;
use crate::solver::Presentation;
use crate::x509::{AcmeCertificate, InvalidAcmeCertificate};

/// The certificates that are being presented, by the name that the CA asks for (SNI).
///
/// The CA tells neither account nor token when it asks, so of several orders for one identifier only
/// one can be answered: that which was presented last, and once it is over, the one before it.
///
/// No method leaves the map half changed, so a lock poisoned by a panic elsewhere is good to use.
#[derive(Default)]
pub(super) struct LiveCertificates(RwLock<HashMap<String, Vec<Live>>>);

impl LiveCertificates {
    /// Makes the certificate of a challenge, and has it answer from now on.
    pub(super) fn add(
        &self,
        presentation: &Presentation,
        now: SystemTime,
    ) -> Result<(), TlsAlpn01Error> {
        let key_authorization = presentation
            .key_authorization()
            .ok_or(TlsAlpn01Error::NoToken)?;
        let identifier = presentation.identifier();
        let certificate = AcmeCertificate::new(identifier, key_authorization, now)?;
        let live = Live {
            key_authorization: key_authorization.clone(),
            certified_key: Arc::new(certified_key(&certificate)?),
        };
        let name = AcmeCertificate::server_name(identifier)
            .ok_or_else(|| InvalidAcmeCertificate::Identifier(identifier.clone()))?;

        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.entry(name).or_default().push(live);
        Ok(())
    }

    /// Takes back a presentation, and leaves all others.
    ///
    /// Equal ones, of two orders that share a pending authorization (RFC 8555 §7.4), are counted: the
    /// challenge is answered until the last of them is taken back.
    pub(super) fn remove(&self, presentation: &Presentation) {
        let Some(name) = AcmeCertificate::server_name(presentation.identifier()) else {
            return;
        };
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(live) = names.get_mut(&name) else {
            return;
        };
        let ours = live
            .iter()
            .position(|live| Some(&live.key_authorization) == presentation.key_authorization());
        if let Some(ours) = ours {
            live.remove(ours);
        }
        if live.is_empty() {
            names.remove(&name);
        }
    }

    /// What answers for a name, in lower case.
    pub(super) fn certified_key(&self, server_name: &str) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(server_name)
            .and_then(|live| live.last())
            .map(|live| Arc::clone(&live.certified_key))
    }
}

impl fmt::Debug for LiveCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(names.keys()).finish()
    }
}

struct Live {
    key_authorization: KeyAuthorization,
    certified_key: Arc<CertifiedKey>,
}

fn certified_key(certificate: &AcmeCertificate) -> Result<CertifiedKey, TlsAlpn01Error> {
    let unusable = |error: InvalidKey| InvalidAcmeCertificate::from(error);
    let key = certificate.key().to_private_key_der().map_err(unusable)?;
    let key = crypto_provider()
        .ok_or(TlsAlpn01Error::NoProvider)?
        .key_provider
        .load_private_key(key)
        .map_err(TlsAlpn01Error::Key)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::protocol::Identifier;

    /// Whether the certificate that answers for a name is that of a presentation.
    fn answers(live: &LiveCertificates, name: &str, presentation: &Presentation) -> bool {
        let found = live.certified_key(name).unwrap();
        let [certificate] = &found.cert[..] else {
            panic!("{} certificates", found.cert.len());
        };
        let identifier: &Identifier = presentation.identifier();
        let expected = presentation.key_authorization().unwrap();
        AcmeCertificate::check(certificate, identifier, expected).is_ok()
    }

    fn add(live: &LiveCertificates, presentation: &Presentation) {
        live.add(presentation, SystemTime::now()).unwrap();
    }

    #[test]
    fn answers_by_name_until_taken_back() {
        let live = LiveCertificates::default();
        for (name, asked) in [
            ("Example.com", "example.com"),
            ("127.0.0.1", "1.0.0.127.in-addr.arpa"),
        ] {
            let presentation = presentation(name);
            add(&live, &presentation);
            assert!(answers(&live, asked, &presentation));
            assert!(live.certified_key("other.example").is_none());
            assert!(live.certified_key(&format!("www.{asked}")).is_none());
            live.remove(&presentation);
            assert!(live.certified_key(asked).is_none());
            // As after a `present` that never ran.
            live.remove(&presentation);
        }
        assert_eq!(format!("{live:?}"), "{}");
    }

    #[test]
    fn the_latest_wins_and_cleaning_one_leaves_the_other() {
        let name = "example.com";
        for first_goes_first in [true, false] {
            let live = LiveCertificates::default();
            let [first, second] = [presentation(name), presentation(name)];
            add(&live, &first);
            add(&live, &second);
            assert!(answers(&live, name, &second));
            let (goes, stays) = match first_goes_first {
                true => (&first, &second),
                false => (&second, &first),
            };
            live.remove(goes);
            assert!(answers(&live, name, stays));
            live.remove(goes);
            assert!(answers(&live, name, stays));
            live.remove(stays);
            assert!(live.certified_key(name).is_none());
        }
    }

    #[test]
    fn equal_presentations_are_counted() {
        let live = LiveCertificates::default();
        let presentation = presentation("example.com");
        add(&live, &presentation);
        add(&live, &presentation);
        live.remove(&presentation);
        assert!(answers(&live, "example.com", &presentation));
        live.remove(&presentation);
        assert!(live.certified_key("example.com").is_none());
    }

    #[test]
    fn refuses_what_has_no_answer() {
        let live = LiveCertificates::default();
        let now = SystemTime::now();
        let tokenless = presentation_of("example.com", None, &thumbprint());
        assert!(matches!(
            live.add(&tokenless, now),
            Err(TlsAlpn01Error::NoToken)
        ));
        let wildcard = presentation("*.example.com");
        assert!(matches!(
            live.add(&wildcard, now),
            Err(TlsAlpn01Error::Certificate(
                InvalidAcmeCertificate::Identifier(_)
            ))
        ));
        for refused in [tokenless, wildcard] {
            live.remove(&refused);
        }
    }

    #[test]
    fn survives_a_poisoned_lock() {
        let live = LiveCertificates::default();
        let presentation = presentation("example.com");
        add(&live, &presentation);
        std::thread::scope(|scope| {
            let panicked = scope.spawn(|| {
                let _guard = live.0.write();
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(panicked.join().is_err());
        });
        assert!(live.0.is_poisoned());
        assert_eq!(format!("{live:?}"), r#"{"example.com"}"#);
        live.remove(&presentation);
        assert!(live.certified_key("example.com").is_none());
    }
}
