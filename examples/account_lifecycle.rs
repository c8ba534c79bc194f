//! An account from its creation to its end: stored, restored, found by its key, updated, deactivated.
//!
//! ```sh
//! cargo run --example account_lifecycle --features test-ca
//! cargo run --example account_lifecycle --features test-ca -- \
//!     --directory https://localhost:14000/dir --root pebble.minica.pem
//! ```
//!
//! Without `--directory`, the CA runs inside this process.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::{env, fs};

use certwright::jose::AccountKey;
use certwright::test_ca::TestCa;
use certwright::{AccountCredentials, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (directory, root, _ca) = match option("--directory") {
        Some(directory) => (directory, option("--root").map(fs::read_to_string), None),
        None => {
            let ca = TestCa::builder().start().await?;
            let root = ca.root_pem().to_owned();
            (ca.directory_url().to_owned(), Some(Ok(root)), Some(ca))
        }
    };
    let mut builder = Client::builder(directory.as_str());
    if let Some(root) = root {
        builder = builder.add_root_pem(&root?);
    }
    let client = builder.build().await?;
    let terms = client.directory().await?.meta.terms_of_service.clone();
    println!("terms       {}", terms.as_deref().unwrap_or("none"));

    // A program stores the key here, before the CA hears of it.
    let key = AccountKey::generate()?;
    let account = client
        .new_account(key.clone())
        .contact("mailto:ops@example.com")
        .agree_to_terms()
        .create()
        .await?;
    println!("created     {}", account.url());

    let stored = serde_json::to_string(&account.credentials()?)?;
    let credentials: AccountCredentials = serde_json::from_str(&stored)?;
    let account = client.account(&credentials)?;
    println!("restored    {:?}", account.refresh().await?.status);

    let found = client.find_account(key).await?;
    let found = found.ok_or("the CA does not know the key")?;
    println!("found       {}", found.url());
    let unknown = client.find_account(AccountKey::generate()?).await?;
    println!(
        "another key {}",
        unknown.map_or("finds none", |_| "finds one")
    );

    let update = account.update().contact("mailto:admin@example.com");
    println!("contacts    {:?}", update.send().await?.contact);
    let update = account.update().clear_contacts();
    println!("contacts    {:?}", update.send().await?.contact);
    match account.orders().await {
        Ok(orders) => println!("orders      {}", orders.len()),
        Err(error) => println!("orders      {error}"),
    }

    account.deactivate().await?;
    println!("deactivated {}", account.url());
    match account.new_order(["example.com"]).create().await {
        Ok(order) => println!("and yet it ordered {}", order.url()),
        Err(error) => println!("afterwards  {error}"),
    }
    Ok(())
}

fn option(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
