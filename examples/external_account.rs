//! Creates an account that is bound to one which the CA knows otherwise, by the key id and the MAC key
//! that it handed out. The CA is one inside this process, or one outside:
//!
//! ```sh
//! cargo run --example external_account --features test-ca
//! CERTWRIGHT_MAC_KEY=zWNDZM6eQGHW… cargo run --example external_account --features test-ca -- \
//!     --directory https://localhost:14000/dir --root pebble.minica.pem --key-id kid-1
//! ```
//!
//! The MAC key is a secret, so it comes by the environment, which other users can't see.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::{env, fs};

use certwright::Client;
use certwright::jose::{AccountKey, MacKey};
use certwright::test_ca::TestCa;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let inside = MacKey::parse("bWFjLWtleS1vZi10aGUtQ0EtaW5zaWRlLXRoZS1wcm9jZXNz")?;
    // It runs for as long as this value is there.
    let ca = TestCa::builder()
        .external_account("kid-1", inside.clone())
        .start()
        .await?;
    let (builder, key_id, mac_key) = match option("--directory") {
        None => {
            let builder = Client::builder(ca.directory_url().as_str()).add_root_pem(ca.root_pem());
            (builder, "kid-1".to_owned(), inside)
        }
        Some(directory) => {
            let mut builder = Client::builder(directory.as_str());
            if let Some(root) = option("--root") {
                builder = builder.add_root_pem(&fs::read_to_string(root)?);
            }
            let key_id = option("--key-id").ok_or("--key-id ID is needed")?;
            let mac_key = env::var("CERTWRIGHT_MAC_KEY");
            let mac_key = mac_key.map_err(|_| "CERTWRIGHT_MAC_KEY is needed")?;
            (builder, key_id, MacKey::parse(&mac_key)?)
        }
    };
    let client = builder.build().await?;
    match client.directory().await?.meta.external_account_required {
        true => println!("the CA wants a binding"),
        false => println!("the CA does not insist on a binding"),
    }

    // A program stores the key here, before the CA hears of it: most bindings can be used once.
    let key = AccountKey::generate()?;
    let account = client
        .new_account(key)
        .agree_to_terms()
        .external_account(key_id, mac_key)
        .create()
        .await?;
    println!("account     {}", account.url());
    Ok(())
}

fn option(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
