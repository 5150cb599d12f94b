use tokio::sync::watch;

/// Waits until the service stops.
pub(crate) async fn stopped(stopping: &watch::Receiver<bool>) {
    let _ = stopping.clone().wait_for(|stopping| *stopping).await;
}
