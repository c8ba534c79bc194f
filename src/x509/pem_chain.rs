//! The PEM of a certificate chain, read as strictly as RFC 8555 §11.4 demands and as leniently as
//! CAs need it (RFC 8555 §9.1).

use base64ct::{Base64, Encoding};

use super::{CertificateChain, InvalidChain};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// The DER of each certificate, in the order of the text.
///
/// CRLF, blank lines, spaces at the end of a line and a missing last newline are tolerated. Any
/// other text, and any block that is no certificate, is refused: what follows may write the text to
/// a file that another program trusts.
pub(super) fn parse(text: &str) -> Result<Vec<Vec<u8>>, InvalidChain> {
    let mut certificates = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines().map(str::trim_end) {
        let Some(body) = &mut block else {
            if line.is_empty() {
                continue;
            }
            match label(line, BEGIN).ok_or(InvalidChain::Text)? {
                "CERTIFICATE" => block = Some(String::new()),
                other => return Err(InvalidChain::Label(other.to_owned())),
            }
            continue;
        };

        if !line.starts_with(END) {
            // A header, as of a key that is encrypted.
            if line.contains(':') {
                return Err(InvalidChain::Text);
            }
            body.push_str(line);
            continue;
        }
        if label(line, END) != Some("CERTIFICATE") {
            return Err(InvalidChain::Base64);
        }
        if certificates.len() == CertificateChain::MAX_LENGTH {
            return Err(InvalidChain::TooLong);
        }
        certificates.push(Base64::decode_vec(body).map_err(|_| InvalidChain::Base64)?);
        block = None;
    }
    match block {
        Some(_) => Err(InvalidChain::Truncated),
        None if certificates.is_empty() => Err(InvalidChain::Empty),
        None => Ok(certificates),
    }
}

/// What a line that begins or ends a block says that it is (RFC 7468 §3).
fn label<'a>(line: &'a str, begin: &str) -> Option<&'a str> {
    line.strip_prefix(begin)?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\nBAUG\n-----END CERTIFICATE-----\n";

    #[test]
    fn tolerates() {
        let plain = format!("{ONE}{TWO}");
        for text in [
            plain.clone(),
            plain.replace('\n', "\r\n"),
            format!("\n\n{ONE}\n\r\n{TWO}\n"),
            plain.trim_end().to_owned(),
            plain.replace('\n', " \n"),
        ] {
            assert_eq!(
                parse(&text).unwrap(),
                [vec![1, 2, 3], vec![4, 5, 6]],
                "{text:?}"
            );
        }
    }

    #[test]
    fn refuses() {
        let key = ONE.replace("CERTIFICATE", "PRIVATE KEY");
        for (text, expected) in [
            (String::new(), "no certificate"),
            ("\n \n".into(), "no certificate"),
            (format!("subject=CN = x\n{ONE}"), "text"),
            (format!("{ONE}trailing"), "text"),
            (format!("{ONE}{key}"), "PRIVATE KEY"),
            (key.clone(), "PRIVATE KEY"),
            (ONE.replace("AQID", "A*ID"), "base64"),
            (ONE.replace("AQID", "AQI"), "base64"),
            (ONE.replace("END CERTIFICATE", "END X"), "base64"),
            (
                ONE.replace("AQID", "Proc-Type: 4,ENCRYPTED\n\nAQID"),
                "text",
            ),
            ("-----BEGIN CERTIFICATE-----\nAQID\n".into(), "ends within"),
            ("-----BEGIN CERTIFICATE-----".into(), "ends within"),
            ("<html></html>".into(), "text"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
