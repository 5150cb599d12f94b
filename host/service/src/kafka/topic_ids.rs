//! The ids of topics, which `rdkafka` does not offer. Each call's borrows end within its function.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as librdkafka;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;

/// The unique id of a topic, as Kafka's own tools write it. A topic that is deleted and recreated gets a different one.
pub(crate) type TopicId = String;

/// Zero, the id of topics on brokers before 2.8, which have no topic ids.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Returns the ids of those topics that exist and have one. Blocks until the broker answers, or the request times out.
#[expect(unsafe_code, reason = "rdkafka has no DescribeTopics")]
pub(crate) fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &BTreeSet<String>,
    patience: Duration,
) -> KafkaResult<BTreeMap<String, TopicId>> {
    // No topic has a name that contains a NUL.
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(topic.as_str()).ok()).collect();
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let patience_ms = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
    let operation = librdkafka::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the client is alive until the end of this function. Each of the other objects is created here, is not null
    // unless memory is exhausted, is used by this thread only, and is destroyed once by its guard, in reverse order; the
    // names are copied. The strings of the result are copied before the event that holds them is destroyed.
    unsafe {
        let native = client.native_ptr();
        let queue = Owned(librdkafka::rd_kafka_queue_new(native), librdkafka::rd_kafka_queue_destroy);
        let options =
            Owned(librdkafka::rd_kafka_AdminOptions_new(native, operation), librdkafka::rd_kafka_AdminOptions_destroy);
        librdkafka::rd_kafka_AdminOptions_set_request_timeout(options.0, patience_ms, ptr::null_mut(), 0);
        let named = librdkafka::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let named = Owned(named, librdkafka::rd_kafka_TopicCollection_destroy);
        librdkafka::rd_kafka_DescribeTopics(native, named.0, options.0, queue.0);
        // The request itself times out before this; the limit is only a safeguard.
        let event = librdkafka::rd_kafka_queue_poll(queue.0, patience_ms.saturating_add(1000));
        if event.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT.into()));
        }
        let event = Owned(event, librdkafka::rd_kafka_event_destroy);
        match librdkafka::rd_kafka_event_error(event.0) {
            NO_ERROR => Ok(described(event.0)),
            // A broker that does not support the request has no ids either.
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION => Ok(BTreeMap::new()),
            code => Err(KafkaError::AdminOp(code.into())),
        }
    }
}

/// Returns the ids in a response.
///
/// # Safety
/// The event must be alive.
#[expect(unsafe_code, reason = "rdkafka has no DescribeTopics")]
unsafe fn described(event: *mut librdkafka::rd_kafka_event_t) -> BTreeMap<String, TopicId> {
    let mut ids = BTreeMap::new();
    // SAFETY: the result and everything to which it points live as long as the event; it has `count` descriptions, and each
    // has a name and an id, which are NUL-terminated strings.
    unsafe {
        let result = librdkafka::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return ids;
        }
        let mut count = 0;
        let descriptions = librdkafka::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for index in 0..count {
            let description = *descriptions.add(index);
            let error = librdkafka::rd_kafka_TopicDescription_error(description);
            let id = librdkafka::rd_kafka_TopicDescription_topic_id(description);
            // The topic does not exist, or Belfry may not see it.
            if librdkafka::rd_kafka_error_code(error) != NO_ERROR || id.is_null() {
                continue;
            }
            let name = CStr::from_ptr(librdkafka::rd_kafka_TopicDescription_name(description));
            let id = CStr::from_ptr(librdkafka::rd_kafka_Uuid_base64str(id)).to_string_lossy();
            if id != NO_ID {
                // Kafka's tools use the URL-safe alphabet.
                ids.insert(name.to_string_lossy().into_owned(), id.replace('+', "-").replace('/', "_"));
            }
        }
    }
    ids
}

const NO_ERROR: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

/// An object of librdkafka that is destroyed when it is dropped.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    #[expect(unsafe_code, reason = "it belongs to librdkafka")]
    fn drop(&mut self) {
        // SAFETY: librdkafka created it for its owner, which destroys it once, and nothing borrows it any longer.
        unsafe { self.1(self.0) };
    }
}
