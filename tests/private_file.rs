//! Files with secrets are whole or not there, and nobody else's to read.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::{env, fs, thread};

use certwright::private_file;

/// All names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;

    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn writes_and_replaces() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    for content in ["first", "", "a second, longer one", "third"] {
        private_file::write(&path, content).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(names(directory.path()), ["key.pem"]);
        #[cfg(unix)]
        assert_eq!(mode(&path), 0o600);
    }
    let long = directory.path().join("k".repeat(250));
    private_file::write(&long, "content").unwrap();
    assert_eq!(fs::read_to_string(&long).unwrap(), "content");
}

#[cfg(unix)]
#[test]
fn narrows_what_was_wide_and_follows_no_link() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    // Who has it open already does not see what is written.
    let open = fs::File::open(&path).unwrap();
    private_file::write(&path, "new").unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(std::io::read_to_string(open).unwrap(), "old");

    let target = directory.path().join("target");
    let link = directory.path().join("link");
    fs::write(&target, "untouched").unwrap();
    symlink(&target, &link).unwrap();
    private_file::write(&link, "new").unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
    assert!(!link.is_symlink());
    assert_eq!(mode(&link), 0o600);
}

#[test]
fn what_fails_leaves_nothing_behind_and_says_which_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("within"), "").unwrap();
    let error = private_file::write(&path, "new").unwrap_err();
    assert_eq!(error.path, path);
    assert!(error.to_string().contains("key.pem"), "{error}");
    assert_eq!(names(directory.path()), ["key.pem"]);
    assert_eq!(names(&path), ["within"]);

    for path in [
        directory.path().join("missing").join("key.pem"),
        "..".into(),
        "".into(),
    ] {
        private_file::write(&path, "new").unwrap_err();
    }
    assert_eq!(names(directory.path()), ["key.pem"]);
}

#[test]
fn readers_see_one_content_or_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let path: Arc<Path> = directory.path().join("key.pem").into();
    let contents = ["a".repeat(100_000), "b".repeat(50_000)];
    private_file::write(&path, &contents[0]).unwrap();
    thread::scope(|scope| {
        for content in &contents {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..50 {
                    private_file::write(path, content).unwrap();
                }
            });
        }
        for _ in 0..200 {
            let read = fs::read_to_string(&path).unwrap();
            assert!(contents.contains(&read), "{} octets", read.len());
        }
    });
    assert_eq!(names(directory.path()), ["key.pem"]);
}

/// Runs [`writes_as_told`] in a process of its own, after these commands of the shell.
#[cfg(unix)]
fn in_shell(commands: &str, path: &Path) -> Output {
    let program = env::current_exe().unwrap();
    Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{commands}\nexec \"$0\" --ignored --exact writes_as_told --nocapture"
        ))
        .arg(program)
        .env(PATH, path)
        .output()
        .unwrap()
}

const PATH: &str = "CERTWRIGHT_TEST_PRIVATE_FILE";

#[test]
#[ignore = "run by others, in a process of its own"]
fn writes_as_told() {
    let path = PathBuf::from(env::var_os(PATH).unwrap());
    private_file::write(path, "new content").unwrap();
}

#[cfg(unix)]
#[test]
fn the_umask_changes_nothing() {
    for umask in ["000", "022", "077", "777"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let output = in_shell(&format!("umask {umask}"), &path);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(mode(&path), 0o600, "{umask}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new content");
    }
}

/// A limit on the size of files makes the first octet fail, as a disk that is full does.
#[cfg(unix)]
#[test]
fn a_full_disk_and_a_killed_process_leave_the_old_file() {
    for (commands, left) in [
        ("trap '' XFSZ; ulimit -f 0", 0),
        // Here the kernel kills the process.
        ("ulimit -c 0; ulimit -f 0", 1),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        fs::write(&path, "old").unwrap();
        let output = in_shell(commands, &path);
        assert!(!output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let names = names(directory.path());
        assert_eq!(names.len(), 1 + left, "{names:?}");
        for name in names.iter().filter(|name| *name != "key.pem") {
            let unfinished = directory.path().join(name);
            assert_eq!(mode(&unfinished), 0o600);
            assert_eq!(fs::read(unfinished).unwrap(), b"");
        }
    }
}
