//! Asks a CA when to renew a certificate (RFC 9773), and plans it.
//!
//! ```sh
//! cargo run --example renewal_info --features test-ca # at a CA inside this process
//! cargo run --example renewal_info --features test-ca -- \
//!     --directory https://acme-staging-v02.api.letsencrypt.org/directory --domain example.com
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

mod common;

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::time::SystemTime;

use certwright::renewal::{RenewalAction, RenewalPlan};
use common::{Options, Result};

#[tokio::main]
async fn main() -> ExitCode {
    common::main("", run).await
}

async fn run(options: Options) -> Result<()> {
    let account = options.account().await?;
    let issued = options.issue(&account).await?;
    let chain = issued.chain();
    println!("identifier   {}", chain.certificate_id()?);

    let now = SystemTime::now();
    let mut plan = RenewalPlan::new(chain.not_before(), chain.not_after());
    println!("by lifetime  renewed {}", from_now(plan.renew_at(), now));

    match issued.certificate().renewal_info().await {
        // Each `RandomState` has keys of its own, which are random: enough to spread renewals.
        Ok(advice) => plan.advise(&advice, now, RandomState::new().hash_one(now)),
        Err(error) => {
            println!("no advice    {error}");
            plan.fail(&error, now);
        }
    }
    if let Some(window) = plan.window() {
        println!("window       starts {}", from_now(window.start(), now));
        println!("             ends {}", from_now(window.end(), now));
    }
    if let Some(page) = plan.explanation_url() {
        println!("explanation  {page}");
    }
    println!("by the plan  renewed {}", from_now(plan.renew_at(), now));
    match plan.next(now) {
        RenewalAction::Renew => println!("next         renew now"),
        RenewalAction::Wait(time) => println!("next         ask again {}", from_now(time, now)),
        _ => println!("next         ask now"),
    }
    println!(
        "\nWhat a program stores:\n{}",
        serde_json::to_string_pretty(&plan)?
    );
    Ok(())
}

fn from_now(time: SystemTime, now: SystemTime) -> String {
    let hours = |seconds: u64| seconds / 3600;
    match time.duration_since(now) {
        Ok(ahead) => format!("in {} hours", hours(ahead.as_secs())),
        Err(past) => format!("{} hours ago", hours(past.duration().as_secs())),
    }
}
