use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use futures_util::stream::{FuturesUnordered, TryStreamExt};

use crate::account::{self, Account, AccountBuilder, AccountCredentials};
use crate::error::{ConfigurationError, Error};
use crate::jose::{AccountKey, Signer};
use crate::protocol::{Directory, Extension, Url};
use crate::session::{Session, SessionOptions};
use crate::transport::Transport;
#[cfg(feature = "hyper")]
use crate::transport::{HyperTransport, HyperTransportBuilder};

/// A CA, ready to be used: where everything starts.
///
/// Clones share the directory, the nonces and the connections. One client per CA and process is
/// best; it may be used from any number of tasks at once.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    session: Session,
    concurrency: usize,
    wait_timeout: Duration,
}

impl Client {
    /// A client for the CA that has its directory at this URL.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), certwright::Error> {
    /// use certwright::{Client, LetsEncrypt};
    ///
    /// let staging = Client::builder(LetsEncrypt::Staging).build().await?;
    /// let other = Client::builder("https://ca.example/acme/directory")
    ///     .product("example-server/1.2")
    ///     .build()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn builder(directory: impl TryInto<Url, Error: Into<Error>>) -> ClientBuilder {
        ClientBuilder {
            directory: directory.try_into().map_err(Into::into),
            options: Ok(SessionOptions::default()),
            transport: None,
            #[cfg(feature = "hyper")]
            hyper: HyperTransport::builder(),
            concurrency: 16,
            wait_timeout: Duration::from_secs(5 * 60),
        }
    }

    /// Begins the creation of an account for a key (RFC 8555 §7.3).
    ///
    /// Where the CA has an account for the key already, that one is found, and nothing is created.
    /// The key is the caller's: store it first, and no failure can lose the account.
    ///
    /// ```no_run
    /// # async fn example(client: certwright::Client) -> Result<(), certwright::Error> {
    /// use certwright::jose::AccountKey;
    ///
    /// let account = client
    ///     .new_account(AccountKey::generate()?)
    ///     .contact("mailto:ops@example.com")
    ///     .agree_to_terms()
    ///     .create()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn new_account(&self, key: impl Signer) -> AccountBuilder {
        AccountBuilder::new(self.clone(), Arc::new(key))
    }

    /// Finds the account that a key has (§7.3.1), and creates none. `None` where the CA knows of no
    /// account with this key.
    ///
    /// For an account whose URL is lost, or to learn which of two keys is in force. The error for
    /// one that was deactivated is [`Error::Refused`], mostly with the problem `unauthorized`. When
    /// the reply is lost, the request is sent again: it changes nothing.
    ///
    /// ```no_run
    /// # async fn example(client: certwright::Client, pem: &str) -> Result<(), certwright::Error> {
    /// use certwright::jose::AccountKey;
    ///
    /// match client.find_account(AccountKey::from_pem(pem)?).await? {
    ///     Some(account) => println!("{}", account.url()),
    ///     None => println!("this CA has no account for the key"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn find_account(&self, key: impl Signer) -> Result<Option<Account>, Error> {
        account::find(self, Arc::new(key)).await
    }

    /// The account that was stored. Nothing is sent.
    ///
    /// Fails where the credentials belong to another directory, or the key can't be read.
    pub fn account(&self, credentials: &AccountCredentials) -> Result<Account, Error> {
        if credentials.directory() != self.session().directory_url() {
            return Err(ConfigurationError::OtherDirectory(credentials.directory().clone()).into());
        }
        let key = AccountKey::from_pkcs8_pem(credentials.key())?;
        Ok(self.account_with(credentials.account().clone(), key))
    }

    /// The account at a URL, whose key is held by a signer. Nothing is sent.
    pub fn account_with(&self, url: Url, signer: impl Signer) -> Account {
        Account::new(self.clone(), url, Arc::new(signer), None)
    }

    /// The CA's directory (§7.1.1), fetched anew where the known one is old.
    pub async fn directory(&self) -> Result<Arc<Directory>, Error> {
        self.session().directory().await
    }

    /// The session, for requests that certwright has no method for.
    pub fn session(&self) -> &Session {
        &self.shared.session
    }

    /// Fails where the CA does not say that it has an extension: no request is made whose answer is
    /// known.
    pub(crate) async fn require(&self, extension: Extension) -> Result<(), Error> {
        match self.directory().await?.meta.offers(extension) {
            true => Ok(()),
            false => Err(Error::ExtensionNotOffered(extension)),
        }
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.shared.concurrency
    }

    pub(crate) fn wait_timeout(&self) -> Duration {
        self.shared.wait_timeout
    }

    /// Runs futures, so many side by side as the client allows. The results stand in the order of
    /// the futures; the first error ends all.
    pub(crate) async fn side_by_side<T, F>(&self, mut futures: Vec<F>) -> Result<Vec<T>, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut results = Vec::with_capacity(futures.len());
        let rest = futures.split_off(futures.len().min(self.shared.concurrency));
        let mut numbers = 0..;
        let mut number = |future: F| {
            let index = numbers.next();
            future.map_ok(move |value| (index, value))
        };
        // Not `buffered`: there, a slow future at the front keeps others from being started. Nor
        // `buffer_unordered`, which keeps room for all futures until the last has ended.
        let mut running: FuturesUnordered<_> = futures.into_iter().map(&mut number).collect();
        let mut rest = rest.into_iter().map(number);
        while let Some(result) = running.try_next().await? {
            results.push(result);
            running.extend(rest.next());
        }
        results.sort_by_key(|(index, _)| *index);
        Ok(results.into_iter().map(|(_, value)| value).collect())
    }
}

/// Sets up a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    directory: Result<Url, Error>,
    options: Result<SessionOptions, ConfigurationError>,
    transport: Option<Arc<dyn Transport>>,
    #[cfg(feature = "hyper")]
    hyper: HyperTransportBuilder,
    concurrency: usize,
    wait_timeout: Duration,
}

impl ClientBuilder {
    /// Puts the application's product before certwright's in the `User-Agent` (RFC 8555 §6.1), such
    /// as `example-server/1.2 (+https://example.com)`, so that the CA can tell who asks.
    #[must_use]
    pub fn product(mut self, product: &str) -> Self {
        self.options = self.options.and_then(|options| options.product(product));
        self
    }

    /// The language that the CA's explanations should be in (§6.1). Default: `en`.
    #[must_use]
    pub fn accept_language(mut self, languages: &str) -> Self {
        self.options = self
            .options
            .and_then(|options| options.accept_language(languages));
        self
    }

    /// Tolerates http URLs of loopback addresses, for tests. By default every URL must be https.
    #[must_use]
    pub fn allow_loopback_http(mut self) -> Self {
        self.options = self.options.map(SessionOptions::allow_loopback_http);
        self
    }

    /// Sends requests to no other host and port than those of the directory's URL: a resource
    /// elsewhere is [`ReplyFault::OtherHost`](crate::error::ReplyFault::OtherHost), and nothing is
    /// sent there.
    ///
    /// By default requests go wherever the CA says, by https, as RFC 8555 has it, and each other
    /// host is logged once, as a warning. Lists of revoked certificates are fetched from anywhere:
    /// they are public, and signed.
    #[must_use]
    pub fn pin_host(mut self) -> Self {
        self.options = self.options.map(SessionOptions::pin_host);
        self
    }

    /// Trusts the roots in this PEM too, for a CA whose own site has no certificate from a public
    /// one. For more settings, [`HyperTransport::builder`] and [`transport`](Self::transport).
    #[cfg(feature = "hyper")]
    #[must_use]
    pub fn add_root_pem(mut self, pem: &str) -> Self {
        self.hyper = self.hyper.add_root_pem(pem);
        self
    }

    /// Sends requests by this transport. Default: a [`HyperTransport`].
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// How many requests of one order may be under way at once. Default: 16; at least 1.
    #[must_use]
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// For how long a request that the network or the CA failed is sent again, where that is safe.
    /// Default: 30 s. See [`SessionOptions::retry_timeout`].
    #[must_use]
    pub fn retry_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.map(|options| options.retry_timeout(timeout));
        self
    }

    /// How long to wait for the CA to validate or to issue, where a call names no time of its own.
    /// Default: 5 minutes.
    #[must_use]
    pub fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_timeout = timeout;
        self
    }

    /// Makes the client, and fetches the directory.
    pub async fn build(self) -> Result<Client, Error> {
        let transport = match self.transport {
            Some(transport) => transport,
            #[cfg(feature = "hyper")]
            None => Arc::new(self.hyper.build()?),
            #[cfg(not(feature = "hyper"))]
            None => return Err(ConfigurationError::NoTransport.into()),
        };
        let session = Session::new(transport, self.directory?, self.options?);
        session.directory().await?;
        Ok(Client {
            shared: Arc::new(Shared {
                session,
                concurrency: self.concurrency,
                wait_timeout: self.wait_timeout,
            }),
        })
    }
}
