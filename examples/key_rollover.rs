//! Gives an account another key, and shows what each of the keys finds before and after: at a CA
//! inside this process, or at one outside.
//!
//! ```sh
//! cargo run --example key_rollover --features test-ca
//! cargo run --example key_rollover --features test-ca -- \
//!     --directory https://localhost:14000/dir --root pebble.minica.pem
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::{env, fs};

use certwright::Client;
use certwright::error::KeyChangeFault;
use certwright::jose::AccountKey;
use certwright::test_ca::TestCa;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // It runs for as long as this value is there.
    let inside = TestCa::start().await?;
    let builder = match option("--directory") {
        None => Client::builder(inside.directory_url().as_str()).add_root_pem(inside.root_pem()),
        Some(directory) => {
            let builder = Client::builder(directory.as_str());
            match option("--root") {
                Some(root) => builder.add_root_pem(&fs::read_to_string(root)?),
                None => builder,
            }
        }
    };
    let client = builder.build().await?;

    let old_key = AccountKey::generate()?;
    let builder = client.new_account(old_key.clone()).agree_to_terms();
    let account = builder.create().await?;
    println!("account     {}", account.url());
    println!("old key     {}", account.thumbprint());

    // A program stores the new key here, beside the old one, before the CA hears of it.
    let new_key = AccountKey::generate()?;
    let account = match account.change_key(new_key.clone()).await {
        Ok(account) => account,
        Err(certwright::Error::KeyChange(failure)) => {
            if let KeyChangeFault::Unsettled(_) = &failure.fault {
                println!("keep both keys, and ask again later which of them is in force");
            }
            return Err(failure.into());
        }
        Err(error) => return Err(format!("the old key is still in force: {error}").into()),
    };
    // And here it stores the account anew, and forgets the old key.
    println!("new key     {}", account.thumbprint());
    println!("status      {:?}", account.refresh().await?.status);
    for (name, key) in [("old", old_key), ("new", new_key)] {
        match client.find_account(key).await? {
            Some(found) => println!("the {name} key finds {}", found.url()),
            None => println!("the {name} key finds no account"),
        }
    }
    Ok(())
}

fn option(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
