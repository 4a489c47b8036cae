//! The configuration of connections: one for all connections of a listener, and one for each
//! outgoing connection.

use std::time::Duration;

use posthouse_wire::{Framing, HelloPolicy, Key, MAX_CONTROL_REPLIES, ReaderConfig, SessionConfig};

use crate::id::HandlerId;
use crate::listener::Listener;
use crate::options::{ConnectionOptions, Hello, OptionsError, Tuning};
use crate::record_layer::{LayerChoice, MakeRecordLayer};
use crate::send_config::{SendConfig, SendConfigs};
use crate::sync::Arc;
use crate::target::Target;

/// The maximum payload of a peer that is not admitted, or has not sent a required hello.
pub(crate) const MAX_UNADMITTED_PAYLOAD_BYTES: usize = 16 * 1024;

/// The role of this endpoint in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A peer connected to a listener.
    Accepts,
    /// This endpoint connects to a target.
    Connects,
}

/// The configuration of a connection.
pub(crate) struct ConnectionConfig {
    pub(crate) role: Role,
    pub(crate) handler: HandlerId,
    /// The name of the listener or of the target.
    pub(crate) origin: Arc<str>,
    pub(crate) wire: ReaderConfig,
    pub(crate) session: SessionConfig,
    pub(crate) options: ConnectionOptions,
    /// The queue length over which an accepted peer is not read from.
    pub(crate) queue_high_bytes: usize,
    pub(crate) send: Arc<SendConfig>,
    /// Makes the record layer of each connection, if it has one.
    pub(crate) record_layer: Option<Arc<dyn MakeRecordLayer>>,
}

impl ConnectionConfig {
    pub(crate) fn for_listener(
        listener: &Listener,
        handler: HandlerId,
        (sends, tuning): (&SendConfigs, &Tuning),
    ) -> Result<Arc<Self>, OptionsError> {
        let options = &listener.options;
        let key = listener.key.as_ref();
        options.validate()?;
        if key.is_some() && listener.framing != Framing::Native {
            return Err(OptionsError::new(
                "a key requires native framing: other framings cannot carry its proof",
            ));
        }
        let required = key.is_some() || options.hello == Hello::Required;
        let hello = if required { HelloPolicy::Required } else { HelloPolicy::Optional };
        let session = session(hello, key, Box::default(), options);
        let origin = listener.origin();
        let role = Role::Accepts;
        let speaks = (&listener.framing, &listener.layer, session);
        Ok(Self::new((role, handler, origin), speaks, options, (sends, tuning)))
    }

    pub(crate) fn for_target(
        target: &Target,
        handler: HandlerId,
        (sends, tuning): (&SendConfigs, &Tuning),
    ) -> Result<Arc<Self>, OptionsError> {
        let options = &target.options;
        options.validate()?;
        let hello = if target.hello { HelloPolicy::Required } else { HelloPolicy::Never };
        let session = session(hello, target.key.as_ref(), target.credential.clone(), options);
        let origin = target.origin();
        let role = Role::Connects;
        let speaks = (&target.framing, &target.layer, session);
        Ok(Self::new((role, handler, origin), speaks, options, (sends, tuning)))
    }

    fn new(
        (role, handler, origin): (Role, HandlerId, Arc<str>),
        (framing, layer, session): (&Framing, &LayerChoice, SessionConfig),
        options: &ConnectionOptions,
        (sends, tuning): (&SendConfigs, &Tuning),
    ) -> Arc<Self> {
        let wire =
            ReaderConfig { framing: framing.clone(), max_payload_bytes: options.max_frame_bytes };
        let send = sends.entry(framing, options.send_queue_bytes);
        let queue_high_bytes = tuning.queue_high_bytes.min(options.send_queue_bytes);
        let options = options.clone();
        let record_layer = layer.0.clone();
        Arc::new(Self {
            role,
            handler,
            origin,
            wire,
            session,
            options,
            queue_high_bytes,
            send,
            record_layer,
        })
    }

    pub(crate) fn is_native(&self) -> bool {
        matches!(self.wire.framing, Framing::Native)
    }

    /// Returns whether an accepted peer is admitted at once: no handshake, hello, proof or
    /// admission is due.
    pub(crate) fn admits_at_once(&self) -> bool {
        let needs_hello = self.is_native() && self.session.hello == HelloPolicy::Required;
        !needs_hello && self.record_layer.is_none() && self.options.admission_timeout_ms == 0
    }

    pub(crate) fn close_timeout(&self) -> Duration {
        Duration::from_millis(self.options.close_timeout_ms)
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
