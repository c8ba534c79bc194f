//! Solves http-01 for several web servers behind one name: the answers are in a store that all of
//! them read, so that it does not matter which one the CA asks.
//!
//! ```sh
//! cargo run --example own_solver --features test-ca # at a CA inside this process
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use certwright::jose::AccountKey;
use certwright::protocol::{ChallengeType, Identifier};
use certwright::solver::{ChallengeSolver, Presentation};
use certwright::test_ca::TestCa;
use certwright::{BoxError, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Key authorizations by their tokens. A database that all nodes reach would have its place.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<BTreeMap<String, String>>>);

impl Store {
    fn put(&self, token: &str, key_authorization: &str) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(token.to_owned(), key_authorization.to_owned());
    }

    fn get(&self, token: &str) -> Option<String> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(token).cloned()
    }

    fn remove(&self, token: &str) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.remove(token);
    }
}

/// Puts answers into the store, and waits until each node serves them.
struct StoreSolver {
    store: Store,
    nodes: Vec<SocketAddr>,
}

#[async_trait]
impl ChallengeSolver for StoreSolver {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        *challenge_type == ChallengeType::Http01 && challenge_type.can_validate(identifier)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        let answer = presentation.key_authorization();
        let (token, answer) = presentation.token().zip(answer).ok_or("no token")?;
        self.store.put(token.as_str(), answer.as_str());
        Ok(())
    }

    /// A store takes its time to reach all nodes. A failed validation would cost an order.
    async fn wait(&self, presentation: &Presentation) -> Result<(), BoxError> {
        let answer = presentation.key_authorization();
        let (token, answer) = presentation.token().zip(answer).ok_or("no token")?;
        for node in &self.nodes {
            let found = timeout(Duration::from_secs(10), fetch(*node, token.as_str())).await??;
            if found != answer.as_str() {
                return Err(format!("{node} does not serve the answer").into());
            }
            println!("{node} serves the answer for {}", presentation.identifier());
        }
        Ok(())
    }

    /// It needs nothing but the token, so that it works in another process, too.
    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        if let Some(token) = presentation.token() {
            self.store.remove(token.as_str());
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::default();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        nodes.push(listener.local_addr()?);
        tokio::spawn(serve(listener, store.clone()));
    }
    let port = nodes.last().ok_or("there is no node")?.port();
    let ca = TestCa::builder().http01_port(port).start().await?;

    let client = Client::builder(ca.directory_url().as_str())
        .add_root_pem(ca.root_pem())
        .build()
        .await?;
    let account = client
        .new_account(AccountKey::generate()?)
        .agree_to_terms()
        .create()
        .await?;
    let solver = StoreSolver {
        store: store.clone(),
        nodes,
    };
    let issued = account
        .issue(["example.com", "www.example.com"])
        .solver(solver)
        .await?;
    println!("certificate  {}", issued.certificate().url());
    let left = store.0.lock().unwrap_or_else(PoisonError::into_inner).len();
    println!("{left} answers are left in the store");
    Ok(())
}

/// A node: answers requests from the store.
async fn serve(listener: TcpListener, store: Store) {
    while let Ok((stream, _)) = listener.accept().await {
        let answered = answer(stream, store.clone());
        tokio::spawn(timeout(Duration::from_secs(10), answered));
    }
}

async fn answer(mut stream: TcpStream, store: Store) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8_192 {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let token = path.strip_prefix("/.well-known/acme-challenge/");
    let (status, body) = match token.and_then(|token| store.get(token)) {
        Some(answer) => ("200 OK", answer),
        None => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

/// What a node serves for a token.
async fn fetch(node: SocketAddr, token: &str) -> Result<String, BoxError> {
    let mut stream = TcpStream::connect(node).await?;
    let request = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {node}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    stream.take(8_192).read_to_string(&mut reply).await?;
    let (_, body) = reply.split_once("\r\n\r\n").ok_or("no reply")?;
    Ok(body.to_owned())
}
