use std::collections::BTreeSet;

use der::asn1::{AnyRef, BitString, ObjectIdentifier, SetOfVec};
use der::oid::AssociatedOid;
use der::{Decode, Encode};
use rustls_pki_types::CertificateSigningRequestDer;
use thiserror::Error;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq, Version};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::CertificateKey;
use super::names::{self, list};
use crate::jose::{SignatureAlgorithm, SignatureFault, verify_signature};
use crate::protocol::{Identifier, printable};

/// A certificate signing request (PKCS#10, RFC 2986), as finalize sends it (RFC 8555 §7.4).
///
/// ```
/// use certwright::protocol::Identifiers;
/// use certwright::x509::{CertificateKey, Csr};
///
/// let key = CertificateKey::generate()?;
/// let identifiers = Identifiers::collect(["example.com", "192.0.2.1"])?;
/// let csr = Csr::new(&key, &identifiers)?;
/// assert_eq!(csr.identifiers().len(), 2);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Csr {
    der: CertificateSigningRequestDer<'static>,
    identifiers: BTreeSet<Identifier>,
    public_key_info: Vec<u8>,
}

impl Csr {
    /// Makes a request for a key and these names: all of them as subject alternative names, with an
    /// empty subject, which is what CAs want of requests today.
    pub fn new<'a>(
        key: &CertificateKey,
        identifiers: impl IntoIterator<Item = &'a Identifier>,
    ) -> Result<Self, InvalidCsr> {
        let mut general_names = Vec::new();
        let mut requested = BTreeSet::new();
        for identifier in identifiers {
            let name = names::general_name(identifier)
                .ok_or_else(|| InvalidCsr::Identifier(identifier.to_string()))?;
            general_names.push(name);
            requested.insert(identifier.clone());
        }

        // §4.2.1.6 of RFC 5280: where the subject is empty, the names are critical.
        let extension = SubjectAltName(general_names).to_extension(&Name::default(), &[])?;
        let info = CertReqInfo {
            version: Version::V1,
            subject: Name::default(),
            public_key: SubjectPublicKeyInfoOwned::from_der(key.public_key_info())?,
            attributes: SetOfVec::try_from([ExtensionReq(vec![extension]).try_into()?])?,
        };
        let signature = key
            .private()
            .sign_for_x509(&info.to_der()?)
            .map_err(|error| InvalidCsr::Encoding(error.to_string()))?;
        let request = CertReq {
            info,
            algorithm: signature_algorithm(&key.private().algorithm())?,
            signature: BitString::from_bytes(&signature)?,
        };
        Ok(Self {
            der: request.to_der()?.into(),
            identifiers: requested,
            public_key_info: key.public_key_info().to_vec(),
        })
    }

    /// Reads a request that was made elsewhere, and verifies its signature.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCsr> {
        let request = CertReq::from_der(der)?;
        let key = &request.info.public_key;
        verify_signature(
            &algorithm_id(&key.algorithm)?,
            &algorithm_id(&request.algorithm)?,
            key.subject_public_key.raw_bytes(),
            &request.info.to_der()?,
            request.signature.raw_bytes(),
        )
        .map_err(InvalidCsr::Signature)?;
        Self::read(&request, der.to_vec())
    }

    /// The request in DER.
    pub fn der(&self) -> &CertificateSigningRequestDer<'static> {
        &self.der
    }

    /// The names it asks for: the subject alternative names, and a common name that is not among
    /// them.
    pub fn identifiers(&self) -> &BTreeSet<Identifier> {
        &self.identifiers
    }

    /// Checks that the request names exactly these identifiers, as RFC 8555 §7.4 demands.
    pub(crate) fn check_identifiers(&self, identifiers: &[Identifier]) -> Result<(), InvalidCsr> {
        let wanted: BTreeSet<_> = identifiers.iter().cloned().collect();
        match wanted == self.identifiers {
            true => Ok(()),
            false => Err(InvalidCsr::OtherNames {
                missing: wanted.difference(&self.identifiers).cloned().collect(),
                unwanted: self.identifiers.difference(&wanted).cloned().collect(),
            }),
        }
    }

    /// The public key as a DER `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    pub fn public_key_info(&self) -> &[u8] {
        &self.public_key_info
    }

    fn read(request: &CertReq, der: Vec<u8>) -> Result<Self, InvalidCsr> {
        let mut identifiers = BTreeSet::new();
        for attribute in request.info.attributes.iter() {
            // An attribute of another kind is the CA's affair.
            if attribute.oid != ExtensionReq::OID {
                continue;
            }
            for value in attribute.values.iter() {
                let extensions: Vec<Extension> = value.decode_as()?;
                let alternative = extensions
                    .iter()
                    .filter(|extension| extension.extn_id == SubjectAltName::OID);
                for extension in alternative {
                    let alternative = SubjectAltName::from_der(extension.extn_value.as_bytes())?;
                    identifiers.extend(alternative.0.iter().map(names::identifier));
                }
            }
        }
        if let Ok(Some(common_name)) = request.info.subject.common_name() {
            let name = common_name.value();
            let identifier = name
                .parse()
                .map_err(|_| InvalidCsr::Identifier(name.into_owned()))?;
            identifiers.insert(identifier);
        }

        Ok(Self {
            der: der.into(),
            identifiers,
            public_key_info: request.info.public_key.to_der()?,
        })
    }
}

/// How X.509 calls an algorithm (RFC 5758 §3.2, RFC 4055 §5, RFC 8410 §3).
pub(super) fn signature_algorithm(
    algorithm: &SignatureAlgorithm,
) -> Result<AlgorithmIdentifierOwned, InvalidCsr> {
    let (oid, parameters) = match algorithm {
        SignatureAlgorithm::Es256 => ("1.2.840.10045.4.3.2", None),
        SignatureAlgorithm::Es384 => ("1.2.840.10045.4.3.3", None),
        SignatureAlgorithm::Rs256 => ("1.2.840.113549.1.1.11", Some(AnyRef::NULL.into())),
        SignatureAlgorithm::EdDsa => ("1.3.101.112", None),
        other => {
            let fault = format!("no certificate is requested by {other}");
            return Err(InvalidCsr::Encoding(fault));
        }
    };
    Ok(AlgorithmIdentifierOwned {
        oid: ObjectIdentifier::new(oid).map_err(der::Error::from)?,
        parameters,
    })
}

/// The content of an `AlgorithmIdentifier`, without its own tag and length.
pub(super) fn algorithm_id(algorithm: &AlgorithmIdentifierOwned) -> der::Result<Vec<u8>> {
    let mut id = algorithm.oid.to_der()?;
    if let Some(parameters) = &algorithm.parameters {
        parameters.encode_to_vec(&mut id)?;
    }
    Ok(id)
}

/// A certificate signing request that can't be made or read.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum InvalidCsr {
    /// Its key is that of the account. CAs refuse it, as who gets hold of the one would have the
    /// other (RFC 8555 §11.1).
    #[error("the CSR's key is the account's own, which no certificate may have (RFC 8555 §11.1)")]
    AccountKey,
    /// It breaks PKCS#10.
    #[error("the CSR is malformed: {0}")]
    Der(#[from] der::Error),
    /// It could not be encoded.
    #[error("the CSR could not be made: {0}")]
    Encoding(String),
    /// A name in it has no place in a certificate for a server.
    #[error("the CSR can't hold the name `{}`", printable(.0))]
    Identifier(String),
    /// It names other identifiers than the order.
    #[error(
        "the CSR does not fit the order: it lacks {}, and has beyond it {}",
        list(.missing),
        list(.unwanted)
    )]
    OtherNames {
        /// Those of the order that are not in the CSR.
        missing: Vec<Identifier>,
        /// Those in the CSR that are not of the order.
        unwanted: Vec<Identifier>,
    },
    /// Its signature, by which the holder shows to have the key, is wrong.
    #[error("the CSR's signature does not verify: {0}")]
    Signature(SignatureFault),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Identifiers;

    #[test]
    fn round_trips() {
        let key = CertificateKey::generate().unwrap();
        let identifiers =
            Identifiers::collect(["*.example.com", "example.com", "192.0.2.1", "2001:db8::1"])
                .unwrap();
        let made = Csr::new(&key, &identifiers).unwrap();
        let read = Csr::from_der(made.der()).unwrap();
        assert_eq!(read.identifiers(), &identifiers.iter().cloned().collect());
        assert_eq!(read.public_key_info(), key.public_key_info());

        let request = CertReq::from_der(made.der()).unwrap();
        assert!(request.info.subject.is_empty());
    }

    #[test]
    fn refuses() {
        let key = CertificateKey::generate().unwrap();
        let made = Csr::new(&key, &Identifiers::collect(["example.com"]).unwrap()).unwrap();
        let mut forged = made.der().to_vec();
        let position = forged
            .windows(7)
            .position(|octets| octets == b"example")
            .unwrap();
        forged[position] = b'E';
        assert!(matches!(
            Csr::from_der(&forged),
            Err(InvalidCsr::Signature(SignatureFault::Wrong))
        ));
        assert!(matches!(Csr::from_der(b""), Err(InvalidCsr::Der(_))));

        let other: Identifier =
            serde_json::from_str(r#"{"type":"email","value":"a@example.com"}"#).unwrap();
        assert!(matches!(
            Csr::new(&key, [&other]),
            Err(InvalidCsr::Identifier(_))
        ));
    }
}
