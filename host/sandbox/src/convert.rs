//! Conversions between the model's types and the contract's types.

use belfry_model::{Draft, DraftAnswer, Envelope, Event, Policy, Priority, Withdrawal};

use crate::bindings::belfry::projector::{events as wit, types};
use crate::{ConfigKey, Description, Subscription};

pub(crate) fn context(envelope: &Envelope, subject: String) -> types::Context {
    types::Context {
        event_id: envelope.event_id.hyphenated().to_string(),
        event_type: envelope.event_type.clone(),
        occurred_at: envelope.occurred_at_ms,
        source_service: envelope.source_service.clone(),
        schema_version: envelope.schema_version,
        correlation_id: envelope.correlation_id.hyphenated().to_string(),
        subject,
    }
}

pub(crate) fn event(event: &Event, envelope: &Envelope) -> wit::Event {
    match event {
        Event::BatchResultsReadyV1(event) => wit::Event::BatchResultsReadyV1(wit::BatchResultsReadyV1 {
            batch_id: event.batch_id.clone(),
            user_id: event.user_id.clone(),
            total_essays: event.total_essays,
            completed_essays: event.completed_essays,
            overall_status: event.overall_status.clone(),
            processing_duration_seconds: event.processing_duration_seconds,
            phase_results: event
                .phase_results
                .iter()
                .map(|phase| wit::PhaseResult {
                    name: phase.name.clone(),
                    status: phase.status.clone(),
                    completed_count: phase.completed_count,
                    failed_count: phase.failed_count,
                    processing_time_seconds: phase.processing_time_seconds,
                })
                .collect(),
        }),
        Event::BatchAssessmentCompletedV1(event) => {
            wit::Event::BatchAssessmentCompletedV1(wit::BatchAssessmentCompletedV1 {
                batch_id: event.batch_id.clone(),
                user_id: event.user_id.clone(),
                assessment_job_id: event.assessment_job_id.clone(),
                rankings: event
                    .rankings
                    .iter()
                    .map(|ranking| wit::Ranking {
                        essay_id: ranking.essay_id.clone(),
                        rank: ranking.rank,
                        score: ranking.score,
                        letter_grade: ranking.letter_grade.clone(),
                        confidence_score: ranking.confidence_score,
                        confidence_label: ranking.confidence_label.clone(),
                    })
                    .collect(),
            })
        }
        Event::Other => wit::Event::Other(envelope.data_text.to_string()),
    }
}

pub(crate) fn answer(answer: types::Answer) -> DraftAnswer {
    DraftAnswer {
        notifications: answer.notifications.into_iter().map(draft).collect(),
        withdrawals: answer
            .withdrawals
            .into_iter()
            .map(|withdrawal| Withdrawal {
                recipient: withdrawal.recipient,
                notification_type: withdrawal.notification_type,
                thread: withdrawal.thread,
            })
            .collect(),
    }
}

fn draft(notification: types::Notification) -> Draft {
    Draft {
        recipient: notification.recipient,
        notification_type: notification.notification_type,
        category: notification.category,
        priority: match notification.priority {
            types::Priority::Low => Priority::Low,
            types::Priority::Standard => Priority::Standard,
            types::Priority::High => Priority::High,
            types::Priority::Immediate => Priority::Immediate,
            types::Priority::Critical => Priority::Critical,
        },
        payload: notification.payload,
        key: notification.key,
        action_required: notification.action_required,
        deadline_ms: notification.deadline,
        batch_id: notification.batch_id,
        class_id: notification.class_id,
        thread: notification.thread,
        not_before_ms: notification.not_before,
        expires_at_ms: notification.expires_at,
        policies: notification.policies.into_iter().map(policy).collect(),
    }
}

fn policy(policy: types::Policy) -> Policy {
    match policy {
        types::Policy::UnlessRepeated(window) => Policy::UnlessRepeated { key: window.key, seconds: window.seconds },
        types::Policy::Throttle(throttle) => {
            Policy::Throttle { key: throttle.key, seconds: throttle.seconds, limit: throttle.limit }
        }
        types::Policy::Digest(window) => Policy::Digest { key: window.key, seconds: window.seconds },
    }
}

pub(crate) fn description(description: types::Description) -> Description {
    Description {
        name: description.name,
        version: description.version,
        summary: description.summary,
        subscriptions: description
            .subscriptions
            .into_iter()
            .map(|subscription| Subscription { event_type: subscription.event_type, subject: subscription.subject })
            .collect(),
        config: description
            .config
            .into_iter()
            .map(|key| ConfigKey { name: key.name, required: key.required, default: key.default, help: key.help })
            .collect(),
        requires: description.requires,
    }
}
