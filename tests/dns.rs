//! What is read from the DNS, of name servers on loopback addresses.

#![cfg(feature = "dns-01")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use certwright::dns::{Dns, DnsFault, RecordType, ResponseCode};
use hickory_server::proto::rr::RecordType as Wire;

use self::support::name_server::{FIRST, Fault, NameServers, RESOLVER, SECOND};

#[tokio::test]
async fn finds_the_zone_of_a_name_that_need_not_exist() {
    let servers = NameServers::start().await;
    servers.zone("deep.sub.example.com");
    servers.txt("real.example.com", &["x"]);
    let dns = servers.dns();
    for (name, zone) in [
        ("example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("real.example.com", "example.com"),
        ("a.b.c.example.com", "example.com"),
        ("sub.example.com", "example.com"),
        (
            "_acme-challenge.deep.sub.example.com",
            "deep.sub.example.com",
        ),
    ] {
        assert_eq!(dns.zone_of(name).await.unwrap(), zone, "{name}");
    }
    let error = dns.zone_of("nowhere.invalid-zone").await.unwrap_err();
    assert!(matches!(error.fault, DnsFault::NoZone), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn an_alias_does_not_hide_the_zone_that_it_is_in() {
    let servers = NameServers::start().await;
    servers.zone("other.test");
    servers.cname("www.example.com", "www.other.test");
    let dns = servers.dns();
    assert_eq!(dns.zone_of("www.example.com").await.unwrap(), "example.com");
    assert_eq!(
        dns.zone_of("x.www.example.com").await.unwrap(),
        "example.com"
    );
}

#[tokio::test]
async fn follows_aliases_but_not_for_ever() {
    let servers = NameServers::start().await;
    servers.zone("other.test");
    servers.cname("a.example.com", "B.example.com");
    servers.cname("b.example.com", "c.other.test");
    servers.cname("x.example.com", "y.other.test");
    servers.cname("y.other.test", "x.example.com");
    for number in 0..20 {
        let [name, target] = [number, number + 1].map(|n| format!("n{n}.example.com"));
        servers.cname(&name, &target);
    }
    let dns = servers.dns();
    assert_eq!(
        dns.canonical_name("A.example.com").await.unwrap(),
        "c.other.test"
    );
    assert_eq!(
        dns.canonical_name("none.example.com").await.unwrap(),
        "none.example.com"
    );

    let error = dns.canonical_name("x.example.com").await.unwrap_err();
    assert!(matches!(error.fault, DnsFault::AliasLoop), "{error}");
    assert_eq!(error.name, "x.example.com");
    let error = dns.canonical_name("n0.example.com").await.unwrap_err();
    assert!(
        matches!(error.fault, DnsFault::TooManyAliases(16)),
        "{error}"
    );
}

#[tokio::test]
async fn lists_the_servers_of_a_zone_with_all_addresses() {
    let servers = NameServers::start().await;
    servers.address("ns1.servers.test", Ipv6Addr::LOCALHOST.into());
    let dns = servers.dns();
    let found = dns.authoritative_servers("example.com").await.unwrap();
    let names: Vec<_> = found.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["ns1.servers.test", "ns2.servers.test"]);
    let addresses: Vec<_> = found[0]
        .addresses
        .iter()
        .map(|address| address.ip())
        .collect();
    assert_eq!(addresses, [IpAddr::from(FIRST), Ipv6Addr::LOCALHOST.into()]);
    assert_eq!(found[1].addresses, [servers.at(SECOND)]);

    // One server whose address can't be had is told, and does not hide the other.
    for wire in [Wire::A, Wire::AAAA] {
        servers.fault(RESOLVER, "ns2.servers.test", wire, Fault::ServFail);
    }
    let found = dns.authoritative_servers("example.com").await.unwrap();
    assert!(found[0].fault.is_none() && found[1].addresses.is_empty());
    let fault = &found[1].fault.as_ref().unwrap().fault;
    assert!(matches!(fault, DnsFault::Response(ResponseCode::ServFail)));

    let error = dns
        .authoritative_servers("x.example.com")
        .await
        .unwrap_err();
    assert!(matches!(error.fault, DnsFault::NoNameServers), "{error}");
}

#[tokio::test]
async fn reads_texts_at_each_server() {
    let servers = NameServers::start().await;
    let name = "t.example.com";
    servers.txt(name, &["one"]);
    servers.txt(name, &["tw", "", "o"]);
    servers.fault(SECOND, name, Wire::TXT, Fault::Stale(1));
    let dns = servers.dns();
    assert_eq!(
        dns.txt_at(servers.at(FIRST), name).await.unwrap(),
        ["one", "two"]
    );
    assert!(
        dns.txt_at(servers.at(SECOND), name)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        dns.txt_at(servers.at(SECOND), name).await.unwrap(),
        ["one", "two"]
    );
    assert_eq!(dns.txt(name).await.unwrap(), ["one", "two"]);
    assert!(dns.txt("none.example.com").await.unwrap().is_empty());

    servers.cname("alias.example.com", name);
    assert_eq!(dns.txt("alias.example.com").await.unwrap(), ["one", "two"]);
}

#[tokio::test]
async fn asks_again_over_tcp_where_the_answer_is_too_long_for_udp() {
    let servers = NameServers::start().await;
    let name = "long.example.com";
    servers.txt(name, &["x"]);
    servers.fault(FIRST, name, Wire::TXT, Fault::Truncated);
    let dns = servers.dns();
    assert_eq!(dns.txt_at(servers.at(FIRST), name).await.unwrap(), ["x"]);
    let ways: Vec<_> = servers.asked().iter().map(|asked| asked.over_tcp).collect();
    assert_eq!(ways, [false, true]);

    // As well as an answer that is too long by itself.
    let texts: Vec<_> = (0..40)
        .map(|number| format!("{number}{}", "y".repeat(200)))
        .collect();
    for text in &texts {
        servers.txt("longer.example.com", &[text]);
    }
    let found = dns
        .txt_at(servers.at(FIRST), "longer.example.com")
        .await
        .unwrap();
    assert_eq!(found, texts);
}

#[tokio::test]
async fn asks_without_edns_where_the_server_does_not_know_it() {
    let servers = NameServers::start().await;
    let name = "old.example.com";
    servers.txt(name, &["x"]);
    servers.fault(FIRST, name, Wire::TXT, Fault::NoEdns);
    let found = servers.dns().txt_at(servers.at(FIRST), name).await;
    assert_eq!(found.unwrap(), ["x"]);
}

#[tokio::test]
async fn errors_say_name_type_server_and_code() {
    let servers = NameServers::start().await;
    let name = "t.example.com";
    let dns = servers.dns().timeout(Duration::from_millis(300));
    let at = servers.at(FIRST);
    for (fault, text, is_transient) in [
        (Fault::ServFail, "the server answers SERVFAIL", true),
        (Fault::Refused, "the server answers REFUSED", true),
        (Fault::Lame, "not authoritative", true),
        (Fault::Silent, "no answer came within 0.3 s", true),
    ] {
        servers.fault(FIRST, name, Wire::TXT, fault);
        let error = dns.txt_at(at, name).await.unwrap_err();
        assert_eq!(
            (error.name.as_str(), error.record_type),
            (name, RecordType::Txt)
        );
        assert_eq!(error.server, Some(at));
        assert_eq!(error.is_transient(), is_transient);
        let told = error.to_string();
        assert!(
            told.starts_with(&format!("TXT of {name} at {at}: ")),
            "{told}"
        );
        assert!(told.contains(text), "{told}");
    }

    let error = dns.txt("a..b").await.unwrap_err();
    assert!(matches!(error.fault, DnsFault::InvalidName), "{error}");
    let error = Dns::with_name_servers([]).txt("a.b").await.unwrap_err();
    assert!(matches!(error.fault, DnsFault::NoNameServers), "{error}");
    // A server of another zone says nothing of this one.
    let error = dns.txt_at(at, "x.unknown.test").await.unwrap_err();
    assert!(matches!(
        error.fault,
        DnsFault::Response(ResponseCode::Refused)
    ));
}

#[tokio::test]
async fn the_next_name_server_is_asked_where_one_fails() {
    let servers = NameServers::start().await;
    let name = "t.example.com";
    servers.txt(name, &["x"]);
    servers.fault(FIRST, name, Wire::TXT, Fault::ServFail);
    let dns = Dns::with_name_servers([servers.at(FIRST), servers.resolver()]);
    assert_eq!(dns.txt(name).await.unwrap(), ["x"]);
    let asked: Vec<_> = servers.asked().iter().map(|asked| asked.server).collect();
    assert_eq!(asked, [IpAddr::from(FIRST), RESOLVER.into()]);
}

#[tokio::test]
async fn addresses_of_both_kinds() {
    let servers = NameServers::start().await;
    let (v4, v6) = (
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    );
    servers.address("both.example.com", v6);
    servers.address("both.example.com", v4);
    servers.cname("www.example.com", "both.example.com");
    let dns = servers.dns();
    assert_eq!(dns.addresses("www.example.com").await.unwrap(), [v4, v6]);
    assert!(dns.addresses("none.example.com").await.unwrap().is_empty());
    servers.fault(RESOLVER, "both.example.com", Wire::AAAA, Fault::ServFail);
    assert_eq!(dns.addresses("both.example.com").await.unwrap(), [v4]);
    servers.fault(RESOLVER, "none.example.com", Wire::AAAA, Fault::ServFail);
    assert!(dns.addresses("none.example.com").await.is_err());
}

#[tokio::test]
async fn caa_is_that_of_the_closest_name_that_has_any() {
    let servers = NameServers::start().await;
    servers.zone("other.test");
    servers.caa(
        "example.com",
        false,
        "issue",
        "ca.example; validationmethods=dns-01",
    );
    servers.caa("example.com", true, "ISSUEWILD", ";");
    servers.caa("own.example.com", false, "iodef", "mailto:a@example.com");
    servers.caa("caa.other.test", false, "issue", "other-ca.example");
    servers.cname("www.example.com", "caa.other.test");
    servers.cname("empty.example.com", "none.other.test");
    let dns = servers.dns();

    for name in [
        "example.com",
        "a.b.example.com",
        "*.example.com",
        "empty.example.com",
    ] {
        let set = dns.caa(name).await.unwrap().unwrap();
        assert_eq!(set.name, "example.com", "{name}");
        let [issue, wild] = set.records.as_slice() else {
            panic!("{set:?}");
        };
        assert!(!issue.critical && wild.critical);
        assert_eq!(wild.tag, "issuewild");
        let issuer = issue.issuer().unwrap().unwrap();
        assert_eq!(issuer.issuer(), Some("ca.example"));
        assert_eq!(issuer.validation_methods(), Some(vec!["dns-01"]));
        assert_eq!(wild.issuer().unwrap().unwrap().issuer(), None);
    }
    // Any CAA record stops the climb, and an alias's target counts for the alias.
    let own = dns.caa("own.example.com").await.unwrap().unwrap();
    assert_eq!(
        (own.name.as_str(), own.records[0].tag.as_str()),
        ("own.example.com", "iodef")
    );
    let alias = dns.caa("www.example.com").await.unwrap().unwrap();
    assert_eq!(
        (alias.name.as_str(), alias.records.len()),
        ("www.example.com", 1)
    );
    assert_eq!(alias.records[0].value, "other-ca.example");
    assert_eq!(dns.caa("a.other.test").await.unwrap(), None);

    // A CA refuses to issue where it gets no answer.
    servers.fault(RESOLVER, "a.example.com", Wire::CAA, Fault::ServFail);
    let error = dns.caa("a.example.com").await.unwrap_err();
    assert_eq!(
        (error.record_type, error.is_transient()),
        (RecordType::Caa, true)
    );
}
