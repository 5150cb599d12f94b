use uuid::{Uuid, uuid};

/// The namespace of notification ids: UUIDv5(DNS, "belfry.notification.v1").
pub const NOTIFICATION_NAMESPACE: Uuid = uuid!("d486df27-5c8c-52cc-97a5-44213b1c4c0a");

/// The identity of a notification. A recipient is notified at most once for each identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity<'a> {
    /// The event that caused it.
    pub source_event_id: Uuid,
    /// The projector's name, without its release, so that a new release does not notify again.
    pub projector: &'a str,
    /// The teacher who is notified.
    pub recipient: &'a str,
    /// The notification's type.
    pub notification_type: &'a str,
    /// Distinguishes several notifications of one type.
    pub key: &'a str,
}

impl Identity<'_> {
    /// Returns the id derived from the identity: UUIDv5 over the parts, each prefixed with its length in bytes (u32,
    /// big endian), so that no two identities share a name.
    pub fn id(&self) -> Uuid {
        let source = self.source_event_id.hyphenated().to_string();
        let parts = [source.as_str(), self.projector, self.recipient, self.notification_type, self.key];
        let mut name = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
        for part in parts {
            // Parts come from guests' answers, which are far smaller than 4 GiB.
            name.extend_from_slice(&(part.len() as u32).to_be_bytes());
            name.extend_from_slice(part.as_bytes());
        }
        Uuid::new_v5(&NOTIFICATION_NAMESPACE, &name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_derived_from_its_name() {
        assert_eq!(NOTIFICATION_NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"belfry.notification.v1"));
    }

    #[test]
    fn ids_follow_the_published_vectors() {
        for (source, recipient, id) in [
            ("a25fb85b-a5b0-523c-993b-2dc42602b95d", "teacher-anna", "fe17901f-b267-53fc-ab06-b54d181baae1"),
            ("8c408d5c-8134-5a87-b625-4f8c92f78558", "teacher-björn", "9ed9938b-bc6f-530a-a76b-c4bf50c811a8"),
        ] {
            let identity = Identity {
                source_event_id: source.parse().expect("a UUID"),
                projector: "teacher-results",
                recipient,
                notification_type: "batch_results_ready",
                key: "",
            };
            assert_eq!(identity.id().to_string(), id);
        }
    }

    #[test]
    fn lengths_keep_neighbouring_parts_apart() {
        let identity = |recipient, notification_type| Identity {
            source_event_id: Uuid::nil(),
            projector: "p",
            recipient,
            notification_type,
            key: "",
        };
        assert_ne!(identity("ab", "c").id(), identity("a", "bc").id());
    }
}
