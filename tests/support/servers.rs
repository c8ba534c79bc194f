//! Where the programs come from that the tests run.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, io, thread};

/// The path of `pebble`, `pebble-challtestsrv` or `lego`.
///
/// Looks in `target/servers/`, then on the `PATH`, and else has `tests/fetch-server.sh` fetch the
/// package, which blocks the thread: for some seconds with a network, and at the most for the
/// limits written in the script.
///
/// `None` where the program cannot be had: the test says so on standard error and should return.
/// With `CERTWRIGHT_REQUIRE_SERVERS=1`, as in CI, that is a panic instead, so that no run passes
/// because its servers were missing.
pub fn binary(program: &str) -> Option<PathBuf> {
    let package = PACKAGES
        .iter()
        .find(|package| package.programs.contains(&program))
        .unwrap_or_else(|| panic!("no package has a program {program}"));

    match package.found.get_or_init(|| package.find()) {
        Ok(directory) => Some(directory.join(program)),
        Err(reason) => missing(package.name, reason),
    }
}

/// The path of BIND's `named`, from the `PATH` or where Debian puts it.
///
/// It is not fetched, as it needs some twenty libraries. Where it is missing, this does as
/// [`binary`] does.
pub fn named() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join("named"))
        .find(|file| file.is_file())
        .or_else(|| {
            missing(
                "BIND",
                "there is no `named`; install BIND 9, Debian's package bind9",
            )
        })
}

/// Says that a test is skipped for want of something, or fails it.
pub fn missing<T>(name: &str, reason: &str) -> Option<T> {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    if env::var_os("CERTWRIGHT_REQUIRE_SERVERS").is_some_and(|value| value == "1") {
        panic!("{test} needs {name}: {reason}");
    }

    // Not `eprintln!`: the test harness swallows what a passing test prints with that.
    let _ = writeln!(io::stderr(), "SKIPPED: {test} needs {name}: {reason}");
    None
}

struct Package {
    name: &'static str,
    /// The Debian suite that has the version the tests are written for.
    suite: &'static str,
    programs: &'static [&'static str],
    version_flag: &'static str,
    accepts: fn(major: u32, minor: u32) -> bool,
    /// The directory with the programs, or why there is none; looked for once a process.
    found: OnceLock<Result<PathBuf, String>>,
}

static PACKAGES: [Package; 2] = [
    Package {
        name: "pebble",
        suite: "sid",
        programs: &["pebble", "pebble-challtestsrv"],
        version_flag: "-version",
        accepts: |major, minor| (major, minor) >= (2, 10),
        found: OnceLock::new(),
    },
    Package {
        name: "lego",
        suite: "bookworm",
        programs: &["lego"],
        version_flag: "--version",
        accepts: |major, _| major == 4,
        found: OnceLock::new(),
    },
];

impl Package {
    fn find(&self) -> Result<PathBuf, String> {
        let target = target_directory();
        let fetched = target.join("servers").join(self.name).join("usr/bin");
        if self.has_programs(&fetched) {
            return Ok(fetched);
        }

        let path = env::var_os("PATH").unwrap_or_default();
        if let Some(directory) = env::split_paths(&path)
            .find(|directory| self.has_programs(directory) && self.has_version(directory))
        {
            return Ok(directory);
        }

        // Standard output and error go through a pipe, so that the reason can be shown with the
        // name of the test.
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fetch-server.sh");
        let output = Command::new("bash")
            .args([
                script.as_os_str(),
                OsStr::new(self.name),
                OsStr::new(self.suite),
            ])
            .env("CARGO_TARGET_DIR", target)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run bash: {error}"))?;
        if output.status.success() && self.has_programs(&fetched) {
            return Ok(fetched);
        }

        let mut reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let _ = write!(reason, " ({} of tests/fetch-server.sh)", output.status);
        Err(reason)
    }

    fn has_programs(&self, directory: &Path) -> bool {
        self.programs
            .iter()
            .all(|program| directory.join(program).is_file())
    }

    /// Debian's own builds call their version `dev`, which says nothing: on the `PATH` those are
    /// passed over, and the script fetches a package whose version it can read.
    fn has_version(&self, directory: &Path) -> bool {
        let Ok(output) = Command::new(directory.join(self.name))
            .arg(self.version_flag)
            .stdin(Stdio::null())
            .output()
        else {
            return false;
        };

        String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .filter_map(|word| {
                let mut numbers = word.trim_start_matches('v').split('.');
                let major = numbers.next()?.parse().ok()?;
                let minor = numbers.next()?.parse().ok()?;
                Some((major, minor))
            })
            .any(|(major, minor)| (self.accepts)(major, minor))
    }
}

/// Cargo's target directory, wherever it was put.
fn target_directory() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the tests' directory for temporary files is in the target directory")
}
