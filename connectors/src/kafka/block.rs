//! Copies what a record has out of the library's memory.

use bytes::{Bytes, BytesMut};
use rdkafka::message::{BorrowedMessage, Headers, Message};

/// Bytes that are copied into one allocation.
const BLOCK_BYTES: usize = 256 << 10;

/// Copies bytes behind each other, so that a record costs no allocation of its own.
#[derive(Default)]
pub(super) struct Block(BytesMut);

impl Block {
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        let Self(block) = self;
        if block.capacity() < bytes.len() {
            block.reserve(BLOCK_BYTES.max(bytes.len()));
        }
        block.extend_from_slice(bytes);
        block.split().freeze()
    }

    /// The headers with these names; of two with one name the last.
    pub(super) fn headers(&mut self, wanted: &[String], message: &BorrowedMessage<'_>) -> Vec<Option<Bytes>> {
        if wanted.is_empty() {
            return Vec::new();
        }
        let mut found = vec![None; wanted.len()];
        for header in message.headers().into_iter().flat_map(Headers::iter) {
            if let Some(index) = wanted.iter().position(|name| name == header.key) {
                found[index] = header.value.map(|value| self.copy(value));
            }
        }
        found
    }
}
