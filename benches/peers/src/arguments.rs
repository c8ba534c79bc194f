use std::error::Error;
use std::str::FromStr;

use crate::Library;

/// What the command line asks for. Where it gives several values, each combination is run.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) libraries: Vec<Library>,
    pub(crate) names: Vec<usize>,
    pub(crate) rtt_ms: Vec<u64>,
    pub(crate) concurrency: Vec<usize>,
    pub(crate) orders: usize,
    pub(crate) repeat: usize,
    /// In percent.
    pub(crate) reject_nonces: Vec<u8>,
    pub(crate) server: Server,
    /// The first pause of instant-acme's polls, where it is not to be the library's default.
    pub(crate) peer_delay_ms: Option<u64>,
    pub(crate) json: bool,
}

/// Against what the libraries run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Server {
    /// Pebble for one order at a time, the CA for tests for orders side by side.
    Auto,
    Pebble,
    TestCa,
}

impl Server {
    pub(crate) fn resolve(self, concurrency: usize) -> Self {
        match self {
            Self::Auto if concurrency == 1 => Self::Pebble,
            Self::Auto => Self::TestCa,
            chosen => chosen,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pebble => "pebble",
            Self::TestCa => "test-ca",
        }
    }
}

impl Arguments {
    /// `None` where the user asks for help.
    pub(crate) fn parse(
        mut words: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, Box<dyn Error + Send + Sync>> {
        let mut arguments = Self {
            libraries: Library::ALL.to_vec(),
            names: vec![1],
            rtt_ms: vec![0],
            concurrency: vec![1],
            orders: 20,
            repeat: 1,
            reject_nonces: vec![0],
            server: Server::Auto,
            peer_delay_ms: None,
            json: false,
        };
        while let Some(flag) = words.next() {
            match flag.as_str() {
                "-h" | "--help" => return Ok(None),
                "--json" => {
                    arguments.json = true;
                    continue;
                }
                _ => {}
            }
            let value = words
                .next()
                .ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--library" => {
                    arguments.libraries = match value.as_str() {
                        "both" => Library::ALL.to_vec(),
                        name => vec![Library::parse(name)?],
                    };
                }
                "--server" => {
                    arguments.server = match value.as_str() {
                        "auto" => Server::Auto,
                        "pebble" => Server::Pebble,
                        "test-ca" => Server::TestCa,
                        _ => return Err(format!("there is no server `{value}`").into()),
                    };
                }
                "--names" => arguments.names = list(&flag, &value)?,
                "--rtt-ms" => arguments.rtt_ms = list(&flag, &value)?,
                "--concurrency" => arguments.concurrency = list(&flag, &value)?,
                "--reject-nonces" => arguments.reject_nonces = list(&flag, &value)?,
                "--orders" => arguments.orders = number(&flag, &value)?,
                "--repeat" => arguments.repeat = number(&flag, &value)?,
                "--peer-delay-ms" => arguments.peer_delay_ms = Some(number(&flag, &value)?),
                _ => return Err(format!("unknown flag {flag}\n\n{USAGE}").into()),
            }
        }
        let numbers = arguments.names.iter().chain(&arguments.concurrency);
        if arguments.orders == 0 || numbers.into_iter().any(|&number| number == 0) {
            return Err("names, orders and concurrency are at least 1".into());
        }
        if arguments.reject_nonces.iter().any(|&share| share > 100) {
            return Err("--reject-nonces takes percentages".into());
        }
        Ok(Some(arguments))
    }
}

fn list<T: FromStr>(flag: &str, value: &str) -> Result<Vec<T>, String> {
    value.split(',').map(|part| number(flag, part)).collect()
}

fn number<T: FromStr>(flag: &str, value: &str) -> Result<T, String> {
    let value = value.trim();
    value
        .parse()
        .map_err(|_| format!("{flag}: `{value}` is not a number that it takes"))
}

pub(crate) const USAGE: &str = "\
Usage: certwright-peers [FLAG VALUE]...

  --names 1,10,100        names in an order (1)
  --rtt-ms 0,20,50        round-trip times to the CA (0)
  --concurrency 1,16,64   orders side by side (1)
  --orders 20             orders in each run (20)
  --library NAME          certwright, instant-acme or both (both)
  --server NAME           pebble, test-ca, or auto: pebble where the concurrency is 1 (auto)
  --reject-nonces 0,10    the share of good nonces that the CA refuses, in percent (0)
  --peer-delay-ms 250     instant-acme's first pause between polls, in place of its default
  --repeat 1              how often all of it is run
  --json                  one JSON object for each run, and no table";
