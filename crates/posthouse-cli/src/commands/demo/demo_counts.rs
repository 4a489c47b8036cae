//! The events of the demonstration, counted by the callbacks of both endpoints.

/// The number of errors that are kept.
const MAX_ERRORS: usize = 10;

#[derive(Clone, Debug, Default)]
pub(crate) struct DemoCounts {
    /// The number of clients that connected, which is the number of the next one.
    pub(crate) connected: u32,
    /// The number of right echoes.
    pub(crate) echoes: u64,
    /// The number of right replies.
    pub(crate) replies: u64,
    /// The number of clients that joined their group.
    pub(crate) joined: u64,
    /// The number of group messages that were right and in order.
    pub(crate) group_messages: u64,
    /// The number of files that the server confirmed.
    pub(crate) files_sent: u64,
    /// The number of disconnections that the clients' endpoint reported.
    pub(crate) client_disconnects: u64,
    /// The number of disconnections that the server reported.
    pub(crate) server_disconnects: u64,
    /// The number of disconnections that the server reported as a reset.
    pub(crate) resets: u64,
    /// The number of disconnections that the server reported as an end by the client.
    pub(crate) ended: u64,
    /// The descriptions of the first unexpected events.
    pub(crate) errors: Vec<String>,
}

impl DemoCounts {
    pub(crate) fn add_error(&mut self, what: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(what);
        }
    }
}
