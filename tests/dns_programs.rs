//! Programs as DNS providers: shell scripts by the conventions of lego and certbot.

#![cfg(all(feature = "dns-01", unix))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certwright::BoxError;
use certwright::jose::{AccountKey, Signer};
use certwright::protocol::{Challenge, ChallengeType, Url};
use certwright::solver::{DnsProgram, DnsProgramError, DnsProvider, Presentation, TxtRecord};
use tempfile::TempDir;

const NAME: &str = "_acme-challenge.example.com";
const TOKEN: &str = "DGyRejmCefe7v4NfDGDKfADGyRejmCef";

#[tokio::test]
async fn exec_is_told_name_and_value() {
    let scripts = Scripts::new();
    let program = scripts.write("exec", r#"printf '%s|' "$@" "$VIEW" >> log; cat >> log"#);
    let provider = DnsProgram::exec("/bin/sh")
        .arg(&program)
        .env("VIEW", "external");
    let record = TxtRecord::new(NAME, "-value; $(rm x) \"'");
    provider.add(&record).await.unwrap();
    provider.remove(&record).await.unwrap();
    assert_eq!(
        scripts.read("log"),
        "present|_acme-challenge.example.com.|-value; $(rm x) \"'|external|\
         cleanup|_acme-challenge.example.com.|-value; $(rm x) \"'|external|"
    );
}

#[tokio::test]
async fn raw_exec_is_told_token_and_key_authorization() {
    let scripts = Scripts::new();
    let program = scripts.write("raw", r#"printf '%s|' "$@" >> log"#);
    let provider = DnsProgram::exec_raw("/bin/sh").arg(&program);
    let presentation = presentation("*.example.com");
    let key_authorization = presentation
        .key_authorization()
        .unwrap()
        .as_str()
        .to_owned();
    let record = TxtRecord::new(NAME, "value").with_presentation(presentation);
    provider.add(&record).await.unwrap();
    provider.remove(&record).await.unwrap();
    assert_eq!(
        scripts.read("log"),
        format!(
            "present|--|example.com|{TOKEN}|{key_authorization}|\
             cleanup|--|example.com|{TOKEN}|{key_authorization}|"
        )
    );

    let error = failure(provider.add(&TxtRecord::new(NAME, "value")).await);
    assert!(matches!(error, DnsProgramError::NoToken { .. }), "{error}");
}

#[tokio::test]
async fn certbot_hooks_are_told_by_their_environment() {
    let scripts = Scripts::new();
    let hook = scripts.write(
        "hook",
        r#"echo "$CERTBOT_DOMAIN|$CERTBOT_VALIDATION|$CERTBOT_REMAINING_CHALLENGES|$CERTBOT_ALL_DOMAINS|${CERTBOT_AUTH_OUTPUT-unset}|$#" >> log
           echo "  id of $CERTBOT_VALIDATION  ";"#,
    );
    let provider = DnsProgram::certbot_hooks("/bin/sh", Some("/bin/sh".into())).arg(&hook);
    let [first, second] = ["first", "second"]
        .map(|value| TxtRecord::new(NAME, value).with_presentation(presentation("*.example.com")));
    provider.add(&first).await.unwrap();
    provider.add(&second).await.unwrap();
    provider.remove(&second).await.unwrap();
    provider.remove(&first).await.unwrap();
    assert_eq!(
        scripts.read("log"),
        "example.com|first|0|example.com|unset|0\n\
         example.com|second|0|example.com|unset|0\n\
         example.com|second|0|example.com|id of second|0\n\
         example.com|first|0|example.com|id of first|0\n"
    );

    // Without a hook for it, there is nothing to be cleaned up.
    let provider = DnsProgram::certbot_hooks("/bin/sh", None).arg(&hook);
    provider.remove(&first).await.unwrap();
    assert_eq!(scripts.read("log").lines().count(), 4);
}

#[tokio::test]
async fn a_failure_is_told_with_what_was_printed() {
    let scripts = Scripts::new();
    let program = scripts.write(
        "fails",
        "echo out; printf 'no such \\033[31mzone\\n' >&2; exit 3",
    );
    let provider = DnsProgram::exec("/bin/sh").arg(&program);
    let error = failure(provider.add(&TxtRecord::new(NAME, "value")).await);
    let DnsProgramError::Failed { status, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(status.code(), Some(3));
    let text = error.to_string();
    assert!(text.contains("no such  [31mzone"), "{text}");
    assert!(text.contains("standard output: out"), "{text}");

    let program = scripts.write("dies", "kill -TERM $$");
    let provider = DnsProgram::exec("/bin/sh").arg(&program);
    let error = failure(provider.remove(&TxtRecord::new(NAME, "value")).await);
    assert!(
        error.to_string().contains("cleanup` ended with signal: 15"),
        "{error}"
    );

    let missing = DnsProgram::exec(scripts.path().join("missing"));
    let error = failure(missing.add(&TxtRecord::new(NAME, "value")).await);
    assert!(
        error.to_string().contains("missing` cannot be started"),
        "{error}"
    );
}

#[tokio::test]
async fn a_megabyte_of_output_is_read_and_not_kept() {
    let scripts = Scripts::new();
    let program = scripts.write(
        "prints",
        "echo first; head -c 1000000 /dev/zero | tr '\\0' x; echo last; exit $1",
    );
    let good = DnsProgram::exec("/bin/sh").arg(&program).arg("0");
    good.add(&TxtRecord::new(NAME, "value")).await.unwrap();

    let bad = DnsProgram::exec("/bin/sh").arg(&program).arg("1");
    let error = failure(bad.add(&TxtRecord::new(NAME, "value")).await);
    let DnsProgramError::Failed { stdout, .. } = &error else {
        panic!("{error}");
    };
    assert!(stdout.starts_with("first\nxxx") && stdout.ends_with("xxxlast"));
    assert!(stdout.len() < 2200, "{}", stdout.len());

    // As certbot's hook, whose output is handed on.
    let hooks = DnsProgram::certbot_hooks("/bin/sh", Some("/bin/sh".into())).arg(&program);
    let hooks = hooks.arg("0");
    hooks.add(&TxtRecord::new(NAME, "value")).await.unwrap();
    hooks.remove(&TxtRecord::new(NAME, "value")).await.unwrap();
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_what_it_started() {
    let scripts = Scripts::new();
    let program = scripts.write("hangs", "echo starting; sleep 1000 & echo $! > pid; wait");
    let provider = DnsProgram::exec("/bin/sh").arg(&program);
    let provider = provider.timeout(Duration::from_millis(500));
    let error = failure(provider.add(&TxtRecord::new(NAME, "value")).await);
    let DnsProgramError::Timeout { stdout, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(stdout, "starting");
    scripts.assert_killed().await;
}

#[tokio::test]
async fn a_program_is_killed_when_nobody_waits_for_it() {
    let scripts = Scripts::new();
    let program = scripts.write("hangs", "sleep 1000 & echo $! > pid; wait");
    let provider = DnsProgram::exec("/bin/sh").arg(&program);
    let record = TxtRecord::new(NAME, "value");
    let started = async {
        while scripts.read("pid").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = provider.add(&record) => panic!("{ended:?}"),
        () = started => {}
    }
    scripts.assert_killed().await;
}

#[tokio::test]
async fn a_process_left_behind_is_not_waited_for() {
    let scripts = Scripts::new();
    let program = scripts.write("leaves", "sleep 1000 & echo $! > pid");
    let provider = DnsProgram::exec("/bin/sh").arg(&program);
    // It has the script's standard output, so the end of that would come with its own.
    provider.add(&TxtRecord::new(NAME, "value")).await.unwrap();
    let pid = scripts.read("pid");
    let killed = std::process::Command::new("kill").arg(pid.trim()).status();
    assert!(killed.unwrap().success(), "it was still there");
}

#[tokio::test]
async fn runs_one_at_a_time_unless_told_otherwise() {
    let scripts = Scripts::new();
    let alone = scripts.write("alone", "mkdir lock && sleep 0.05 && rmdir lock");
    let provider = DnsProgram::exec("/bin/sh").arg(&alone);
    let record = TxtRecord::new(NAME, "value");
    let (a, b, c) = tokio::join!(
        provider.add(&record),
        provider.add(&record),
        provider.remove(&record)
    );
    a.unwrap();
    b.unwrap();
    c.unwrap();

    // Each of these waits for the other.
    let meets = scripts.write(
        "meets",
        "touch $1; while ! [ -e present -a -e cleanup ]; do sleep 0.01; done",
    );
    let provider = DnsProgram::exec("/bin/sh").arg(&meets).side_by_side(2);
    let (a, b) = tokio::join!(provider.add(&record), provider.remove(&record));
    a.unwrap();
    b.unwrap();
}

/// A directory with scripts, in which they run.
struct Scripts(TempDir);

impl Scripts {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A script for `sh`, which is given its path: to run it by itself can fail while another test
    /// starts a program, since that has the file open for a moment.
    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(
            &path,
            format!("cd '{}'\n{content}\n", self.path().display()),
        )
        .unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// Waits until the process in the file `pid` is gone.
    async fn assert_killed(&self) {
        let pid = self.read("pid");
        let is_there = || {
            let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            // Where nobody collects it, it stays as a zombie.
            state.is_ok_and(|state| !state.contains(") Z"))
        };
        let gone = async {
            while is_there() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
        gone.expect("the process is killed");
    }
}

fn presentation(name: &str) -> Presentation {
    let challenge = Challenge::pending(
        ChallengeType::Dns01,
        Url::parse("https://ca.example/challenge/1").unwrap(),
        Some(TOKEN.to_owned()),
    );
    Presentation::new(
        name.parse().unwrap(),
        challenge,
        Url::parse("https://ca.example/account/1").unwrap(),
        &AccountKey::generate().unwrap().public_key().thumbprint(),
    )
    .unwrap()
}

fn failure(result: Result<(), BoxError>) -> DnsProgramError {
    *result.unwrap_err().downcast().expect("it is of this type")
}
