//! certwright measured against instant-acme. `README.md` says how.

mod arguments;
mod certwright_client;
mod client;
mod instant_acme_client;
mod pebble;
mod proxy;
mod report;
mod responder;
mod run;
mod test_ca;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use self::arguments::{Arguments, USAGE};
use self::run::Bench;

#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Library {
    Certwright,
    InstantAcme,
}

impl Library {
    pub(crate) const ALL: [Self; 2] = [Self::Certwright, Self::InstantAcme];

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|library| library.name() == name);
        found.ok_or_else(|| format!("there is no library `{name}` here"))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Certwright => "certwright",
            Self::InstantAcme => "instant-acme",
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("certwright-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let mut words = env::args().skip(1).peekable();
    // Two roles that the bench starts itself in.
    let role = words.next_if(|word| word == "--client" || word == "--serve");
    if let Some(role) = role {
        let text = words.next().ok_or("this is not for people")?;
        let result = match role.as_str() {
            "--client" => client::run(serde_json::from_str(&text)?).await,
            _ => test_ca::serve(serde_json::from_str(&text)?).await,
        };
        return result.map(|()| ExitCode::SUCCESS);
    }

    let Some(arguments) = Arguments::parse(words)? else {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    let reports = Bench::new().await?.run(&arguments).await?;
    if !arguments.json {
        println!("\n{}", report::table(&reports));
    }
    let failed = reports.iter().any(|report| report.issued < report.orders);
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
