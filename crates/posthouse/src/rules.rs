//! What a connection speaks: shared by all connections of a listener or of like targets.

use std::time::Duration;

use posthouse_wire::{Framing, HelloPolicy, Key, MAX_CONTROL_REPLIES, ReaderConfig, SessionConfig};

use crate::error::Unsendable;
use crate::options::{Hello, Options};
use crate::sync::{Arc, RwLock};
use crate::target::Target;

/// The largest payload of a peer that is not admitted, or has not said hello where it must.
pub(crate) const UNADMITTED_PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// The rules of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionRules {
    /// Its place in [`RulesTable`].
    pub(crate) index: usize,
    pub(crate) wire: ReaderConfig,
    pub(crate) session: SessionConfig,
    /// True exactly when the peer must be admitted by the handler.
    pub(crate) admission: bool,
}

impl ConnectionRules {
    pub(crate) fn is_native(&self) -> bool {
        matches!(self.wire.framing, Framing::Native)
    }

    /// Appends one frame with a user's message.
    pub(crate) fn encode(
        &self,
        kind: u8,
        payload: &[u8],
        (hello, payload_bytes_max): (bool, usize),
        out: &mut Vec<u8>,
    ) -> Result<(), Unsendable> {
        if hello && posthouse_wire::is_reserved_kind(kind) {
            return Err(Unsendable::OwnKind(kind));
        }
        let framing = &self.wire.framing;
        framing.encode(kind, payload, payload_bytes_max, out).map_err(Unsendable::Frame)
    }
}

/// All rules that an endpoint's connections speak by. Like ones are one entry.
#[derive(Debug, Default)]
pub(crate) struct RulesTable {
    entries: RwLock<Vec<Arc<ConnectionRules>>>,
}

impl RulesTable {
    pub(crate) fn for_listener(
        &self,
        framing: &Framing,
        key: Option<&Key>,
        options: &Options,
    ) -> Arc<ConnectionRules> {
        let required = key.is_some() || options.hello == Hello::Required;
        let hello = if required { HelloPolicy::Required } else { HelloPolicy::Optional };
        let admission = options.admission_ms > 0;
        self.add(framing, session(hello, key, Box::default(), options), admission, options)
    }

    pub(crate) fn for_target(&self, target: &Target, options: &Options) -> Arc<ConnectionRules> {
        let hello = if target.hello { HelloPolicy::Required } else { HelloPolicy::Never };
        let config = session(hello, target.key.as_ref(), target.credential.clone(), options);
        self.add(&target.framing, config, false, options)
    }

    fn add(
        &self,
        framing: &Framing,
        session: SessionConfig,
        admission: bool,
        options: &Options,
    ) -> Arc<ConnectionRules> {
        let (framing, max_payload_bytes) = (framing.clone(), options.max_frame);
        let wire = ReaderConfig { framing, max_payload_bytes };
        let mut entries = self.entries.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let like = |rules: &&Arc<ConnectionRules>| {
            rules.wire == wire && rules.session == session && rules.admission == admission
        };
        if let Some(rules) = entries.iter().find(like) {
            return rules.clone();
        }
        // Rules that no connection uses any more make room: endpoints that connect with ever new
        // credentials do not grow the table.
        let unused = |rules: &Arc<ConnectionRules>| Arc::strong_count(rules) == 1;
        let place = entries.iter().position(unused).unwrap_or(entries.len());
        let rules = Arc::new(ConnectionRules { index: place, wire, session, admission });
        if place == entries.len() {
            entries.push(rules.clone());
        } else {
            entries[place] = rules.clone();
        }
        rules
    }

    pub(crate) fn get(&self, index: usize) -> Option<Arc<ConnectionRules>> {
        self.entries.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(index).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<ConnectionRules>> {
        self.entries.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

fn session(
    hello: HelloPolicy,
    key: Option<&Key>,
    credential: Box<[u8]>,
    options: &Options,
) -> SessionConfig {
    let heartbeat = options.heartbeat_ms;
    SessionConfig {
        max_payload_bytes: options.max_frame as u32,
        heartbeat: (heartbeat > 0).then(|| Duration::from_millis(heartbeat)),
        key: key.cloned(),
        credential,
        hello,
        max_control_replies: MAX_CONTROL_REPLIES,
    }
}
