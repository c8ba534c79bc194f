//! The life of an account: made, found, updated, given another key, deactivated, taken over from
//! other clients. Against Pebble, which each test has for itself, and against scripted replies where
//! no CA can be made to send them.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use certwright::error::{ConfigurationError, KeyChangeFault, Operation, ReplyFault};
use certwright::jose::{
    AccountKey, Jwk, KeyType, MacAlgorithm, MacKey, SignatureAlgorithm, Signer,
};
use certwright::protocol::{AccountStatus, ProblemType};
use certwright::solver::Http01Server;
use certwright::transport::TransportFault;
use certwright::x509::{CertificateKey, Csr, InvalidCsr};
use certwright::{Account, BoxError, Client, Error, Retry};
use serde_json::{Value, json};
use support::pebble::Pebble;
use support::script::{Asked, BASE, Script, located, refusal, reply, with_header};

async fn client(pebble: &Pebble) -> Client {
    Client::builder(pebble.directory_url())
        .add_root_pem(pebble.root_pem())
        .build()
        .await
        .unwrap()
}

async fn create(client: &Client, key: AccountKey) -> Account {
    let builder = client.new_account(key).agree_to_terms();
    builder.create().await.unwrap()
}

async fn account(pebble: &Pebble) -> Account {
    create(&client(pebble).await, AccountKey::generate().unwrap()).await
}

fn kind(error: &Error) -> &ProblemType {
    &error.problem().unwrap_or_else(|| panic!("{error:?}")).kind
}

fn key_change_fault(error: Error) -> (KeyChangeFault, String) {
    let text = error.to_string();
    match error {
        Error::KeyChange(failure) => (failure.fault, text),
        error => panic!("{error:?}"),
    }
}

// Finding.

#[tokio::test]
async fn finds_an_account_by_its_key() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let key = AccountKey::generate().unwrap();
    assert!(client.find_account(key.clone()).await.unwrap().is_none());

    let created = create(&client, key.clone()).await;
    let found = client.find_account(key).await.unwrap().unwrap();
    assert_eq!(found.url(), created.url());
    assert_eq!(found.state().unwrap().status, AccountStatus::Valid);
}

#[tokio::test]
async fn asks_for_an_existing_account_and_sends_nothing_else() {
    let script = Script::default();
    let client = script.client().await;
    let key = AccountKey::generate().unwrap();
    client.find_account(key).await.unwrap().unwrap();
    let [asked] = &script.asked("/new-account")[..] else {
        panic!("one request");
    };
    assert_eq!(asked.payload, json!({"onlyReturnExisting": true}));
}

// Creating.

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_new_account_is_asked_for_again_by_the_same_key() {
    let script = Script::default();
    script.on("/new-account", |asked| match asked.before {
        0 => Err(TransportFault::Interrupted.into()),
        _ => Ok(located(
            reply(200, json!({"status": "valid"})),
            "/account/1",
        )),
    });
    let account = script
        .client()
        .await
        .new_account(AccountKey::generate().unwrap())
        .agree_to_terms()
        .create()
        .await
        .unwrap();
    assert_eq!(account.url().as_str(), format!("{BASE}/account/1"));
    let asked = script.asked("/new-account");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].key(), asked[1].key());
    assert_eq!(asked[0].payload, asked[1].payload);
}

#[tokio::test]
async fn says_where_the_terms_are_that_nobody_agreed_to() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let builder = client.new_account(AccountKey::generate().unwrap());
    let error = builder.create().await.unwrap_err();
    let Error::UserActionRequired(refusal) = &error else {
        panic!("{error:?}");
    };
    let terms = client
        .directory()
        .await
        .unwrap()
        .meta
        .terms_of_service
        .clone();
    assert_eq!(refusal.terms_of_service, terms);
    assert!(error.to_string().contains(&terms.unwrap()), "{error}");
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn a_demand_for_a_person_comes_with_its_page_at_any_time_and_nothing_is_agreed_to() {
    let script = Script::default();
    let problem = json!({
        "type": "urn:ietf:params:acme:error:userActionRequired",
        "detail": "the terms have changed",
        "instance": "/agreement?token=1",
    });
    script.on("/new-order", move |_| {
        let link = "</terms/v6>;rel=\"terms-of-service\"";
        Ok(with_header(reply(403, problem.clone()), "link", link))
    });
    let account = script.account().await;
    let error = account
        .new_order(["example.com"])
        .create()
        .await
        .unwrap_err();
    let Error::UserActionRequired(refusal) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(
        refusal.problem.instance.as_deref(),
        Some("https://ca.example/agreement?token=1")
    );
    assert_eq!(
        refusal.terms_of_service.as_deref(),
        Some("https://ca.example/terms/v6")
    );
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(script.asked("/new-order").len(), 1);
    assert!(script.asked("/account/1").is_empty());
}

#[tokio::test]
async fn binds_external_accounts_by_each_mac_algorithm() {
    // RFC 7518 §3.2: as long as the hash at least, which is 64 octets for HS512.
    let mac_key = &"zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W".repeat(2);
    let builder = Pebble::builder().external_account("kid-1", mac_key);
    let Some(pebble) = builder.start().await else {
        return;
    };
    let client = client(&pebble).await;
    for algorithm in [
        MacAlgorithm::Hs256,
        MacAlgorithm::Hs384,
        MacAlgorithm::Hs512,
    ] {
        client
            .new_account(AccountKey::generate().unwrap())
            .agree_to_terms()
            .external_account_with("kid-1", MacKey::parse(mac_key).unwrap(), algorithm)
            .create()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn registers_keys_of_each_type_that_the_ca_takes() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let types = [
        KeyType::P256,
        #[cfg(feature = "p384")]
        KeyType::P384,
        #[cfg(feature = "rsa")]
        KeyType::Rsa2048,
    ];
    for key_type in types {
        let key = tokio::task::spawn_blocking(move || AccountKey::generate_with(key_type))
            .await
            .unwrap()
            .unwrap();
        let account = create(&client, key).await;
        account.refresh().await.unwrap();
    }

    #[cfg(feature = "ed25519")]
    {
        let key = AccountKey::generate_with(KeyType::Ed25519).unwrap();
        let builder = client.new_account(key).agree_to_terms();
        let error = builder.create().await.unwrap_err();
        assert_eq!(kind(&error), &ProblemType::BadSignatureAlgorithm);
    }
}

// Updating.

#[tokio::test]
async fn changes_and_clears_contacts() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let account = account(&pebble).await;
    let update = account
        .update()
        .contact("mailto:a@example.com")
        .contact("mailto:b@example.com");
    let state = update.send().await.unwrap();
    assert_eq!(
        state.contact,
        ["mailto:a@example.com", "mailto:b@example.com"]
    );
    assert_eq!(account.refresh().await.unwrap().contact, state.contact);

    // Contacts are replaced, not added to. Pebble takes an agreement beside them only.
    let update = account.update().contact("mailto:c@example.com");
    let state = update.agree_to_terms().send().await.unwrap();
    assert_eq!(state.contact, ["mailto:c@example.com"]);

    let state = account.update().clear_contacts().send().await.unwrap();
    assert!(state.contact.is_empty());
    assert!(account.state().unwrap().contact.is_empty());
}

#[tokio::test]
async fn leaves_the_validation_of_contacts_to_the_ca() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let account = account(&pebble).await;
    for (contact, expected) in [
        ("tel:+1", ProblemType::UnsupportedContact),
        ("mailto:nobody", ProblemType::InvalidContact),
    ] {
        let update = account.update().contact(contact);
        let error = update.send().await.unwrap_err();
        assert_eq!(kind(&error), &expected, "{error}");
    }
}

#[tokio::test]
async fn sends_only_what_is_set_and_never_an_empty_update() {
    let script = Script::default();
    let account = script.account().await;
    let before = script.count();
    let error = account.update().send().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Configuration(ConfigurationError::NothingToUpdate)
        ),
        "{error:?}"
    );
    assert_eq!(script.count(), before);

    account.update().clear_contacts().send().await.unwrap();
    account.update().agree_to_terms().send().await.unwrap();
    let update = account
        .update()
        .clear_contacts()
        .contact("mailto:a@b.example");
    update.send().await.unwrap();
    let payloads: Vec<_> = script
        .asked("/account/1")
        .into_iter()
        .map(|asked| asked.payload)
        .collect();
    assert_eq!(
        payloads,
        [
            json!({"contact": []}),
            json!({"termsOfServiceAgreed": true}),
            json!({"contact": ["mailto:a@b.example"]}),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_an_update_is_asked_for_again() {
    let script = Script::default();
    script.on("/account/1", |asked| match asked.before {
        0 => Err(TransportFault::Interrupted.into()),
        _ => Ok(reply(200, json!({"status": "valid"}))),
    });
    let account = script.account().await;
    account.update().clear_contacts().send().await.unwrap();
    assert_eq!(script.asked("/account/1").len(), 2);
}

// Deactivating.

#[tokio::test]
async fn deactivates_once_and_once_more() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let key = AccountKey::generate().unwrap();
    let account = create(&client, key.clone()).await;
    account.deactivate().await.unwrap();
    assert_eq!(account.state().unwrap().status, AccountStatus::Deactivated);
    account.deactivate().await.unwrap();

    let order = account.new_order(["example.com"]).create().await;
    assert_eq!(kind(&order.unwrap_err()), &ProblemType::Unauthorized);
    let error = client.find_account(key).await.unwrap_err();
    assert_eq!(kind(&error), &ProblemType::Unauthorized);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_a_deactivation_is_asked_for_again() {
    for status in [401, 403] {
        let script = Script::default();
        script.on("/account/1", move |asked| match asked.before {
            0 => Err(TransportFault::Interrupted.into()),
            _ => Ok(refusal(status, "unauthorized")),
        });
        script.on("/new-account", move |_| Ok(refusal(status, "unauthorized")));
        script.account().await.deactivate().await.unwrap();
        let asked = script.asked("/account/1");
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[1].payload, json!({"status": "deactivated"}));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_deactivation_is_no_success() {
    type Lookup = fn(&Asked) -> support::script::Answered;
    let alive: Lookup = |_| {
        Ok(located(
            reply(200, json!({"status": "valid"})),
            "/account/1",
        ))
    };
    let unknown: Lookup = |_| Ok(refusal(400, "accountDoesNotExist"));
    let broken: Lookup = |_| Ok(refusal(500, "serverInternal"));
    for (status, problem, lookup) in [
        (403, "unauthorized", alive),
        (401, "unauthorized", unknown),
        (403, "unauthorized", broken),
        (400, "malformed", alive),
        (500, "serverInternal", alive),
        (429, "rateLimited", alive),
    ] {
        let script = Script::default();
        script.on("/account/1", move |_| Ok(refusal(status, problem)));
        script.on("/new-account", lookup);
        let error = script.account().await.deactivate().await.unwrap_err();
        assert!(kind(&error).urn().ends_with(problem), "{error}");
        assert!(
            error.to_string().starts_with("deactivating the account"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn neither_a_redirect_nor_an_account_that_is_still_valid_is_a_deactivation() {
    for (answer, expected) in [
        (
            with_header(reply(302, ""), "location", "https://other.example/"),
            "redirects to https://other.example/",
        ),
        (reply(200, json!({"status": "valid"})), "but valid"),
        (reply(200, "<html>"), "not the object expected"),
    ] {
        let script = Script::default();
        script.on("/account/1", move |_| Ok(answer.clone()));
        let error = script.account().await.deactivate().await.unwrap_err();
        let Error::Reply(bad) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(bad.operation, Operation::DeactivateAccount);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

// Orders.

#[tokio::test]
async fn lists_the_orders_of_all_pages() {
    let builder = Pebble::builder().environment("PEBBLE_WFE_ORDERS_PER_PAGE", "1");
    let Some(pebble) = builder.start().await else {
        return;
    };
    let account = account(&pebble).await;
    assert!(account.orders().await.unwrap().is_empty());

    let mut expected = Vec::new();
    for name in ["a.example", "b.example", "c.example"] {
        let order = account.new_order([name]).create().await.unwrap();
        expected.push(order.url().clone());
    }
    let mut orders = account.orders().await.unwrap();
    orders.sort();
    expected.sort();
    assert_eq!(orders, expected);
}

#[tokio::test]
async fn reads_a_bare_array_of_orders() {
    let script = Script::default();
    script.on("/account/1", |_| {
        Ok(reply(200, json!({"orders": format!("{BASE}/orders")})))
    });
    // The query is no part of the script's path: the second look is the second page.
    script.on("/orders", |asked| match asked.before {
        0 => {
            let page = json!([format!("{BASE}/order/1"), format!("{BASE}/order/2")]);
            Ok(with_header(
                reply(200, page),
                "link",
                "<orders?2>;rel=\"next\"",
            ))
        }
        _ => Ok(reply(200, json!({"orders": null}))),
    });
    let orders = script.account().await.orders().await.unwrap();
    assert_eq!(orders.len(), 2);
    assert_eq!(script.asked("/orders").len(), 2);
}

#[tokio::test]
async fn says_that_the_ca_keeps_no_list_of_orders() {
    let error = Script::default()
        .account()
        .await
        .orders()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoOrderList(_)), "{error:?}");
    assert!(error.to_string().contains("/account/1"), "{error}");
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn a_list_of_orders_without_end_is_given_up() {
    let circle = |_: usize| "</orders>;rel=\"next\"".to_owned();
    let endless = |page: usize| format!("</orders?{}>;rel=\"next\"", page + 1);
    for (next, pages) in [
        (
            Box::new(circle) as Box<dyn Fn(usize) -> String + Send + Sync>,
            1,
        ),
        (Box::new(endless), 1_000),
    ] {
        let script = Script::default();
        script.on("/account/1", |_| {
            Ok(reply(200, json!({"orders": format!("{BASE}/orders")})))
        });
        script.on("/orders", move |asked| {
            let page = reply(200, json!({"orders": [format!("{BASE}/order/1")]}));
            Ok(with_header(page, "link", &next(asked.before)))
        });
        let error = script.account().await.orders().await.unwrap_err();
        let Error::Reply(bad) = &error else {
            panic!("{error:?}");
        };
        assert!(matches!(bad.fault, ReplyFault::OrderList(read) if read == pages));
        assert_eq!(script.asked("/orders").len(), pages);
        assert_eq!(error.retry(), Retry::Never);
    }
}

// Changing the key.

#[tokio::test]
async fn changes_the_key_of_an_account() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let old_key = AccountKey::generate().unwrap();
    let new_key = AccountKey::generate().unwrap();
    let account = create(&client, old_key.clone()).await;
    let order = account.new_order(["example.com"]).create().await.unwrap();

    let changed = account.change_key(new_key.clone()).await.unwrap();
    assert_eq!(changed.url(), account.url());
    assert_eq!(changed.thumbprint(), &new_key.public_key().thumbprint());
    changed.refresh().await.unwrap();
    changed.order(order.url().clone()).await.unwrap();
    let stored = changed.credentials().unwrap();
    client.account(&stored).unwrap().refresh().await.unwrap();

    // The handle with the old key is of no use, and the old key finds nothing.
    account.refresh().await.unwrap_err();
    assert!(client.find_account(old_key).await.unwrap().is_none());
    let found = client.find_account(new_key).await.unwrap().unwrap();
    assert_eq!(found.url(), account.url());
}

#[tokio::test]
async fn finds_out_that_the_key_was_not_changed_to_that_of_another_account() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let taken = AccountKey::generate().unwrap();
    let other = create(&client, taken.clone()).await;
    let account = create(&client, AccountKey::generate().unwrap()).await;

    let error = account.change_key(taken).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
    let (fault, text) = key_change_fault(error);
    let KeyChangeFault::KeyInUse(Some(owner)) = fault else {
        panic!("{fault:?}");
    };
    assert_eq!(&owner, other.url());
    assert!(text.contains("the old key is still in force"), "{text}");
    assert!(text.contains(other.url().as_str()), "{text}");
    // And so it is.
    account.refresh().await.unwrap();
    other.refresh().await.unwrap();
}

/// A CA with one account that knows which key it has, and loses replies as it is told.
#[derive(Clone)]
struct Rollover {
    script: Script,
    owner: Arc<Mutex<Option<Jwk>>>,
}

impl Rollover {
    /// `answer` is what comes of the key change, given what a CA that heeds it does.
    async fn new(
        answer: impl Fn(&Asked, &dyn Fn()) -> support::script::Answered + Send + Sync + 'static,
    ) -> (Self, Account) {
        let script = Script::default();
        let account = script.account().await;
        let rollover = Self {
            script,
            owner: Arc::default(),
        };
        let key = rollover.account_key(&account);
        *rollover.owner.lock().unwrap() = Some(key);

        let owner = rollover.owner.clone();
        rollover.script.on("/key-change", move |asked| {
            let heed = || *owner.lock().unwrap() = Some(inner_key(asked));
            answer(asked, &heed)
        });
        let owner = rollover.owner.clone();
        rollover.script.on("/new-account", move |asked| {
            Ok(match *owner.lock().unwrap() == Some(asked.key()) {
                true => located(reply(200, json!({"status": "valid"})), "/account/1"),
                false => refusal(400, "accountDoesNotExist"),
            })
        });
        (rollover, account)
    }

    fn account_key(&self, account: &Account) -> Jwk {
        let pem = account.credentials().unwrap();
        AccountKey::from_pkcs8_pem(pem.key())
            .unwrap()
            .public_key()
            .clone()
    }
}

/// The key that the inner JWS of a key change shows.
fn inner_key(asked: &Asked) -> Jwk {
    let inner: certwright::jose::Jws = serde_json::from_value(asked.payload.clone()).unwrap();
    inner.header().unwrap().jwk.unwrap()
}

#[tokio::test]
async fn signs_the_change_by_the_new_key_within_and_by_the_old_without() {
    let (rollover, account) = Rollover::new(|_, heed| {
        heed();
        Ok(reply(200, ""))
    })
    .await;
    let old_key = rollover.account_key(&account);
    let new_key = AccountKey::generate().unwrap();
    account.change_key(new_key.clone()).await.unwrap();

    let [asked] = &rollover.script.asked("/key-change")[..] else {
        panic!("one request");
    };
    let outer = asked.header.clone().unwrap();
    assert_eq!(outer.kid.as_deref(), Some("https://ca.example/account/1"));
    assert!(outer.nonce.is_some() && outer.jwk.is_none());
    let inner: certwright::jose::Jws = serde_json::from_value(asked.payload.clone()).unwrap();
    inner.verify(new_key.public_key()).unwrap();
    let header = inner.header().unwrap();
    assert_eq!((header.nonce, header.kid), (None, None));
    assert_eq!(header.url, outer.url);
    assert_eq!(header.jwk.as_ref(), Some(new_key.public_key()));
    let payload: Value = serde_json::from_slice(&inner.payload().unwrap()).unwrap();
    assert_eq!(
        payload,
        json!({"account": "https://ca.example/account/1", "oldKey": old_key})
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_a_key_change_is_settled_by_asking_which_key_is_in_force() {
    for lost in [
        TransportFault::Interrupted,
        TransportFault::Timeout(std::time::Duration::from_secs(1)),
    ] {
        // The CA had acted.
        let (rollover, account) = Rollover::new(move |_, heed| {
            heed();
            Err(lost.into())
        })
        .await;
        let new_key = AccountKey::generate().unwrap();
        let changed = account.change_key(new_key.clone()).await.unwrap();
        assert_eq!(changed.thumbprint(), &new_key.public_key().thumbprint());
        assert_eq!(rollover.script.asked("/key-change").len(), 1);

        // It had not.
        let (rollover, account) = Rollover::new(move |_, _| Err(lost.into())).await;
        let error = account
            .change_key(AccountKey::generate().unwrap())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Network(_)), "{error:?}");
        assert_eq!(error.retry(), Retry::Later);
        assert_eq!(rollover.script.asked("/key-change").len(), 1);
        account.refresh().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_change_that_fails_in_the_ca_is_settled_too() {
    let (_rollover, account) = Rollover::new(|_, heed| {
        heed();
        Ok(reply(502, "<html>Bad Gateway</html>"))
    })
    .await;
    let new_key = AccountKey::generate().unwrap();
    account.change_key(new_key).await.unwrap();

    let (_rollover, account) = Rollover::new(|_, _| Ok(refusal(500, "serverInternal"))).await;
    let new_key = AccountKey::generate().unwrap();
    let error = account.change_key(new_key).await.unwrap_err();
    assert_eq!(kind(&error), &ProblemType::ServerInternal);
}

#[tokio::test(start_paused = true)]
async fn says_that_both_keys_must_be_kept_where_it_is_not_known_which_is_in_force() {
    // Neither of the keys finds an account.
    let (rollover, account) = Rollover::new(|_, _| Err(TransportFault::Interrupted.into())).await;
    *rollover.owner.lock().unwrap() = None;
    let new_key = AccountKey::generate().unwrap();
    let (fault, _) = key_change_fault(account.change_key(new_key).await.unwrap_err());
    assert!(matches!(fault, KeyChangeFault::Unsettled(_)), "{fault:?}");

    // The CA can't be asked.
    let (rollover, account) = Rollover::new(|_, _| Err(TransportFault::Interrupted.into())).await;
    rollover
        .script
        .on("/new-account", |_| Err(TransportFault::Connect.into()));
    let new_key = AccountKey::generate().unwrap();
    let error = account.change_key(new_key).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Later);
    let (fault, text) = key_change_fault(error);
    assert!(matches!(fault, KeyChangeFault::Unsettled(_)), "{fault:?}");
    assert!(text.contains("keep both"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_key_change_that_never_left_is_not_asked_about() {
    let (rollover, account) = Rollover::new(|_, _| Err(TransportFault::Connect.into())).await;
    let new_key = AccountKey::generate().unwrap();
    let error = account.change_key(new_key).await.unwrap_err();
    assert!(matches!(error, Error::Network(_)), "{error:?}");
    assert!(rollover.script.asked("/new-account").is_empty());
}

#[tokio::test]
async fn a_success_that_changed_nothing_is_none() {
    let (_rollover, account) = Rollover::new(|_, _| Ok(reply(200, ""))).await;
    let new_key = AccountKey::generate().unwrap();
    let (fault, text) = key_change_fault(account.change_key(new_key).await.unwrap_err());
    assert!(matches!(fault, KeyChangeFault::Unchanged), "{fault:?}");
    assert!(text.contains("the old key is still in force"), "{text}");
}

#[tokio::test]
async fn an_account_that_the_ca_names_by_another_url_is_found_by_its_new_key() {
    let (rollover, account) = Rollover::new(|_, heed| {
        heed();
        Ok(reply(200, ""))
    })
    .await;
    let owner = rollover.owner.clone();
    rollover.script.on("/new-account", move |asked| {
        Ok(match *owner.lock().unwrap() == Some(asked.key()) {
            true => located(reply(200, ""), "/v2/account/1"),
            false => refusal(400, "accountDoesNotExist"),
        })
    });
    let new_key = AccountKey::generate().unwrap();
    let changed = account.change_key(new_key).await.unwrap();
    assert_eq!(changed.url().as_str(), format!("{BASE}/v2/account/1"));
}

#[tokio::test]
async fn a_conflict_names_the_account_that_has_the_key() {
    let (rollover, account) =
        Rollover::new(|_, _| Ok(located(refusal(409, "conflict"), "/account/2"))).await;
    let new_key = AccountKey::generate().unwrap();
    let (fault, text) = key_change_fault(account.change_key(new_key).await.unwrap_err());
    let KeyChangeFault::KeyInUse(Some(owner)) = fault else {
        panic!("{fault:?}");
    };
    assert_eq!(owner.as_str(), "https://ca.example/account/2");
    assert!(text.contains("https://ca.example/account/2"), "{text}");
    assert!(rollover.script.asked("/new-account").is_empty());
}

#[tokio::test]
async fn a_refused_key_change_leaves_the_old_key_in_force() {
    let (rollover, account) = Rollover::new(|_, _| Ok(refusal(400, "badPublicKey"))).await;
    let new_key = AccountKey::generate().unwrap();
    let error = account.change_key(new_key).await.unwrap_err();
    assert_eq!(kind(&error), &ProblemType::BadPublicKey);
    assert!(rollover.script.asked("/new-account").is_empty());
}

#[tokio::test]
async fn a_ca_that_lists_key_change_without_having_it_is_said_not_to_have_it() {
    let (rollover, account) = Rollover::new(|_, _| Ok(refusal(501, "rejectedIdentifier"))).await;
    let new_key = AccountKey::generate().unwrap();
    let error = account.change_key(new_key).await.unwrap_err();
    assert!(matches!(error, Error::NotImplemented(_)), "{error:?}");
    assert!(rollover.script.asked("/new-account").is_empty());
}

#[tokio::test]
async fn the_key_that_the_account_has_is_refused_before_anything_is_sent() {
    let script = Script::default();
    let account = script.account().await;
    let before = script.count();
    let credentials = account.credentials().unwrap();
    let same = AccountKey::from_pkcs8_pem(credentials.key()).unwrap();
    let (fault, _) = key_change_fault(account.change_key(same).await.unwrap_err());
    assert!(matches!(fault, KeyChangeFault::SameKey), "{fault:?}");
    assert_eq!(script.count(), before);
}

// Keys.

#[tokio::test]
async fn refuses_the_key_of_the_account_for_a_certificate_before_anything_is_sent() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let solver = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for key_type in [
        KeyType::P256,
        #[cfg(feature = "p384")]
        KeyType::P384,
        #[cfg(feature = "rsa")]
        KeyType::Rsa2048,
    ] {
        let key = tokio::task::spawn_blocking(move || AccountKey::generate_with(key_type));
        let key = key.await.unwrap().unwrap();
        let same = CertificateKey::from_pkcs8_pem(&key.to_pkcs8_pem().unwrap()).unwrap();
        let account = create(&client, key).await;

        let order = account.new_order(["example.com"]).create().await.unwrap();
        let csr = Csr::new(&same, &order.state().identifiers).unwrap();
        let error = order.finalize(&csr).await.unwrap_err();
        assert!(
            matches!(error, Error::Csr(InvalidCsr::AccountKey)),
            "{error:?}"
        );
        assert!(!pebble.log().contains("finalize-order"));

        // Nor is anything ordered for it.
        let orders = account.orders().await.unwrap().len();
        let issuance = account.issue(["example.com"]).key(same);
        let error = issuance.solver(solver.clone()).await.unwrap_err();
        assert!(
            matches!(error, Error::Csr(InvalidCsr::AccountKey)),
            "{error:?}"
        );
        assert_eq!(account.orders().await.unwrap().len(), orders);
    }
}

/// Signs as a KMS does, in DER, and forgets to turn that into what a JWS needs.
#[derive(Debug)]
struct ForgetfulSigner {
    key: AccountKey,
}

#[async_trait::async_trait]
impl Signer for ForgetfulSigner {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }

    fn public_key(&self) -> &Jwk {
        self.key.public_key()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        let signature = p256::ecdsa::Signature::from_slice(&self.key.sign(message).await?)?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

#[tokio::test]
async fn a_signer_that_does_not_sign_as_it_should_is_found_out_before_anything_is_sent() {
    let script = Script::default();
    let client = script.client().await;
    let signer = || ForgetfulSigner {
        key: AccountKey::generate().unwrap(),
    };
    let error = client.new_account(signer()).create().await.unwrap_err();
    assert!(matches!(error, Error::Signing(_)), "{error:?}");
    assert!(error.to_string().contains("not DER"), "{error}");
    client.find_account(signer()).await.unwrap_err();
    let account = script.account().await;
    account.change_key(signer()).await.unwrap_err();
    assert!(script.asked("/new-account").is_empty());
    assert!(script.asked("/key-change").is_empty());
}
