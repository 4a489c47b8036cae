//! The part of a connection's configuration that other threads need for a send.

use posthouse_wire::Framing;

use crate::error::SendError;
use crate::sync::{Arc, RwLock};

/// The part of a configuration that other threads need for a send. Equal ones share one entry.
#[derive(Debug)]
pub(crate) struct SendConfig {
    /// The index in [`SendConfigs`].
    pub(crate) index: usize,
    pub(crate) framing: Framing,
    pub(crate) max_queue_bytes: usize,
}

/// The limits of a message on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendLimits {
    /// True exactly when kinds 4 to 31 belong to the protocol.
    pub(crate) hello: bool,
    pub(crate) max_payload_bytes: usize,
}

impl SendConfig {
    /// Appends one frame with a user's message.
    pub(crate) fn encode(
        &self,
        kind: u8,
        payload: &[u8],
        limits: SendLimits,
        out: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        if limits.hello && posthouse_wire::is_reserved_kind(kind) {
            return Err(SendError::ReservedKind(kind));
        }
        Ok(self.framing.encode(kind, payload, limits.max_payload_bytes, out)?)
    }
}

/// The send configurations of an endpoint's connections.
#[derive(Debug, Default)]
pub(crate) struct SendConfigs {
    entries: RwLock<Vec<Arc<SendConfig>>>,
}

impl SendConfigs {
    pub(crate) fn entry(&self, framing: &Framing, max_queue_bytes: usize) -> Arc<SendConfig> {
        let mut entries = self.entries.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let like = |config: &&Arc<SendConfig>| {
            config.framing == *framing && config.max_queue_bytes == max_queue_bytes
        };
        if let Some(config) = entries.iter().find(like) {
            return config.clone();
        }
        // An unused entry is replaced, so that an endpoint that connects with ever new framings
        // does not grow the table.
        let unused = |config: &Arc<SendConfig>| Arc::strong_count(config) == 1;
        let index = entries.iter().position(unused).unwrap_or(entries.len());
        let config = Arc::new(SendConfig { index, framing: framing.clone(), max_queue_bytes });
        if index == entries.len() {
            entries.push(config.clone());
        } else {
            entries[index] = config.clone();
        }
        config
    }

    pub(crate) fn get(&self, index: usize) -> Option<Arc<SendConfig>> {
        self.entries.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(index).cloned()
    }

    /// Returns all entries.
    pub(crate) fn all(&self) -> Vec<Arc<SendConfig>> {
        self.entries.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
