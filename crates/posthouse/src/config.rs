//! The configuration of a connection: shared by all connections of a listener, and one for each
//! outgoing connection.

use std::time::Duration;

use posthouse_wire::{Framing, HelloPolicy, Key, MAX_CONTROL_REPLIES, ReaderConfig, SessionConfig};

use crate::erased::ErasedHandler;
use crate::error::SendError;
use crate::listener::Listener;
use crate::options::{ConnectionOptions, Hello, OptionsError};
use crate::shared::Shared;
use crate::sync::{Arc, RwLock};
use crate::target::Target;

/// The largest payload of a peer that is not admitted, or has not said hello where it must.
pub(crate) const MAX_UNADMITTED_PAYLOAD_BYTES: usize = 16 * 1024;

/// The configuration of a connection.
pub(crate) struct ConnectionConfig {
    pub(crate) handler: Arc<dyn ErasedHandler>,
    /// The name of the listener or of the target.
    pub(crate) origin: Arc<str>,
    pub(crate) wire: ReaderConfig,
    pub(crate) session: SessionConfig,
    pub(crate) options: ConnectionOptions,
    /// The queue length over which an accepted peer is not read from.
    pub(crate) queue_high_bytes: usize,
    pub(crate) send: Arc<SendConfig>,
}

/// The part of a configuration that other threads need to send; like ones are one entry.
#[derive(Debug)]
pub(crate) struct SendConfig {
    /// Its place in [`SendConfigs`].
    pub(crate) index: usize,
    framing: Framing,
    pub(crate) max_queue_bytes: usize,
}

/// The limits of a message on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendLimits {
    /// True exactly when kinds 4 to 31 are the protocol's.
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

impl ConnectionConfig {
    pub(crate) fn for_listener(
        listener: &Listener,
        handler: Arc<dyn ErasedHandler>,
        shared: &Shared,
    ) -> Result<Arc<Self>, OptionsError> {
        let (options, key) = (&listener.options, listener.key.as_ref());
        options.validate()?;
        if key.is_some() && listener.framing != Framing::Native {
            return Err(OptionsError::new("a key needs the native framing, for its proof"));
        }
        let required = key.is_some() || options.hello == Hello::Required;
        let hello = if required { HelloPolicy::Required } else { HelloPolicy::Optional };
        let session = session(hello, key, Box::default(), options);
        let origin = listener.origin();
        Ok(Self::new(handler, origin, &listener.framing, session, options, shared))
    }

    pub(crate) fn for_target(
        target: &Target,
        handler: Arc<dyn ErasedHandler>,
        shared: &Shared,
    ) -> Result<Arc<Self>, OptionsError> {
        let options = &target.options;
        options.validate()?;
        let hello = if target.hello { HelloPolicy::Required } else { HelloPolicy::Never };
        let session = session(hello, target.key.as_ref(), target.credential.clone(), options);
        let origin = target.origin();
        Ok(Self::new(handler, origin, &target.framing, session, options, shared))
    }

    fn new(
        handler: Arc<dyn ErasedHandler>,
        origin: Arc<str>,
        framing: &Framing,
        session: SessionConfig,
        options: &ConnectionOptions,
        shared: &Shared,
    ) -> Arc<Self> {
        let wire =
            ReaderConfig { framing: framing.clone(), max_payload_bytes: options.max_frame_bytes };
        let send = shared.sends.entry(framing, options.send_queue_bytes);
        let queue_high_bytes = shared.tuning.queue_high_bytes.min(options.send_queue_bytes);
        let options = options.clone();
        Arc::new(Self { handler, origin, wire, session, options, queue_high_bytes, send })
    }

    pub(crate) fn is_native(&self) -> bool {
        matches!(self.wire.framing, Framing::Native)
    }

    pub(crate) fn close_timeout(&self) -> Duration {
        Duration::from_millis(self.options.close_timeout_ms)
    }
}

/// The send configurations of an endpoint's connections.
#[derive(Debug, Default)]
pub(crate) struct SendConfigs {
    entries: RwLock<Vec<Arc<SendConfig>>>,
}

impl SendConfigs {
    fn entry(&self, framing: &Framing, max_queue_bytes: usize) -> Arc<SendConfig> {
        let mut entries = self.entries.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let like = |config: &&Arc<SendConfig>| {
            config.framing == *framing && config.max_queue_bytes == max_queue_bytes
        };
        if let Some(config) = entries.iter().find(like) {
            return config.clone();
        }
        // Entries that no connection uses any more make room: endpoints that connect with ever new
        // framings do not grow the table.
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

    /// Returns all of them.
    pub(crate) fn all(&self) -> Vec<Arc<SendConfig>> {
        self.entries.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

fn session(
    hello: HelloPolicy,
    key: Option<&Key>,
    credential: Box<[u8]>,
    options: &ConnectionOptions,
) -> SessionConfig {
    let heartbeat = options.heartbeat_ms;
    SessionConfig {
        max_payload_bytes: options.max_frame_bytes as u32,
        heartbeat: (heartbeat > 0).then(|| Duration::from_millis(heartbeat)),
        key: key.cloned(),
        credential,
        hello,
        max_control_replies: MAX_CONTROL_REPLIES,
    }
}
