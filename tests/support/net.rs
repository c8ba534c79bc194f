//! Ports and plain HTTP exchanges with the servers under test.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A port of 127.0.0.1 that is free for TCP and UDP, and is handed out once in this process.
///
/// A port that the kernel chooses for a bind to port 0 comes from the range that outgoing
/// connections take theirs from, and once released may serve as the source port of one before
/// the test binds it. These ports lie below that range, and start at a random place so that test
/// processes that run side by side seldom try the same.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: Mutex<Option<(u16, u16)>> = Mutex::new(None);

    let mut next = NEXT.lock().unwrap();
    let (start, mut handed_out) = next.unwrap_or_else(|| {
        let random = RandomState::new().build_hasher().finish();
        ((random % u64::from(COUNT)) as u16, 0)
    });
    while handed_out < COUNT {
        let port = FIRST + (start + handed_out) % COUNT;
        handed_out += 1;
        *next = Some((start, handed_out));
        let address = loopback(port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no free port is left");
}

/// `port` of 127.0.0.1.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The answer to a request made with [`exchange`].
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    ///
    /// # Panics
    ///
    /// When the status is not 200 or the body is not UTF-8.
    pub fn text(self) -> String {
        let body = String::from_utf8(self.body).expect("the body is UTF-8");
        assert_eq!(self.status, 200, "{body}");
        body
    }
}

/// Connects to a port of 127.0.0.1.
pub async fn connect(port: u16) -> io::Result<TcpStream> {
    timeout(PATIENCE, TcpStream::connect(loopback(port))).await?
}

/// One request and its answer, in HTTP/1.0 so that the body ends where the connection does.
pub async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<Response> {
    let mut request = format!(
        "{method} {path} HTTP/1.0\r\n\
         Host: localhost\r\n\
         User-Agent: certwright-tests\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len(),
    )
    .into_bytes();
    request.extend_from_slice(body);

    let mut response = Vec::new();
    timeout(PATIENCE, async {
        stream.write_all(&request).await?;
        stream.flush().await?;
        stream.read_to_end(&mut response).await
    })
    .await??;

    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response");
    let end = response
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(malformed)?;
    let status = std::str::from_utf8(&response[..end])
        .ok()
        .and_then(|head| head.split(' ').nth(1)?.parse().ok())
        .ok_or_else(malformed)?;
    Ok(Response {
        status,
        body: response.split_off(end + 4),
    })
}

/// Whether the DNS server at `port` answers a TXT query for `name` with `value`.
pub async fn has_txt(port: u16, name: &str, value: &str) -> io::Result<bool> {
    let answer = query_txt(loopback(port), name).await?;
    Ok(answer
        .windows(value.len())
        .any(|window| window == value.as_bytes()))
}

/// The values of the TXT records at a name, as a DNS server answers, in alphabetical order.
pub async fn txt(server: SocketAddr, name: &str) -> io::Result<Vec<String>> {
    let answer = query_txt(server, name).await?;
    let count = u16::from_be_bytes([answer[6], answer[7]]);
    // Behind the header and the question, which is there as it was asked.
    let mut at = 12 + name.trim_end_matches('.').len() + 2 + 4;
    let mut values = Vec::new();
    for _ in 0..count {
        // Labels, up to a pointer or the root's empty one (RFC 1035, section 4.1.4).
        while answer[at] != 0 && answer[at] < 0xc0 {
            at += 1 + usize::from(answer[at]);
        }
        at += if answer[at] == 0 { 1 } else { 2 };
        let is_txt = answer[at..at + 2] == [0, 16];
        let end = at + 10 + usize::from(u16::from_be_bytes([answer[at + 8], answer[at + 9]]));
        at += 10;
        let mut value = Vec::new();
        while is_txt && at < end {
            let string = &answer[at + 1..at + 1 + usize::from(answer[at])];
            value.extend_from_slice(string);
            at += 1 + string.len();
        }
        at = end;
        if is_txt {
            values.push(String::from_utf8_lossy(&value).into_owned());
        }
    }
    values.sort();
    Ok(values)
}

/// What a DNS server answers to a TXT query over UDP.
async fn query_txt(server: SocketAddr, name: &str) -> io::Result<Vec<u8>> {
    // RFC 1035, section 4.1: a header with an arbitrary identifier, recursion desired and one
    // question; the question is the name in labels, type TXT (16), class IN (1).
    let mut query = vec![0x43, 0x57, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        query.push(u8::try_from(label.len()).expect("a label is short"));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 16, 0, 1]);

    let own = match server {
        SocketAddr::V4(_) => loopback(0),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    };
    let socket = tokio::net::UdpSocket::bind(own).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut answer = [0; 512];
    let length = timeout(Duration::from_secs(1), socket.recv(&mut answer)).await??;
    Ok(answer[..length].to_vec())
}

/// Far more than a server on this machine takes for one answer, even on a busy one.
const PATIENCE: Duration = Duration::from_secs(10);
