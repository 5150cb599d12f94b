//! `GET /v1/notifications/{event_id}`: a notification with its cause, its release and its deliveries.

use belfry_sandbox::AdmissionReport;
use belfry_store::{Activation, Delivery, LogEntry, Release, Withheld};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::wire::{named, raw};
use crate::clock::rfc3339;
use crate::releases::Registry;

/// One notification, sent or not.
#[derive(Serialize)]
pub(crate) struct NotificationView {
    pub(crate) event_id: Uuid,
    pub(crate) status: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) position: Option<i64>,
    pub(crate) recorded_at: String,
    /// The notification is not sent after this time; null if it does not expire or was not issued.
    pub(crate) expires_at: Option<String>,
    pub(crate) projector: String,
    pub(crate) release: String,
    pub(crate) release_id: i64,
    pub(crate) recipient: String,
    pub(crate) message: Option<Box<RawValue>>,
    pub(crate) cause: Option<CauseView>,
    /// The release that made it; null if the release is no longer stored.
    pub(crate) made_by: Option<MakerView>,
    /// The state of the delivery at each sink; empty if it was not issued.
    pub(crate) deliveries: Vec<DeliveryView>,
}

/// The release that made a notification.
#[derive(Serialize)]
pub(crate) struct MakerView {
    digest: String,
    config: Option<Box<RawValue>>,
    /// The contract that it was built against; null if a version of Belfry that did not record it made the release.
    contract: Option<String>,
    note: String,
    pushed_by: String,
    pushed_at: String,
    /// Who had activated it at that time, fully or as a canary; null if it was never activated.
    activated_by: Option<String>,
    activated_at: Option<String>,
    canary: bool,
}

impl MakerView {
    pub(crate) fn of(release: Release, activation: Option<Activation>) -> Self {
        let admission: Option<AdmissionReport> =
            release.admission.as_deref().and_then(|report| serde_json::from_str(report).ok());
        Self {
            digest: belfry_sandbox::Digest(release.digest).to_string(),
            config: RawValue::from_string(release.config).ok(),
            contract: admission.map(|report| report.contract),
            note: release.note,
            pushed_by: release.created_by,
            pushed_at: rfc3339(release.created_at_ms),
            canary: activation.as_ref().is_some_and(|activation| activation.canary),
            activated_at: activation.as_ref().map(|activation| rfc3339(activation.at_ms)),
            activated_by: activation.map(|activation| activation.by),
        }
    }
}

/// The state of a notification's delivery at one sink.
#[derive(Serialize)]
pub(crate) struct DeliveryView {
    sink: String,
    state: &'static str,
    /// When the sink had acknowledged it at the latest, or when it was left out or discarded.
    at: Option<String>,
    detail: Option<String>,
}

impl DeliveryView {
    pub(crate) fn of(delivery: Delivery) -> Self {
        let Delivery { sink, state, at_ms, detail } = delivery;
        Self { sink, state: state.as_str(), at: at_ms.map(rfc3339), detail }
    }
}

/// The event that caused a notification.
#[derive(Serialize)]
pub(crate) struct CauseView {
    pub(crate) event_id: Uuid,
    pub(crate) event_type: String,
    pub(crate) event_timestamp: String,
    pub(crate) source_service: String,
    pub(crate) correlation_id: Uuid,
    /// The producer's trace in W3C Trace Context format, if it sent one.
    pub(crate) traceparent: Option<String>,
    pub(crate) position: i64,
    pub(crate) recorded_at: String,
}

impl NotificationView {
    pub(crate) fn issued(entry: LogEntry, registry: &Registry) -> Self {
        let release_id = entry.release_id.unwrap_or_default();
        let (projector, release) = named(registry, release_id);
        Self {
            event_id: entry.event_id,
            // Entries recorded while `delivery.mode` was `observe` have no topic.
            status: if entry.topic.is_some() { "issued" } else { "observed" },
            reason: None,
            position: Some(entry.position),
            recorded_at: rfc3339(entry.created_at_ms),
            expires_at: entry.expires_at_ms.map(rfc3339),
            projector,
            release,
            release_id,
            recipient: entry.event_key,
            message: raw(entry.payload),
            cause: None,
            made_by: None,
            deliveries: Vec::new(),
        }
    }

    pub(crate) fn withheld(withheld: Withheld, registry: &Registry) -> Self {
        let (projector, release) = named(registry, withheld.release_id);
        Self {
            event_id: withheld.notification_id,
            status: "withheld",
            reason: Some(withheld.reason),
            position: None,
            recorded_at: rfc3339(withheld.created_at_ms),
            expires_at: None,
            projector,
            release,
            release_id: withheld.release_id,
            recipient: withheld.recipient,
            message: None,
            cause: None,
            made_by: None,
            deliveries: Vec::new(),
        }
    }
}
