//! How much of what a CA sends is read, beyond what the transport's limit on a body leaves.
//!
//! Each number is far above what any CA sends, and low enough that what is made of it, a request
//! for each element or a line of an error, stays bounded.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The identifiers and the authorizations of an order, each of which takes a request. Let's Encrypt
/// has 100 at most, other CAs some hundreds.
pub(crate) const IDENTIFIERS: usize = 1_000;

/// The challenges of an authorization.
pub(crate) const CHALLENGES: usize = 100;

/// The subproblems of a problem: one for each identifier of an order.
pub(crate) const SUBPROBLEMS: usize = IDENTIFIERS;

/// Names in the directory and in a problem: of CAs, of algorithms.
pub(crate) const NAMES: usize = 100;

/// Reads a list of at most so many elements; `null` is an empty one. A longer one is an error: to
/// go on with a part of it would be to go on with another order.
pub(crate) fn list<'de, const LIMIT: usize, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Option::<Bounded<T, LIMIT, false>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.0).unwrap_or_default())
}

/// Reads the first elements of a list, so many at most, and passes over the rest; `null` is an empty
/// one. For what is told to people, where an error would hide all of it.
pub(crate) fn first<'de, const LIMIT: usize, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Option::<Bounded<T, LIMIT, true>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.0).unwrap_or_default())
}

struct Bounded<T, const LIMIT: usize, const CUT: bool>(Vec<T>);

impl<'de, T: Deserialize<'de>, const LIMIT: usize, const CUT: bool> Deserialize<'de>
    for Bounded<T, LIMIT, CUT>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<T, const LIMIT: usize, const CUT: bool>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const LIMIT: usize, const CUT: bool> Visitor<'de>
    for Elements<T, LIMIT, CUT>
{
    type Value = Bounded<T, LIMIT, CUT>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {LIMIT} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < LIMIT {
            match elements.next_element()? {
                Some(element) => list.push(element),
                None => {
                    // Most lists have few elements, and are kept for as long as an order takes.
                    list.shrink_to_fit();
                    return Ok(Bounded(list));
                }
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {
            if !CUT {
                let text = format!("a list of more than {LIMIT} elements");
                return Err(de::Error::custom(text));
            }
        }
        Ok(Bounded(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Lists {
        #[serde(default, deserialize_with = "list::<3, _, _>")]
        whole: Vec<u8>,
        #[serde(default, deserialize_with = "first::<3, _, _>")]
        first: Vec<u8>,
    }

    #[test]
    fn a_list_is_read_to_its_limit() {
        let read = |text: &str| serde_json::from_str::<Lists>(text);
        for text in ["{}", r#"{"whole":null,"first":null}"#] {
            let lists = read(text).unwrap();
            assert!(lists.whole.is_empty() && lists.first.is_empty());
        }
        assert_eq!(read(r#"{"whole":[1,2,3]}"#).unwrap().whole, [1, 2, 3]);
        let error = read(r#"{"whole":[1,2,3,4]}"#).unwrap_err().to_string();
        assert!(error.contains("more than 3 elements"), "{error}");

        assert_eq!(read(r#"{"first":[1,2]}"#).unwrap().first, [1, 2]);
        // What is passed over need not even be of the type.
        let lists = read(r#"{"first":[1,2,3,"four",{}]}"#).unwrap();
        assert_eq!(lists.first, [1, 2, 3]);
        assert!(read(r#"{"first":7}"#).is_err());
    }
}
