//! Work that goes on by itself when whoever waits for it leaves.
//!
//! A write and the wake that belongs to it are one: a client that hangs up between them must not leave
//! behind what nobody knows of. Cheaper than a task for each request: there is one only for who left.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// See the module's text.
pub struct SeenThrough<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> SeenThrough<T> {
    /// To be awaited at once.
    pub fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for SeenThrough<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<T> {
        // Taken out meanwhile: work that panics is not gone on with.
        let Some(mut work) = self.0.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(ctx);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for SeenThrough<T> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and the next one asks the store.
        if let (Some(work), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// Work in two steps, and the ends to watch it by: it waits for the first to be let go.
    fn work() -> (SeenThrough<u8>, oneshot::Sender<()>, oneshot::Receiver<u8>) {
        let ((let_go, gate), (tell, told)) = (oneshot::channel::<()>(), oneshot::channel());
        let work = SeenThrough::new(async move {
            assert!(gate.await.is_ok(), "as scripted");
            let _ = tell.send(7);
            7
        });
        (work, let_go, told)
    }

    #[tokio::test]
    async fn it_is_done_for_who_waits_and_when_nobody_does() {
        let (work, let_go, told) = work_started().await;
        let_go.send(()).expect("it waits");
        assert_eq!((work.await, told.await), (7, Ok(7)));

        let (work, let_go, told) = work_started().await;
        drop(work);
        let_go.send(()).expect("it goes on");
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_panicked_is_not_gone_on_with() {
        let (work, let_go, told) = work_started().await;
        drop(let_go);
        assert!(tokio::spawn(work).await.is_err());
        assert!(told.await.is_err());
    }

    async fn work_started() -> (SeenThrough<u8>, oneshot::Sender<()>, oneshot::Receiver<u8>) {
        let (mut work, let_go, told) = work();
        assert!(futures_util::poll!(&mut work).is_pending());
        (work, let_go, told)
    }
}
