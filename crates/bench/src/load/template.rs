//! The bytes of an ingest request, whose per-event fields are patched in place: they have a constant width, so that a
//! request costs no formatting.

use anyhow::{Result, ensure};
use memchr::memmem;

use crate::{latency::now_ns, sink::FIRST_SEQ};

const SEQ: &str = "77777777";
const SENT: &str = "6666666666666666666";
/// What `${uuid}` stands for before it is patched.
pub(crate) const UUID: &str = "ffffffff-ffff-4fff-8fff-ffffffffffff";

/// An order-like JSON object of `size` bytes (at least about 200).
pub(crate) fn payload(size: usize) -> String {
    let mut text = format!(
        r#"{{"seq":{SEQ},"sent_ns":{SENT},"object":"order","livemode":false,"currency":"eur","amount":129900,"customer":{{"id":"cus_9f8e7d","email":"jane@example.com","country":"FR"}},"items":["#
    );
    let mut i = 0;
    while text.len() + 90 < size {
        let comma = if i == 0 { "" } else { "," };
        text += &format!(
            r#"{comma}{{"sku":"SKU-{i:04}","name":"Item number {i}","quantity":{},"price":{}}}"#,
            i % 5 + 1,
            1000 + i * 7
        );
        i += 1;
    }
    text += r#"],"note":""#;
    while text.len() + 2 < size {
        text.push('x');
    }
    text + "\"}"
}

/// A request and where its fields are.
#[derive(Clone)]
pub(crate) struct Template {
    /// The request as it was patched last.
    pub(crate) bytes: Vec<u8>,
    seq: Vec<usize>,
    sent: Vec<usize>,
    uuid: Vec<usize>,
    /// Tells the ids of one run from those of another: seconds since 1970.
    run: u32,
}

/// The requests of a run.
#[derive(Clone)]
pub(crate) struct Templates {
    /// Most of them.
    pub(crate) plain: Template,
    /// Every so manieth.
    pub(crate) repeatable: Option<(u64, Template)>,
}

impl Templates {
    /// The request of the events from `first` on, of which each has `batch`.
    pub(crate) fn of(&mut self, first: u64, batch: u64) -> &mut Template {
        match &mut self.repeatable {
            Some((every, template)) if (first / batch).is_multiple_of(*every) => template,
            Some(_) | None => &mut self.plain,
        }
    }
}

impl Template {
    /// Finds the fields in `bytes`, which hold [`payload`] `batch` times.
    ///
    /// # Errors
    /// When they hold it more or less often.
    pub(crate) fn new(bytes: Vec<u8>, batch: u64) -> Result<Self> {
        let find = |marker: &str| memmem::find_iter(&bytes, marker).collect::<Vec<_>>();
        let (seq, sent, uuid) = (find(SEQ), find(SENT), find(UUID));
        let once_each = seq.len() as u64 == batch && sent.len() as u64 == batch;
        ensure!(once_each, "the body must hold the payload once per event");
        Ok(Self { bytes, seq, sent, uuid, run: (now_ns() / 1_000_000_000) as u32 })
    }

    /// Makes it the request of the events from `first` on, sent at `sent_ns`.
    pub(crate) fn patch(&mut self, first: u64, sent_ns: u64) {
        for (k, at) in self.seq.iter().enumerate() {
            digits(&mut self.bytes[*at..at + SEQ.len()], FIRST_SEQ + first + k as u64);
        }
        for at in &self.sent {
            digits(&mut self.bytes[*at..at + SENT.len()], sent_ns);
        }
        for (k, at) in self.uuid.iter().enumerate() {
            let id = format!("{:08x}-0000-4000-8000-{:012x}", self.run, first + k as u64);
            self.bytes[*at..at + UUID.len()].copy_from_slice(id.as_bytes());
        }
    }
}

fn digits(out: &mut [u8], mut number: u64) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_size_and_is_json() {
        for size in [256, 1024, 40_000] {
            let text = payload(size);
            assert_eq!(text.len(), size);
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }

    #[test]
    fn patched_requests_hold_each_event_once() {
        let item = format!(r#"{{"seq":{SEQ},"sent_ns":{SENT},"id":"{UUID}"}}"#);
        let mut template = Template::new(format!("{item}{item}").into_bytes(), 2).unwrap();
        template.patch(5, 1_700_000_000_000_000_000);
        let text = String::from_utf8(template.bytes).unwrap();
        assert!(text.contains(r#""seq":10000005,"sent_ns":1700000000000000000"#));
        assert!(text.contains(r#""seq":10000006,"sent_ns":1700000000000000000"#));
        assert!(!text.contains(UUID));
    }

    #[test]
    fn a_body_without_the_payload_is_refused() {
        assert!(Template::new(b"{}".to_vec(), 1).is_err());
    }
}
