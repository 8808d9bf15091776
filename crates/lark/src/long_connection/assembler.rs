use std::collections::VecDeque;

use tokio::time::Instant;

use super::config::AssemblerConfig;

/// Assembles messages that arrive in several frames, in any order and interleaved with other messages.
#[derive(Debug)]
pub(super) struct Assembler {
    config: AssemblerConfig,
    /// Oldest first.
    incomplete: VecDeque<Incomplete>,
    bytes: usize,
}

#[derive(Debug)]
struct Incomplete {
    message_id: String,
    since: Instant,
    parts: Vec<Option<Vec<u8>>>,
}

impl Incomplete {
    fn bytes(&self) -> usize {
        self.parts.iter().flatten().map(Vec::len).sum()
    }
}

/// Why a part of a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PartError {
    #[error("part {seq} of a message of {sum} parts")]
    OutOfRange { seq: usize, sum: usize },
    #[error("a message of {sum} parts, more than the {max} allowed")]
    TooManyParts { sum: usize, max: usize },
    #[error("a split message without an id")]
    NoMessageId,
    #[error("parts of one message give different numbers of parts")]
    Inconsistent,
    #[error("a split message longer than the {max} bytes allowed")]
    TooLong { max: usize },
}

impl Assembler {
    pub(super) const fn new(config: AssemblerConfig) -> Self {
        Self { config, incomplete: VecDeque::new(), bytes: 0 }
    }

    /// Adds one part. Returns the complete payload when the part was the last one missing.
    pub(super) fn add(
        &mut self,
        message_id: &str,
        sum: usize,
        seq: usize,
        payload: Vec<u8>,
        now: Instant,
    ) -> Result<Option<Vec<u8>>, PartError> {
        self.drop_expired(now);
        if sum <= 1 {
            return Ok(Some(payload));
        }
        if message_id.is_empty() {
            return Err(PartError::NoMessageId);
        }
        if seq >= sum {
            return Err(PartError::OutOfRange { seq, sum });
        }
        if sum > self.config.max_parts {
            return Err(PartError::TooManyParts { sum, max: self.config.max_parts });
        }

        // The message is removed and inserted again by age, so that making room below cannot drop it.
        let known =
            self.incomplete.iter().position(|m| m.message_id == message_id).and_then(|i| self.remove(i));
        let mut message = known.unwrap_or_else(|| Incomplete {
            message_id: message_id.to_owned(),
            since: now,
            parts: vec![None; sum],
        });
        if message.parts.len() != sum {
            return Err(PartError::Inconsistent);
        }
        message.parts[seq] = Some(payload);
        if message.parts.iter().all(Option::is_some) {
            return Ok(Some(message.parts.into_iter().flatten().flatten().collect()));
        }
        self.store(message)?;
        Ok(None)
    }

    fn store(&mut self, message: Incomplete) -> Result<(), PartError> {
        let bytes = message.bytes();
        if bytes > self.config.max_bytes {
            return Err(PartError::TooLong { max: self.config.max_bytes });
        }
        while self.incomplete.len() >= self.config.max_messages || self.bytes + bytes > self.config.max_bytes
        {
            let Some(oldest) = self.remove(0) else { break };
            tracing::warn!(
                message_id = oldest.message_id,
                "too many split messages are incomplete: dropped the oldest"
            );
        }
        self.bytes += bytes;
        let place = self.incomplete.partition_point(|m| m.since <= message.since);
        self.incomplete.insert(place, message);
        Ok(())
    }

    fn drop_expired(&mut self, now: Instant) {
        while self.incomplete.front().is_some_and(|m| now.duration_since(m.since) > self.config.max_age) {
            if let Some(old) = self.remove(0) {
                let missing = old.parts.iter().filter(|p| p.is_none()).count();
                tracing::warn!(
                    message_id = old.message_id,
                    missing,
                    "a split message stayed incomplete: dropped it"
                );
            }
        }
    }

    fn remove(&mut self, index: usize) -> Option<Incomplete> {
        let removed = self.incomplete.remove(index)?;
        self.bytes -= removed.bytes();
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn assembler_of(max_messages: usize, max_bytes: usize) -> Assembler {
        Assembler::new(AssemblerConfig { max_messages, max_bytes, ..AssemblerConfig::default() })
    }

    #[test]
    fn add_single_part_returns_payload() {
        let now = Instant::now();
        assert_eq!(assembler_of(1, 1).add("", 0, 9, b"abc".to_vec(), now), Ok(Some(b"abc".to_vec())));
        assert_eq!(assembler_of(1, 1).add("", 1, 0, b"abc".to_vec(), now), Ok(Some(b"abc".to_vec())));
    }

    #[test]
    fn add_shuffled_interleaved_repeated_parts_returns_payloads() {
        let now = Instant::now();
        let mut assembler = assembler_of(10, 100);
        assert_eq!(assembler.add("a", 3, 2, b"3".to_vec(), now), Ok(None));
        assert_eq!(assembler.add("b", 2, 1, b"B".to_vec(), now), Ok(None));
        assert_eq!(assembler.add("a", 3, 0, b"1".to_vec(), now), Ok(None));
        assert_eq!(assembler.add("a", 3, 0, b"1".to_vec(), now), Ok(None));
        assert_eq!(assembler.add("b", 2, 0, b"A".to_vec(), now), Ok(Some(b"AB".to_vec())));
        assert_eq!(assembler.add("a", 3, 1, b"2".to_vec(), now), Ok(Some(b"123".to_vec())));
        assert_eq!((assembler.bytes, assembler.incomplete.len()), (0, 0));
    }

    #[test]
    fn add_after_max_age_drops_incomplete_message() {
        let now = Instant::now();
        let mut assembler = assembler_of(10, 100);
        assert_eq!(assembler.add("a", 2, 0, b"1".to_vec(), now), Ok(None));
        assert_eq!(assembler.add("a", 2, 1, b"2".to_vec(), now + Duration::from_millis(5001)), Ok(None));
        assert_eq!(assembler.bytes, 1);
        assert_eq!(
            assembler.add("a", 2, 0, b"1".to_vec(), now + Duration::from_secs(10)),
            Ok(Some(b"12".to_vec()))
        );
    }

    #[test]
    fn add_beyond_bounds_drops_oldest() {
        let now = Instant::now();
        let mut assembler = assembler_of(2, 10);
        for (i, id) in ["a", "b", "c"].iter().enumerate() {
            let at = now + Duration::from_millis(u64::try_from(i).unwrap());
            assert_eq!(assembler.add(id, 2, 0, b"1".to_vec(), at), Ok(None));
        }
        assert_eq!(
            assembler.incomplete.iter().map(|m| m.message_id.as_str()).collect::<Vec<_>>(),
            ["b", "c"]
        );
        assert_eq!(assembler.add("b", 3, 1, b"x".to_vec(), now), Err(PartError::Inconsistent));
        assert_eq!(assembler.add("d", 2, 0, vec![0; 10], now), Ok(None));
        assert_eq!((assembler.incomplete.len(), assembler.bytes), (1, 10));
        assert_eq!(assembler.add("e", 2, 0, vec![0; 11], now), Err(PartError::TooLong { max: 10 }));
        assert_eq!(assembler.incomplete.len(), 1);
    }

    #[test]
    fn add_invalid_part_returns_error() {
        let now = Instant::now();
        let mut assembler = assembler_of(2, 10);
        assert_eq!(assembler.add("", 2, 0, vec![], now), Err(PartError::NoMessageId));
        assert_eq!(assembler.add("a", 2, 2, vec![], now), Err(PartError::OutOfRange { seq: 2, sum: 2 }));
        assert!(matches!(
            assembler.add("a", usize::MAX, 0, vec![], now),
            Err(PartError::TooManyParts { .. })
        ));
        assert_eq!(assembler.bytes, 0);
    }
}
