-- Which topic a position belongs to, as Kafka names it. A topic that is deleted and made anew under its name has another id,
-- and our positions mean nothing in it. NULL until the topic is looked at.
ALTER TABLE consumer_position ADD COLUMN topic_id TEXT;

-- Where an event was read, such as TOPIC/PARTITION@OFFSET; NULL of one that was posted, and of notifications.
ALTER TABLE outbox ADD COLUMN source TEXT;
