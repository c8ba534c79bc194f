use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::breaker::{Breaker, Broken};

/// The body of a reply: whole, or cut halfway.
#[derive(Debug)]
pub(in crate::test_ca) struct ReplyBody {
    rest: Bytes,
    cut: Option<Cut>,
}

#[derive(Debug)]
struct Cut {
    breaker: Arc<Breaker>,
    /// How many octets are kept from the client.
    missing: u64,
    /// How many more turns others get, so that what was sent is on its way.
    turns: u8,
}

impl ReplyBody {
    pub(in crate::test_ca) fn whole(octets: Bytes) -> Self {
        Self {
            rest: octets,
            cut: None,
        }
    }

    /// Half of a body, which announces the length of the whole. Then the connection is closed.
    pub(in crate::test_ca) fn half(mut octets: Bytes, breaker: Arc<Breaker>) -> Self {
        let missing = octets.split_off(octets.len() / 2);
        Self {
            rest: octets,
            cut: Some(Cut {
                breaker,
                missing: u64::try_from(missing.len()).unwrap_or(u64::MAX),
                turns: 16,
            }),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if !self.rest.is_empty() {
            let octets = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(octets))));
        }
        let Some(cut) = &mut self.cut else {
            return Poll::Ready(None);
        };
        if let Some(turns) = cut.turns.checked_sub(1) {
            cut.turns = turns;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        cut.breaker.close();
        Poll::Ready(Some(Err(Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let missing = self.cut.as_ref().map_or(0, |cut| cut.missing);
        SizeHint::with_exact(rest.saturating_add(missing))
    }
}
