-- Which topic a position belongs to, as Kafka names it (`kafka-topics.sh --describe` shows the id). A topic that is deleted
-- and made anew under its name has another id, and our positions mean nothing in it. NULL until the topic is looked at.
ALTER TABLE belfry.consumer_position ADD COLUMN topic_id text;

-- Where an event was read, such as TOPIC/PARTITION@OFFSET; NULL of one that was posted, and of notifications.
ALTER TABLE belfry.outbox ADD COLUMN source text;
