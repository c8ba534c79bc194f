use crate::account::payload;
use crate::certificate::Certificate;
use crate::error::{Error, Operation, ReplyFault};
use crate::order::Order;
use crate::protocol::OrderStatus;
use crate::session::SignedRequest;
use crate::x509::Csr;

/// Orders that renew by themselves (STAR, RFC 8739); made by
/// [`OrderBuilder::auto_renewal`](crate::OrderBuilder::auto_renewal).
impl Order {
    /// The current certificate of an order that renews by itself (§3.3), checked against the CSR
    /// that the order was finalized with.
    ///
    /// The CA has the next one at the latest when half of the lifetime is over. Fetched by a GET
    /// without a signature where the order allows it, else by a POST-as-GET. Once the order was
    /// canceled or has come to its end, the CA refuses by
    /// [`AutoRenewalCanceled`](crate::protocol::ProblemType::AutoRenewalCanceled) or
    /// [`AutoRenewalExpired`](crate::protocol::ProblemType::AutoRenewalExpired).
    pub async fn current_certificate(&self, csr: &Csr) -> Result<Certificate, Error> {
        let state = self.state();
        let Some(url) = state.star_certificate.clone() else {
            let fault = ReplyFault::NoCertificate;
            return Err(Error::reply(Operation::Order, self.url(), fault));
        };
        let unsigned = state
            .auto_renewal
            .as_ref()
            .is_some_and(|renewal| renewal.allow_certificate_get);
        if !unsigned {
            return Certificate::download(self.account().clone(), url, csr).await;
        }
        let session = self.account().client().session();
        let reply = session.get(Operation::Certificate, &url).await?;
        Certificate::read(self.account().clone(), url, &reply)?.checked(csr)
    }

    /// Ends an order that renews by itself (§3.1.2): no further certificate is issued. Those that
    /// were issued stay valid until they expire; they can't be revoked.
    ///
    /// When the reply is lost, the request is sent again. An order that is canceled already is no
    /// error.
    pub async fn cancel(&self) -> Result<(), Error> {
        let request = SignedRequest {
            repeat: true,
            ..self.account().request(
                Operation::Cancellation,
                self.url(),
                payload(&serde_json::json!({ "status": OrderStatus::Canceled }))?,
            )
        };
        match self.account().post(&request).await {
            Ok(reply) => self.update(&reply).map(|_| ()),
            Err(error) => match self.refresh().await {
                Ok(state) if state.status == OrderStatus::Canceled => Ok(()),
                _ => Err(error),
            },
        }
    }
}
