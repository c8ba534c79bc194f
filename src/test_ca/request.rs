//! What RFC 8555 §6 demands of each POST, checked in Boulder's order: the algorithm, the signature,
//! the nonce, the URL, and last the payload.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ca::Ca;
use super::log::Arrival;
use super::reply::Refusal;
use super::route::Route;
use crate::jose::{Header, InvalidJws, Jwk, Jws, SignatureAlgorithm, SignatureFault};
use crate::protocol::{AccountStatus, Base64Url, Problem, ProblemType};

/// A POST as it came.
#[derive(Debug)]
pub(super) struct Post<'a> {
    pub(super) url: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Bytes,
    pub(super) arrival: &'a Arrival<'a>,
    /// Whether a good nonce is refused all the same.
    pub(super) refuses_nonce: bool,
}

/// What a POST says, once it has passed all checks.
#[derive(Debug)]
pub(super) struct Payload(Vec<u8>);

impl Payload {
    /// Whether the request is a POST-as-GET (§6.3).
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn expect_empty(&self) -> Result<(), Refusal> {
        match self.is_empty() {
            true => Ok(()),
            false => Err(Refusal::malformed(
                "a POST-as-GET must have an empty payload",
            )),
        }
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.0)
            .map_err(|error| Refusal::malformed(format!("the payload is malformed: {error}")))
    }
}

/// Who signed a request.
#[derive(Debug)]
pub(super) enum SignedBy {
    Account(u64),
    Key(Jwk),
}

impl Ca {
    /// Checks a request that the key of an account must have signed. Gives the account's number.
    pub(super) fn verify_by_account(&self, post: &Post<'_>) -> Result<(u64, Payload), Refusal> {
        match self.verify(post)? {
            (SignedBy::Account(account), payload) => Ok((account, payload)),
            (SignedBy::Key(_), _) => Err(Refusal::malformed(
                "the JWS must name the account by `kid`, not hold a `jwk`",
            )),
        }
    }

    /// Checks a request that holds the key that signed it.
    pub(super) fn verify_by_key(&self, post: &Post<'_>) -> Result<(Jwk, Payload), Refusal> {
        match self.verify(post)? {
            (SignedBy::Key(key), payload) => Ok((key, payload)),
            (SignedBy::Account(_), _) => {
                Err(Refusal::malformed("the JWS must hold a `jwk`, not a `kid`"))
            }
        }
    }

    /// Checks a request that an account, or the key that it holds, may have signed.
    pub(super) fn verify(&self, post: &Post<'_>) -> Result<(SignedBy, Payload), Refusal> {
        let (jws, header) = read(post)?;
        let (signer, key) = match (&header.jwk, &header.kid) {
            (Some(key), None) => (SignedBy::Key(key.clone()), key.clone()),
            (None, Some(kid)) => {
                let (account, key) = self.account_key(kid)?;
                (SignedBy::Account(account), key)
            }
            _ => {
                return Err(Refusal::malformed(
                    "the protected header must have either a `jwk` or a `kid`",
                ));
            }
        };
        verify_signature(&jws, &header, &key)?;

        let nonce = header.nonce.as_deref().unwrap_or_default();
        if !self.nonces().redeem(nonce) || post.refuses_nonce {
            return Err(Refusal::new(
                ProblemType::BadNonce,
                "the JWS has an invalid anti-replay nonce",
            ));
        }

        // §6.4: octet for octet.
        if header.url != post.url {
            return Err(Refusal::malformed(format!(
                "the JWS is for `{}`, but was sent to `{}`",
                header.url, post.url
            )));
        }

        let payload = jws
            .payload()
            .map_err(|error| Refusal::malformed(error.to_string()))?;
        Ok((signer, Payload(payload)))
    }

    fn account_key(&self, kid: &str) -> Result<(u64, Jwk), Refusal> {
        let route = kid.strip_prefix(self.base()).and_then(Route::parse);
        let Some(Route::Account(id)) = route else {
            return Err(Refusal::malformed("the `kid` is not the URL of an account"));
        };
        let state = self.state();
        let account = state.accounts.get(id).ok_or_else(|| {
            Refusal::new(
                ProblemType::AccountDoesNotExist,
                "the account that `kid` names does not exist",
            )
        })?;
        match account.object.status {
            AccountStatus::Valid => Ok((id, account.key.clone())),
            _ => Err(Refusal::unauthorized("the account is not valid")),
        }
    }
}

pub(super) fn verify_signature(jws: &Jws, header: &Header, key: &Jwk) -> Result<(), Refusal> {
    jws.verify(key).map_err(|error| match error {
        InvalidJws::Signature(SignatureFault::NoProvider) => Refusal::internal(error),
        InvalidJws::Signature(SignatureFault::Unsupported) => bad_algorithm(&header.alg),
        _ => Refusal::malformed(error.to_string()),
    })
}

/// Reads the form of a POST; no key is needed for that.
pub(super) fn read(post: &Post<'_>) -> Result<(Jws, Header), Refusal> {
    let content_type = post.headers.get(header::CONTENT_TYPE);
    if content_type.is_none_or(|value| value != "application/jose+json") {
        return Err(
            Refusal::malformed("the content type must be `application/jose+json`")
                .status(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        );
    }
    // The client mistook a header of replies for one of requests.
    if post.headers.contains_key("replay-nonce") {
        return Err(Refusal::malformed(
            "requests must not have a `Replay-Nonce` header",
        ));
    }

    let jws: Jws = serde_json::from_slice(&post.body)
        .map_err(|error| Refusal::malformed(format!("the body is no flattened JWS: {error}")))?;
    post.arrival.note(|request| {
        request.payload = jws
            .payload()
            .ok()
            .and_then(|payload| serde_json::from_slice(&payload).ok());
    });

    let header = read_header(&jws)?;
    post.arrival.note(|request| {
        request.nonce.clone_from(&header.nonce);
        request.kid.clone_from(&header.kid);
    });
    Ok((jws, header))
}

/// Reads the protected header. What is wrong with its algorithm or key has problem types of its
/// own, so these two are looked at before the rest.
pub(super) fn read_header(jws: &Jws) -> Result<Header, Refusal> {
    let malformed = |detail: String| Refusal::malformed(detail);
    let json = Base64Url::decode(&jws.protected)
        .map_err(|error| malformed(format!("the protected header is {error}")))?;
    let members: Map<String, Value> = serde_json::from_slice(json.as_bytes())
        .map_err(|error| malformed(format!("the protected header is malformed: {error}")))?;

    let algorithm = members.get("alg").and_then(Value::as_str);
    let algorithm = SignatureAlgorithm::from(algorithm.unwrap_or_default());
    if !ALGORITHMS.contains(&algorithm) {
        return Err(bad_algorithm(&algorithm));
    }
    if let Some(jwk) = members.get("jwk") {
        serde_json::from_value::<Jwk>(jwk.clone()).map_err(|error| {
            Refusal::new(
                ProblemType::BadPublicKey,
                format!("the `jwk` can't be used: {error}"),
            )
        })?;
    }
    jws.header().map_err(|error| malformed(error.to_string()))
}

fn bad_algorithm(algorithm: &SignatureAlgorithm) -> Refusal {
    let mut problem = Problem::new(
        ProblemType::BadSignatureAlgorithm,
        format!("the algorithm `{algorithm}` is not supported, or not with this key"),
    );
    // §6.2: the problem document MUST list the algorithms that are supported.
    problem.algorithms = ALGORITHMS.map(|algorithm| algorithm.to_string()).into();
    Refusal::with_problem(StatusCode::BAD_REQUEST, problem)
}

const ALGORITHMS: [SignatureAlgorithm; 5] = [
    SignatureAlgorithm::Es256,
    SignatureAlgorithm::Es384,
    SignatureAlgorithm::Es512,
    SignatureAlgorithm::Rs256,
    SignatureAlgorithm::EdDsa,
];
