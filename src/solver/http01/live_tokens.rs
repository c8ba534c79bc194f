use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use super::Http01Error;
use crate::jose::KeyAuthorization;
use crate::protocol::Token;
use crate::solver::Presentation;

/// The tokens that are being presented, each with its key authorization.
///
/// Presentations are counted, because the same one is made by two orders that share a pending
/// authorization (RFC 8555 §7.4), and because some CAs give all challenges of an account one token.
///
/// No method leaves the map half changed, so a lock poisoned by a panic elsewhere is good to use.
#[derive(Default)]
pub(super) struct LiveTokens(RwLock<HashMap<Token, Live>>);

impl LiveTokens {
    /// Counts a presentation, and makes its token live if it is the first.
    pub(super) fn add(&self, presentation: &Presentation) -> Result<(), Http01Error> {
        let (Some(token), Some(key_authorization)) =
            (presentation.token(), presentation.key_authorization())
        else {
            return Err(Http01Error::NoToken);
        };

        let mut tokens = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match tokens.entry(token.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Live {
                    key_authorization: key_authorization.clone(),
                    presentations: 1,
                });
            }
            Entry::Occupied(mut live) if live.get().key_authorization == *key_authorization => {
                live.get_mut().presentations += 1;
            }
            Entry::Occupied(_) => {
                return Err(Http01Error::TokenInUse {
                    token: token.clone(),
                });
            }
        }
        Ok(())
    }

    /// Takes back a presentation; with the last one of its token, the token is live no longer.
    ///
    /// A presentation that [`add`](Self::add) refused is not counted, so that taking it back leaves
    /// the other account's alone.
    pub(super) fn remove(&self, presentation: &Presentation) {
        let Some(token) = presentation.token() else {
            return;
        };

        let mut tokens = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(live) = tokens.get_mut(token) else {
            return;
        };
        if Some(&live.key_authorization) != presentation.key_authorization() {
            return;
        }
        live.presentations -= 1;
        if live.presentations == 0 {
            tokens.remove(token);
        }
    }

    /// The key authorization of a token, if it is live.
    pub(super) fn key_authorization(&self, token: &Token) -> Option<KeyAuthorization> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .map(|live| live.key_authorization.clone())
    }
}

impl fmt::Debug for LiveTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set()
            .entries(tokens.keys().map(Token::as_str))
            .finish()
    }
}

struct Live {
    key_authorization: KeyAuthorization,
    /// Never 0: the entry goes with its last presentation.
    presentations: usize,
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn stays_live_until_the_last_presentation_is_taken_back() {
        let tokens = LiveTokens::default();
        let presentation = presentation(TOKEN, &thumbprint());
        let token = presentation.token().unwrap();

        tokens.add(&presentation).unwrap();
        tokens.add(&presentation).unwrap();
        tokens.remove(&presentation);
        assert_eq!(
            tokens.key_authorization(token).as_ref(),
            presentation.key_authorization()
        );
        tokens.remove(&presentation);
        assert_eq!(tokens.key_authorization(token), None);
        tokens.remove(&presentation);
        assert_eq!(tokens.key_authorization(token), None);
    }

    #[test]
    fn leaves_the_token_of_another_account_alone() {
        let tokens = LiveTokens::default();
        let [ours, theirs] = [thumbprint(), thumbprint()].map(|key| presentation(TOKEN, &key));

        tokens.add(&ours).unwrap();
        let error = tokens.add(&theirs).unwrap_err();
        assert!(matches!(error, Http01Error::TokenInUse { .. }), "{error}");
        tokens.remove(&theirs);
        assert_eq!(
            tokens.key_authorization(ours.token().unwrap()).as_ref(),
            ours.key_authorization()
        );
    }

    #[test]
    fn refuses_a_challenge_without_token() {
        let tokens = LiveTokens::default();
        let presentation = presentation_of(None, &thumbprint());
        assert!(matches!(
            tokens.add(&presentation),
            Err(Http01Error::NoToken)
        ));
        tokens.remove(&presentation);
    }

    #[test]
    fn survives_a_poisoned_lock() {
        let tokens = LiveTokens::default();
        let presentation = presentation(TOKEN, &thumbprint());
        tokens.add(&presentation).unwrap();
        std::thread::scope(|scope| {
            let panicked = scope.spawn(|| {
                let _guard = tokens.0.write();
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(panicked.join().is_err());
        });
        assert!(tokens.0.is_poisoned());
        tokens.remove(&presentation);
        assert_eq!(
            tokens.key_authorization(presentation.token().unwrap()),
            None
        );
    }

    #[test]
    fn shows_tokens_only() {
        let tokens = LiveTokens::default();
        tokens.add(&presentation(TOKEN, &thumbprint())).unwrap();
        assert_eq!(format!("{tokens:?}"), format!("{{{TOKEN:?}}}"));
    }
}
