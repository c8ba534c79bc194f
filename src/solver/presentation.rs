use serde::{Deserialize, Serialize};

use crate::jose::{KeyAuthorization, Thumbprint};
use crate::protocol::{Challenge, Identifier, InvalidToken, Token, Url};

/// What a solver is asked to present: one challenge, and what answers it.
///
/// It can be stored by serde, and read again in another process or by a later version, so that what
/// was presented can be [taken away](super::ChallengeSolver::clean_up) there. It is no secret: all of
/// it but the account's URL is shown to whoever asks while the challenge is pending.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Presentation {
    identifier: Identifier,
    challenge: Challenge,
    account: Url,
    thumbprint: Thumbprint,
    answer: Option<(Token, KeyAuthorization)>,
}

impl Presentation {
    /// Brings together a challenge for an identifier and what the account answers.
    ///
    /// Fails where the challenge's token breaks the rules of RFC 8555 §8.1. So a solver never sees
    /// a token that it would have to check.
    pub fn new(
        identifier: Identifier,
        challenge: Challenge,
        account: Url,
        thumbprint: &Thumbprint,
    ) -> Result<Self, InvalidToken> {
        let answer = challenge.token()?.map(|token| {
            let key_authorization = KeyAuthorization::new(&token, thumbprint);
            (token, key_authorization)
        });
        Ok(Self {
            identifier,
            challenge,
            account,
            thumbprint: *thumbprint,
            answer,
        })
    }

    /// Whether both are the same answer to the same challenge, however that stands.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.challenge.url == other.challenge.url
            && self.identifier == other.identifier
            && self.answer == other.answer
            && self.thumbprint == other.thumbprint
    }

    /// The identifier to prove control of, a wildcard with its `*.`.
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// The challenge as the CA sent it, for types that need more than a token.
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// The account's URL.
    pub fn account(&self) -> &Url {
        &self.account
    }

    /// The thumbprint of the account's key (RFC 7638).
    pub fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// The token, of challenges that have one.
    pub fn token(&self) -> Option<&Token> {
        self.answer.as_ref().map(|(token, _)| token)
    }

    /// The key authorization (RFC 8555 §8.1), of challenges that have a token.
    pub fn key_authorization(&self) -> Option<&KeyAuthorization> {
        self.answer
            .as_ref()
            .map(|(_, key_authorization)| key_authorization)
    }
}

/// What is stored of a presentation: the rest comes of it, and is checked anew when it is read.
#[derive(Deserialize, Serialize)]
struct Stored {
    identifier: Identifier,
    challenge: Challenge,
    account: Url,
    thumbprint: Thumbprint,
}

impl TryFrom<Stored> for Presentation {
    type Error = InvalidToken;

    fn try_from(stored: Stored) -> Result<Self, InvalidToken> {
        Self::new(
            stored.identifier,
            stored.challenge,
            stored.account,
            &stored.thumbprint,
        )
    }
}

impl From<Presentation> for Stored {
    fn from(presentation: Presentation) -> Self {
        Self {
            identifier: presentation.identifier,
            challenge: presentation.challenge,
            account: presentation.account,
            thumbprint: presentation.thumbprint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str = r#"{"identifier":{"type":"dns","value":"*.example.com"},"challenge":{"type":"dns-01","url":"https://ca.example/chall/7","status":"pending","token":"DGyRejmCefe7v4NfDGDKfADGyRejmCef","hint":1},"account":"https://ca.example/acct/1","thumbprint":"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}"#;

    #[test]
    fn what_was_stored_can_be_read_by_later_versions() {
        let presentation: Presentation = serde_json::from_str(STORED).unwrap();
        assert_eq!(presentation.identifier().to_string(), "*.example.com");
        assert_eq!(
            presentation.key_authorization().unwrap().as_str(),
            "DGyRejmCefe7v4NfDGDKfADGyRejmCef.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
        assert_eq!(presentation.challenge().other["hint"], 1);
        assert_eq!(serde_json::to_string(&presentation).unwrap(), STORED);
    }

    #[test]
    fn a_challenge_without_token_is_stored_too() {
        let tokenless = STORED.replace(r#""token":"DGyRejmCefe7v4NfDGDKfADGyRejmCef","#, "");
        let presentation: Presentation = serde_json::from_str(&tokenless).unwrap();
        assert_eq!(presentation.token(), None);
        assert_eq!(presentation.key_authorization(), None);
        assert_eq!(serde_json::to_string(&presentation).unwrap(), tokenless);
    }

    #[test]
    fn what_was_tampered_with_is_refused() {
        for (part, other) in [
            (
                "DGyRejmCefe7v4NfDGDKfADGyRejmCef",
                "../../../../etc/passwd-0",
            ),
            ("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "NzbL"),
            ("https://ca.example/acct/1", "nothing"),
        ] {
            let text = STORED.replace(part, other);
            assert!(
                serde_json::from_str::<Presentation>(&text).is_err(),
                "{other}"
            );
        }
    }
}
