//! The headers of Kafka records. `rdkafka` panics at a name that is not UTF-8, so they are read from librdkafka.

use std::ffi::{CStr, c_void};
use std::ptr;

use rdkafka::bindings as librdkafka;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

const NO_ERROR: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

/// Returns a record's headers, in order. Names are bytes: Kafka accepts any, and `rdkafka` panics at one that is not UTF-8.
#[expect(unsafe_code, reason = "rdkafka's safe headers panic at a name that is not UTF-8, and anyone can write one")]
pub(crate) fn headers<'m>(message: &'m BorrowedMessage<'_>) -> Vec<(&'m [u8], Option<&'m [u8]>)> {
    let mut native = ptr::null_mut();
    // SAFETY: the message is alive, and nothing else uses it during the call: threads do not share a borrowed message.
    if unsafe { librdkafka::rd_kafka_message_headers(message.ptr(), &mut native) } != NO_ERROR {
        // The message has no headers, or they cannot be read.
        return Vec::new();
    }
    // SAFETY: the headers were just returned, and belong to the message.
    let count = unsafe { librdkafka::rd_kafka_header_cnt(native) };
    let mut headers = Vec::with_capacity(count);
    for index in 0..count {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null::<c_void>(), 0);
        // SAFETY: as above; the three are written if and only if there is no error.
        let found = unsafe { librdkafka::rd_kafka_header_get_all(native, index, &mut name, &mut value, &mut size) };
        if found != NO_ERROR {
            break;
        }
        // SAFETY: a name is NUL-terminated, a value has `size` bytes; both belong to the message, which outlives 'm, and
        // are never written to.
        headers.push(unsafe {
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            (CStr::from_ptr(name).to_bytes(), value)
        });
    }
    headers
}
