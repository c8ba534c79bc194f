use std::sync::{Arc, Mutex, PoisonError};

use hyper::rt::Executor;
use tokio::task::JoinSet;

/// Every task of one CA, so that none outlives it.
///
/// That takes an executor of our own: hyper runs each request of an HTTP/2 connection as a task
/// that the end of the connection does not end.
#[derive(Clone, Debug)]
pub(super) struct Tasks(Arc<Mutex<Option<JoinSet<()>>>>);

impl Tasks {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(JoinSet::new()))))
    }

    /// Starts a task; once the CA is shut down, drops it instead.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tasks) = &mut *tasks else { return };
        // Those that are over must not pile up.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    pub(super) fn abort(&self) {
        drop(self.take());
    }

    /// Aborts all tasks and waits until they are gone.
    pub(super) async fn shutdown(&self) {
        if let Some(mut tasks) = self.take() {
            tasks.shutdown().await;
        }
    }

    fn take(&self) -> Option<JoinSet<()>> {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.take()
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        self.spawn(async move {
            task.await;
        });
    }
}
