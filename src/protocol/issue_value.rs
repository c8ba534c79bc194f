use thiserror::Error;

use super::printable;

/// Which CA may issue, and under which conditions: the value of CAA's `issue` and its relatives
/// (RFC 8659 §4.2), and of dns-persist-01's record.
///
/// ```
/// use certwright::protocol::IssueValue;
///
/// let value = IssueValue::parse("ca.example; accounturi=https://ca.example/acct/1")?;
/// assert_eq!(value.issuer(), Some("ca.example"));
/// assert_eq!(value.parameter("accounturi"), Some("https://ca.example/acct/1"));
/// # Ok::<_, certwright::protocol::InvalidIssueValue>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssueValue {
    issuer: Option<String>,
    parameters: Vec<(String, String)>,
}

impl IssueValue {
    /// The parameter that ties permission to one account (RFC 8657 §3).
    pub const ACCOUNT_URI: &str = "accounturi";

    /// The parameter that ties permission to types of challenge (RFC 8657 §4).
    pub const VALIDATION_METHODS: &str = "validationmethods";

    /// Reads a value by the grammar of RFC 8659 §4.2.
    ///
    /// A CA takes a value that breaks the grammar as one that allows nobody.
    pub fn parse(text: &str) -> Result<Self, InvalidIssueValue> {
        let refuse = |fault| InvalidIssueValue {
            text: text.chars().take(InvalidIssueValue::MOST_TEXT).collect(),
            fault,
        };
        let (issuer, parameters) = match text.split_once(';') {
            Some((issuer, parameters)) => (issuer, blank_trimmed(parameters)),
            None => (text, ""),
        };
        let issuer = blank_trimmed(issuer);
        if !issuer.is_empty() && !issuer.split('.').all(is_label) {
            return Err(refuse(IssueValueFault::Issuer));
        }
        // A semicolon parts parameters, so that none may be at their end.
        let parts = match parameters {
            "" => Vec::new(),
            parameters => parameters.split(';').collect(),
        };
        let parameters = parts.into_iter().map(|part| {
            let (tag, value) = part
                .split_once('=')
                .ok_or_else(|| refuse(IssueValueFault::Parameter))?;
            let (tag, value) = (blank_trimmed(tag), blank_trimmed(value));
            match is_label(tag) && value.bytes().all(|octet| octet.is_ascii_graphic()) {
                true => Ok((tag.to_owned(), value.to_owned())),
                false => Err(refuse(IssueValueFault::Parameter)),
            }
        });
        Ok(Self {
            issuer: (!issuer.is_empty()).then(|| issuer.to_ascii_lowercase()),
            parameters: parameters.collect::<Result<_, _>>()?,
        })
    }

    /// The CA's domain name, in lower case. `None` allows no CA at all.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Tags and values, in their order. A tag may be there twice, and its case means nothing.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// The value of the first parameter with a tag, whose case means nothing.
    pub fn parameter(&self, tag: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        parameters
            .find(|(known, _)| known.eq_ignore_ascii_case(tag))
            .map(|(_, value)| value.as_str())
    }

    /// The types of challenge that it allows, where it names any (RFC 8657 §4).
    pub fn validation_methods(&self) -> Option<Vec<&str>> {
        let methods = self.parameter(Self::VALIDATION_METHODS)?;
        Some(methods.split(',').collect())
    }

    /// The first tag that is there twice, which RFC 8657 §3 and dns-persist-01 forbid.
    pub fn repeated_tag(&self) -> Option<&str> {
        let tags: Vec<_> = self.parameters.iter().map(|(tag, _)| tag).collect();
        let mut rest = tags.as_slice();
        while let [tag, others @ ..] = rest {
            if others.iter().any(|other| other.eq_ignore_ascii_case(tag)) {
                return Some(tag);
            }
            rest = others;
        }
        None
    }
}

/// A value that breaks the grammar of RFC 8659 §4.2.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{}` does not say who may issue: {fault}", printable(.text))]
#[non_exhaustive]
pub struct InvalidIssueValue {
    /// The value, cut to its first 512 characters.
    pub text: String,
    /// What is wrong with it.
    pub fault: IssueValueFault,
}

impl InvalidIssueValue {
    const MOST_TEXT: usize = 512;
}

/// What is wrong with an [`IssueValue`].
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum IssueValueFault {
    /// What is before the first semicolon is no domain name.
    #[error("what is before the first semicolon is no domain name")]
    Issuer,
    /// A parameter is not of the form `tag=value`, or a semicolon is at the end.
    #[error("a parameter is not of the form tag=value, or a semicolon is at the end")]
    Parameter,
}

fn blank_trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Letters, digits, and hyphens between them.
fn is_label(text: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_grammar_allows() {
        for (text, issuer, parameters) in [
            ("ca.example", Some("ca.example"), vec![]),
            ("  CA.example ", Some("ca.example"), vec![]),
            ("", None, vec![]),
            (";", None, vec![]),
            ("ca.example;", Some("ca.example"), vec![]),
            ("; a=b", None, vec![("a", "b")]),
            (
                "ca.example; validationmethods=dns-01,http-01;\taccounturi = https://a.example/1=2 ",
                Some("ca.example"),
                vec![
                    ("validationmethods", "dns-01,http-01"),
                    ("accounturi", "https://a.example/1=2"),
                ],
            ),
            ("ca.example; a=", Some("ca.example"), vec![("a", "")]),
        ] {
            let value = IssueValue::parse(text).unwrap();
            assert_eq!(value.issuer(), issuer, "{text:?}");
            let found: Vec<_> = value
                .parameters()
                .iter()
                .map(|(t, v)| (&**t, &**v))
                .collect();
            assert_eq!(found, parameters, "{text:?}");
        }
    }

    #[test]
    fn refuses_what_it_does_not() {
        for (text, fault) in [
            ("ca example", IssueValueFault::Issuer),
            ("ca..example", IssueValueFault::Issuer),
            ("-ca.example", IssueValueFault::Issuer),
            ("ca.example a=b", IssueValueFault::Issuer),
            ("ca.example; a", IssueValueFault::Parameter),
            ("ca.example; a=b;", IssueValueFault::Parameter),
            ("ca.example;; a=b", IssueValueFault::Parameter),
            ("ca.example; =b", IssueValueFault::Parameter),
            ("ca.example; a=b c", IssueValueFault::Parameter),
            ("ca.example; a_b=c", IssueValueFault::Parameter),
            ("ca.example; a=é", IssueValueFault::Parameter),
        ] {
            assert_eq!(
                IssueValue::parse(text).unwrap_err().fault,
                fault,
                "{text:?}"
            );
        }
    }

    #[test]
    fn finds_tags_that_are_there_twice() {
        let repeated = |text: &str| {
            let value = IssueValue::parse(text).unwrap();
            value.repeated_tag().map(str::to_owned)
        };
        assert_eq!(repeated("ca.example; a=1; b=2"), None);
        assert_eq!(repeated("ca.example; a=1; b=2; A=3").as_deref(), Some("a"));
    }

    #[test]
    fn reads_the_methods() {
        let value = IssueValue::parse("ca.example; ValidationMethods=dns-01,ca-own").unwrap();
        assert_eq!(value.validation_methods(), Some(vec!["dns-01", "ca-own"]));
    }
}
