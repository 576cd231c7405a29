//! The caller's wish to end what is under way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::Error;

/// How often the caller is asked.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Asked now and then while a registry or a program is waited for; clones ask the same. By default
/// nobody ever wants the end.
#[derive(Clone, Default)]
pub(crate) struct Stop(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Stop {
    /// Transfers end with [`Error::Interrupted`] soon after `wanted` says so.
    pub(crate) fn when(wanted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(wanted)))
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.0.as_ref().is_some_and(|wanted| wanted())
    }

    /// What `work` comes to, unless the end is wanted first; `work` is dropped where it stands then.
    pub(super) async fn or<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (work, wanted) = (std::pin::pin!(work), std::pin::pin!(self.wanted()));
        match select(wanted, work).await {
            Either::Left(_) => Err(Error::Interrupted),
            Either::Right((result, _)) => result,
        }
    }

    async fn wanted(&self) {
        if self.0.is_none() {
            return std::future::pending().await;
        }
        while !self.is_wanted() {
            tokio::time::sleep(TICK).await;
        }
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({})", self.is_wanted())
    }
}
