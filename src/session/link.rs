use http::HeaderMap;
use http::header::LINK;

use super::limits;
use crate::protocol::Url;

/// The targets of a response's links with a relation (RFC 8288 §3), resolved against its URL.
///
/// A target that is no URL an ACME resource can have is passed over: a link helps, but no request
/// depends on one.
pub(crate) fn links(headers: &HeaderMap, relation: &str, base: &Url) -> Vec<Url> {
    targets(headers, relation)
        .filter_map(|target| base.join(target).ok())
        .collect()
}

/// The targets of a response's links with a relation, as they came: a page for people may be of any
/// scheme, which [`links`] would pass over.
pub(super) fn targets<'a>(
    headers: &'a HeaderMap,
    relation: &'a str,
) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter(|value| value.len() <= limits::LINK_LENGTH)
        .flat_map(parse)
        .take(limits::LINKS)
        .filter(move |link| {
            link.relations
                .iter()
                .any(|name| name.eq_ignore_ascii_case(relation))
        })
        .map(|link| link.target)
}

struct Link<'a> {
    target: &'a str,
    relations: Vec<String>,
}

/// Reads one field value: links parted by commas, each with parameters parted by semicolons, where
/// a quoted string may hold either.
fn parse(value: &str) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    let mut rest = value;
    while let Some((target, parameters)) = rest
        .split_once('<')
        .and_then(|(_, link)| link.split_once('>'))
    {
        let mut link = Link {
            target,
            relations: Vec::new(),
        };
        let mut scanner = Scanner(parameters);
        while scanner.skip(';') {
            let name = scanner.token();
            let value = match scanner.skip('=') {
                true => scanner.value(),
                false => String::new(),
            };
            // Only the first counts (§3.3).
            if name.eq_ignore_ascii_case("rel") && link.relations.is_empty() {
                link.relations = value.split_ascii_whitespace().map(str::to_owned).collect();
            }
        }
        links.push(link);
        rest = scanner.0;
    }
    links
}

struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    /// Passes a character and the white space around it. False where another comes.
    fn skip(&mut self, wanted: char) -> bool {
        let Some(rest) = self.0.trim_start().strip_prefix(wanted) else {
            return false;
        };
        self.0 = rest.trim_start();
        true
    }

    fn token(&mut self) -> &'a str {
        let end = self.0.find(['=', ';', ',', '"']).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token.trim()
    }

    /// A token, or a quoted string without its quotes and escapes.
    fn value(&mut self) -> String {
        let Some(quoted) = self.0.strip_prefix('"') else {
            return self.token().to_owned();
        };
        let mut value = String::new();
        let mut characters = quoted.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => break,
                '\\' => value.extend(characters.next()),
                character => value.push(character),
            }
        }
        self.0 = characters.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/http_headers.json")).unwrap();
        let mut seen = 0;
        for case in vectors["cases"].as_array().unwrap() {
            if case["kind"] != "link" {
                continue;
            }
            let base = Url::parse(case["base"].as_str().unwrap()).unwrap();
            let mut headers = HeaderMap::new();
            for value in case["values"].as_array().unwrap() {
                headers.append(LINK, value.as_str().unwrap().parse().unwrap());
            }
            for (relation, expected) in case["expect"].as_object().unwrap() {
                let found = links(&headers, relation, &base);
                assert_eq!(
                    serde_json::to_value(found).unwrap(),
                    *expected,
                    "{}",
                    case["id"]
                );
            }
            seen += 1;
        }
        assert!(seen >= 6);
    }

    #[test]
    fn survives_garbage() {
        let base = Url::parse("https://ca.example/").unwrap();
        for value in [
            "",
            "<",
            ">",
            "<>",
            "<a",
            "<a>;",
            "<a>;rel",
            "<a>;rel=",
            "<a>;rel=\"",
            "<a>;rel=\"\\",
            "<a>;;;rel=x",
            "a,b,c",
            "<a>;rel=\"x\"y<b>",
            ";;;;",
            "<a>;=;rel=x",
            "<file:///x>;rel=x",
        ] {
            let mut headers = HeaderMap::new();
            headers.append(LINK, value.parse().unwrap());
            assert!(links(&headers, "x", &base).len() <= 1, "{value}");
        }
    }
}
