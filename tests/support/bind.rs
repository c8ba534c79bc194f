//! BIND 9, a name server that takes dynamic updates signed with TSIG.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use tempfile::TempDir;

use super::{net, servers};

/// A running `named`, killed when this is dropped.
///
/// It is authoritative for its zones and nothing else, at a port of its own. A zone's records may
/// be updated with any of the three [`KEYS`], in `other.test` the TXT records only; those of
/// `frozen.test` by nobody.
pub struct Bind {
    child: Child,
    address: SocketAddr,
    keys: PathBuf,
    /// Last, so that the server is gone before its files.
    directory: TempDir,
}

/// The keys that may update: algorithm, which is the name too, and secret in base64.
pub const KEYS: [(&str, &str); 3] = [
    (
        "hmac-sha256",
        "Y2VydHdyaWdodCB0ZXN0cyB3aXRoIEhNQUMgU0hBMjU2ISE=",
    ),
    (
        "hmac-sha384",
        "Y2VydHdyaWdodCB0ZXN0cyB3aXRoIEhNQUMgU0hBMzg0ISEhISEhISEhISEhISEhISEh",
    ),
    (
        "hmac-sha512",
        "Y2VydHdyaWdodCB0ZXN0cyB3aXRoIEhNQUMgU0hBNTEyISEhISEhISEhISEhISEhISEhISEhISEhISEhISEhISEhISE=",
    ),
];

impl Bind {
    /// A primary for `example.test`, `other.test` and `frozen.test`. In each, every name below it
    /// that has no record of its own has the address 127.0.0.1, its only name server is this one,
    /// and `away` is delegated to another server, which is not there.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]).await
    }

    /// The same, with `example.test` at this primary, 127.0.0.1, and at a secondary, ::1, which is
    /// not told of changes: it has the zone as it was at the start. BIND does not listen on other
    /// addresses of 127.0.0.0/8.
    pub async fn start_pair() -> Option<(Self, Self)> {
        if std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            return servers::missing("IPv6", "the host has no ::1");
        }
        let hosts = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        let primary = Self::start_with(&hosts).await?;
        let zones = format!(
            "zone \"example.test\" {{ type secondary; file \"example.test.secondary\"; \
             primaries {{ 127.0.0.1 port {}; }}; }};\n",
            primary.address.port()
        );
        let address = SocketAddr::from((hosts[1], primary.address.port()));
        let secondary = Self::launch(address, &zones, &[]).await;
        Some((primary, secondary.expect("the port is free on ::1")))
    }

    async fn start_with(hosts: &[IpAddr]) -> Option<Self> {
        servers::named()?;
        let zone = |name: &str, policy: &str| {
            format!("zone \"{name}\" {{ type primary; file \"{name}.zone\"; {policy}; }};\n")
        };
        let keys: String = KEYS
            .iter()
            .map(|(name, _)| format!("key \"{name}\"; "))
            .collect();
        let update = format!("allow-update {{ {keys} }}");
        let grant = |(name, _): &(&str, &str)| format!("grant {name} zonesub TXT; ");
        let grants: String = KEYS.iter().map(grant).collect();
        let zones = [
            zone("example.test", &update),
            zone("other.test", &format!("update-policy {{ {grants} }}")),
            zone("frozen.test", "allow-update { none; }"),
        ]
        .concat();
        let files = ["example.test", "other.test", "frozen.test"]
            .map(|zone| (format!("{zone}.zone"), zone_file(hosts)));

        // Between the choice of a port and the server's bind another process may take it.
        for _ in 0..5 {
            let address = net::loopback(net::free_port());
            if let Some(bind) = Self::launch(address, &zones, &files).await {
                return Some(bind);
            }
        }
        panic!("other processes took the ports for BIND five times over");
    }

    /// Starts a server and waits until it answers; `None` where the port is taken.
    async fn launch(address: SocketAddr, zones: &str, files: &[(String, String)]) -> Option<Self> {
        // In the target directory, from which programs can be run.
        let directory = tempfile::Builder::new()
            .prefix("certwright-bind-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let path = directory.path();
        let key = |(name, secret): &(&str, &str)| {
            format!("key \"{name}\" {{\n\talgorithm {name};\n\tsecret \"{secret}\";\n}};\n")
        };
        for (name, secret) in &KEYS {
            fs::write(path.join(format!("{name}.key")), key(&(name, secret))).unwrap();
        }
        for (name, content) in files {
            fs::write(path.join(name), content).unwrap();
        }
        let listen = match address.ip() {
            IpAddr::V4(host) => format!("{{ {host}; }};\nlisten-on-v6 {{ none; }}"),
            IpAddr::V6(host) => format!(
                "{{ none; }};\nlisten-on-v6 port {} {{ {host}; }}",
                address.port()
            ),
        };
        let keys: String = KEYS.iter().map(key).collect();
        let configuration = format!(
            "options {{\n\
             directory \"{}\";\n\
             listen-on port {} {listen};\n\
             pid-file none; lock-file none; session-keyfile \"session.key\";\n\
             recursion no; notify no; dnssec-validation no;\n\
             minimal-responses no;\n\
             }};\n\
             controls {{ }};\n{keys}{zones}",
            path.display(),
            address.port(),
        );
        fs::write(path.join("named.conf"), configuration).unwrap();

        let child = spawn(path);
        let mut bind = Self {
            child,
            address,
            keys: path.to_owned(),
            directory,
        };
        bind.wait_until_ready().await.then_some(bind)
    }

    /// Whether it has its zone, as opposed to another server at its port.
    async fn wait_until_ready(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let log = self.log();
            if log.contains("address in use") || log.contains("not listening on any") {
                return false;
            }
            let exited = self.child.try_wait().unwrap();
            if exited.is_none()
                && log.contains("running")
                && self.txt("ready.example.test").await == ["ready"]
            {
                return true;
            }
            assert!(
                exited.is_none() && Instant::now() < deadline,
                "named did not start ({exited:?}); it logged:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where it answers, over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file with the key of an algorithm, as `tsig-keygen` writes it.
    pub fn key_file(&self, algorithm: &str) -> PathBuf {
        self.keys.join(format!("{algorithm}.key"))
    }

    /// The values of the TXT records at a name, in alphabetical order.
    pub async fn txt(&self, name: &str) -> Vec<String> {
        net::txt(self.address, name).await.unwrap_or_default()
    }

    /// What it logged so far, to be shown when a test fails.
    pub fn log(&self) -> String {
        let log = fs::read(self.directory.path().join("named.log")).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl fmt::Debug for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bind")
            .field("address", &self.address)
            .field("directory", &self.directory.path())
            .finish_non_exhaustive()
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a copy of the program: AppArmor's profile for the one that is installed lets it use the
/// system's directories only.
fn spawn(directory: &Path) -> Child {
    let copy = directory.join("named");
    fs::copy(servers::named().expect("it was there"), &copy).unwrap();
    let log = File::create(directory.join("named.log")).unwrap();
    loop {
        let spawned = Command::new(&copy)
            .args(["-g", "-n", "1", "-c", "named.conf"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log.try_clone().unwrap())
            .spawn();
        match spawned {
            Ok(child) => return child,
            // Another thread was starting a program while the copy was open, so for a moment that
            // has it open, too.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("cannot start named: {error}"),
        }
    }
}

fn zone_file(hosts: &[IpAddr]) -> String {
    let mut text = "$TTL 60\n\
         @ SOA ns1 hostmaster 1 3600 600 86400 1\n\
         * A 127.0.0.1\n\
         @ A 127.0.0.1\n\
         ready TXT \"ready\"\n\
         _acme-challenge.alias CNAME answers\n\
         away NS ns.away\n\
         ns.away A 127.0.0.3\n"
        .to_owned();
    for (number, host) in (1..).zip(hosts) {
        let record = if host.is_ipv4() { "A" } else { "AAAA" };
        text.push_str(&format!("@ NS ns{number}\nns{number} {record} {host}\n"));
    }
    text
}
