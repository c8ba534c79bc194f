//! Solvers for http-01 (RFC 8555 §8.3).

mod live_tokens;
mod responder;
mod self_check;
mod server;
mod webroot;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::protocol::Token;

pub use self::responder::{Http01Body, Http01Responder};
pub use self::self_check::{
    RedirectFault, SelfCheck, SelfCheckError, SelfCheckFailure, SelfCheckFault, SelfChecked,
};
pub use self::server::{Http01BindError, Http01Server};
pub use self::webroot::Http01Webroot;

/// Why an http-01 solver could not present a challenge, or take it away.
///
/// The solvers' [`BoxError`](crate::BoxError)s hold values of this type.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Http01Error {
    /// An operation on the file or directory failed.
    #[error("cannot {action} `{}`: {source}{}", .path.display(), write_hint(.source))]
    Io {
        /// What was tried, as in "cannot *write* …".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The challenge has no token, although http-01 demands one (RFC 8555 §8.3).
    #[error("the challenge has no token (RFC 8555 §8.3)")]
    NoToken,
    /// Something that is not a directory is where a directory must be.
    #[error(
        "`{}` is not a directory: give the one from which the web server serves files on port 80",
        .path.display()
    )]
    NotADirectory {
        /// What is not a directory.
        path: PathBuf,
    },
    /// Another file is where the key authorization must be.
    #[error(
        "`{}` exists and is not this key authorization: if it is left over, delete it",
        .path.display()
    )]
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// A symbolic link is in the way, and could lead a privileged process to write anywhere.
    #[error(
        "`{}` is a symbolic link, which is not followed: replace it, or let the solver write to \
         the directory behind it (Http01Webroot::from_challenge_directory)",
        .path.display()
    )]
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },
    /// The same token is live for another account key, so one of the two would get a wrong answer.
    #[error("the token `{token}` is being presented for another account key")]
    TokenInUse {
        /// The token.
        token: Token,
    },
}

fn write_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; the process's user needs write access there",
        _ => "",
    }
}

#[cfg(test)]
mod testing {
    use super::*;
    use crate::jose::{AccountKey, Signer, Thumbprint};
    use crate::protocol::{Challenge, ChallengeType, Url};
    use crate::solver::Presentation;

    pub(super) const TOKEN: &str = "DGyRejmCefe7v4NfDGDKfADGyRejmCef";

    pub(super) fn thumbprint() -> Thumbprint {
        AccountKey::generate().unwrap().public_key().thumbprint()
    }

    pub(super) fn presentation(token: &str, thumbprint: &Thumbprint) -> Presentation {
        presentation_of(Some(token), thumbprint)
    }

    pub(super) fn presentation_of(token: Option<&str>, thumbprint: &Thumbprint) -> Presentation {
        let url = |path: &str| Url::parse(&format!("https://ca.example/{path}")).unwrap();
        let challenge = Challenge::pending(
            ChallengeType::Http01,
            url("challenge/1"),
            token.map(str::to_owned),
        );
        Presentation::new(
            "example.com".parse().unwrap(),
            challenge,
            url("account/1"),
            thumbprint,
        )
        .unwrap()
    }

    /// A token of its own for each number.
    pub(super) fn numbered_token(number: usize) -> String {
        Token::parse(&format!("token-{number:026}"))
            .unwrap()
            .to_string()
    }
}
