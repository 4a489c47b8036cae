//! The handle of a running endpoint, which can listen and connect at the same time.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use posthouse_io::{Address, ListenOptions};

use crate::builder::Builder;
use crate::callbacks::Callbacks;
use crate::close::{Close, HandlerResult};
use crate::config::ConnectionConfig;
use crate::contained::Contained;
use crate::endpoint_timers::{Repeated, TimerTask};
use crate::erased::{View, with_peer};
use crate::error::{ConnectError, ListenError, RunError, SendError, StartError, WouldDeadlock};
use crate::group::Group;
use crate::handler::Handler;
use crate::id::HandlerId;
use crate::id::PeerId;
use crate::listener::Listener;
use crate::listeners::{Accepted, ListenerHandle};
use crate::mailbox::PeerPost;
use crate::options::{EndpointOptions, Layout, OptionsError, Tuning};
use crate::output::Output;
use crate::peer::Peer;
use crate::registry::PeerInfo;
use crate::send_config::SendConfigs;
use crate::shared::{Guard, SendBound, Shared};
use crate::stats::Stats;
use crate::sync::{Arc, Weak};
use crate::target::Target;

/// A handle of a running endpoint, bound to one of the endpoint's handlers. It is `Clone + Send +
/// Sync`. Every call is safe from every thread and from every callback.
///
/// One endpoint can listen on several addresses ([`listen`](Self::listen)), make connections
/// ([`connect`](Self::connect)) and have several handlers ([`attach`](Self::attach)) at the same
/// time. Any thread can send to a connection by its [`PeerId`], which [`Peer::id`] returns:
///
/// ```no_run
/// use posthouse::{Endpoint, Handler, HandlerResult, Message, Peer};
///
/// struct Quotes;
///
/// impl Handler for Quotes {
///     type State = ();
///
///     fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
///         let (endpoint, id, symbol) = (peer.endpoint().clone(), peer.id(), message.to_vec());
///         // Long work: here on a thread of its own; a tokio task does the same.
///         std::thread::spawn(move || {
///             let quote = symbol.to_ascii_uppercase();
///             endpoint.send(id, 40, &quote).unwrap_or_else(|error| println!("{id}: {error}"));
///         });
///         Ok(())
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     Ok(Endpoint::builder(Quotes).listen("127.0.0.1:9990").start()?.wait()?)
/// }
/// ```
///
/// Dropping the last handle shuts the endpoint down with
/// [`shutdown_timeout_ms`](crate::EndpointOptions::shutdown_timeout_ms), and does not wait.
pub struct Endpoint<H: Handler> {
    shared: Arc<Shared>,
    handler: Arc<H>,
    handler_id: HandlerId,
    /// `None` for a handle that is lent to callbacks and does not keep the endpoint running.
    guard: Option<Arc<Guard>>,
}

impl<H: Handler> Clone for Endpoint<H> {
    fn clone(&self) -> Self {
        // A clone of a handle that was lent to a callback keeps the endpoint running, unless
        // another thread drops the last handle at this moment.
        let guard = self.guard.clone();
        let guard = guard.or_else(|| self.shared.guard.get().and_then(Weak::upgrade));
        Self { guard, ..self.lent() }
    }
}

impl<H: Handler> fmt::Debug for Endpoint<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("backend", &self.shared.selected.backend)
            .field("listening", &self.addresses())
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Endpoint<H> {
    /// Returns a builder of an endpoint with this handler.
    pub fn builder(handler: H) -> Builder<H> {
        Builder::new(handler)
    }

    /// Makes the first handle of an endpoint that has not started.
    pub(crate) fn first(shared: Arc<Shared>, handler: H) -> Self {
        let handler_id = shared.next_handler().expect("the first handler");
        Self { shared, handler: Arc::new(handler), handler_id, guard: None }
    }

    /// Makes the first handle one that keeps the endpoint running.
    pub(crate) fn guarded(mut self) -> Self {
        let guard = Arc::new(Guard { shared: Arc::downgrade(&self.shared) });
        let set = self.shared.guard.set(Arc::downgrade(&guard));
        assert!(set.is_ok(), "an endpoint has one first handle");
        self.guard = Some(guard);
        self
    }

    /// Makes a handle that does not keep the endpoint running.
    fn lent(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            handler: self.handler.clone(),
            handler_id: self.handler_id,
            guard: None,
        }
    }

    fn view(&self) -> Arc<View<H>> {
        Arc::new(View { endpoint: self.lent() })
    }

    fn send_configs(&self) -> (&SendConfigs, &Tuning) {
        (&self.shared.sends, &self.shared.tuning)
    }

    /// Adds another handler, for another kind of connection with its own state, and returns a
    /// handle of the same endpoint that is bound to that handler. Listeners and connections made
    /// through the returned handle have the new handler. Workers, groups, limits, statistics and
    /// shutdown are the same.
    ///
    /// [`send`](Self::send), [`close`](Self::close) and groups reach the connections of every
    /// handler. [`run`](Self::run) reaches only connections of the handler that its handle is bound
    /// to. An attached handler costs some 100 bytes while a handle, a listener or a connection uses
    /// it.
    ///
    /// ```
    /// use posthouse::{Endpoint, Handler, Listener, Framing};
    ///
    /// struct Devices;
    /// impl Handler for Devices {
    ///     type State = u32;
    /// }
    ///
    /// struct Operators;
    /// impl Handler for Operators {
    ///     type State = String;
    /// }
    ///
    /// let devices = Endpoint::builder(Devices).start()?;
    /// let operators = devices.attach(Operators)?;
    /// devices.listen(Listener::new("127.0.0.1:0").framing(Framing::Lines))?;
    /// operators.listen("127.0.0.1:0")?;
    /// # Ok::<(), posthouse::StartError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`StartError::Shutdown`] once the endpoint shuts down, [`StartError::TooManyHandlers`] if
    /// 32,767 handlers have been attached to the endpoint since it started.
    pub fn attach<K: Handler>(&self, handler: K) -> Result<Endpoint<K>, StartError> {
        if self.shared.lifecycle.shutdown_deadline().is_some() {
            return Err(StartError::Shutdown);
        }
        let handler_id = self.shared.next_handler().ok_or(StartError::TooManyHandlers)?;
        let Self { shared, guard, .. } = self.clone();
        Ok(Endpoint { shared, handler: Arc::new(handler), handler_id, guard })
    }

    /// Returns the handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// Adds a listener while the endpoint runs. The returned handle has the bound address, and can
    /// stop the listener.
    ///
    /// The call looks a host name up, and blocks for as long as the system's resolver takes, for 10
    /// seconds at most.
    ///
    /// # Errors
    ///
    /// [`ListenError`] in these cases: the text is not an address; the host name cannot be looked
    /// up; a callback makes the call with a host name; the address cannot be bound; an option is
    /// out of its bounds; a key is combined with a framing other than native; the endpoint has
    /// 65,535 listeners; the endpoint shuts down.
    pub fn listen(&self, listener: impl Into<Listener>) -> Result<ListenerHandle, ListenError> {
        let listener = listener.into();
        let text = || listener.to_string();
        let config =
            ConnectionConfig::for_listener(&listener, self.handler_id, self.send_configs())
                .map_err(|error| ListenError::Options { address: text(), error })?;
        let addresses = self.addresses_of(&listener)?;
        let dual_stack = listener.dual_stack;
        if dual_stack && !addresses.iter().all(|at| at.socket_addr().is_ipv6()) {
            let error = OptionsError::new("dual_stack needs an IPv6 address: [::]");
            return Err(ListenError::Options { address: text(), error });
        }
        self.shared.check_descriptors();
        let backlog = self.shared.tuning.backlog;
        let options = ListenOptions { backlog, dual_stack, ..ListenOptions::default() };
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match self.shared.port.listen(address, options) {
                Ok(bound) => {
                    return {
                        let accepted = Accepted { config, handler: self.view() };
                        self.shared.listeners.add(&self.shared, bound, accepted)
                    };
                }
                Err(failed) => error = failed,
            }
        }
        Err(ListenError::Bind { address: text(), error })
    }

    fn addresses_of(&self, listener: &Listener) -> Result<Vec<Address>, ListenError> {
        let name = listener.address.as_ref().map_err(std::clone::Clone::clone)?;
        if let Some(address) = name.as_address() {
            return Ok(vec![address]);
        }
        if posthouse_io::on_worker() {
            return Err(ListenError::WouldBlock);
        }
        let found = self.shared.port.look_up(name);
        found.map_err(|error| ListenError::LookUp { address: listener.to_string(), error })
    }

    /// Returns the addresses of all listeners: first those of the builder in their order, then
    /// those that were added later. If a listener has stopped, the next new listener takes its
    /// position in the list. If port 0 was requested, the address has the port that the system
    /// chose. After a shutdown the list is empty.
    pub fn addresses(&self) -> Vec<Address> {
        self.shared.listeners.addresses()
    }

    /// Returns the name of the backend that does the I/O, such as `uring`.
    pub fn backend(&self) -> &'static str {
        self.shared.selected.backend
    }

    /// Returns the reason why this backend was chosen.
    pub fn backend_reason(&self) -> &str {
        &self.shared.selected.reason
    }

    /// Returns the layout: pinned or shared.
    pub fn layout(&self) -> Layout {
        match self.shared.selected.layout {
            posthouse_io::Layout::Pinned => Layout::Pinned,
            posthouse_io::Layout::Shared => Layout::Shared,
        }
    }

    /// Returns the options of the endpoint.
    pub fn options(&self) -> &EndpointOptions {
        &self.shared.options
    }

    /// Returns the tuning options of the endpoint.
    pub fn tuning(&self) -> &Tuning {
        &self.shared.tuning
    }

    /// Begins a connection to a target, with this initial state. Returns the connection's id
    /// without waiting. Posthouse later calls either [`connected`](Handler::connected) or
    /// [`connect_failed`](Handler::connect_failed). [`close`](Self::close) cancels the attempt.
    ///
    /// `connected` may run before this call returns. Use [`connect_with`](Self::connect_with) if
    /// the state needs the id.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] in these cases: the text is not an address; the endpoint has
    /// [`max_connections`](EndpointOptions::max_connections) connections and none of them can be
    /// evicted (see [`max_unadmitted`](EndpointOptions::max_unadmitted)); an option is out of its
    /// bounds; the credential is longer than 1 KiB; the endpoint shuts down. After an error no
    /// callback follows.
    pub fn connect(
        &self,
        target: impl Into<Target>,
        state: H::State,
    ) -> Result<PeerId, ConnectError> {
        self.connect_with(target, |_| state)
    }

    /// Begins a connection as [`connect`](Self::connect) does. The closure `state` makes the
    /// initial state from the id, before any callback of the connection. The closure can keep the
    /// id, but calls with the id have no effect until `connect_with` returns.
    ///
    /// # Errors
    ///
    /// The errors of [`connect`](Self::connect). `state` may have been called before the error.
    pub fn connect_with(
        &self,
        target: impl Into<Target>,
        state: impl FnOnce(PeerId) -> H::State,
    ) -> Result<PeerId, ConnectError> {
        let target = target.into();
        if let Err(error) = &target.address {
            return Err(error.clone().into());
        }
        if target.credential.len() > posthouse_wire::MAX_CREDENTIAL_BYTES {
            return Err(ConnectError::CredentialTooLong);
        }
        let view = self.view();
        let shared = &self.shared;
        let config = ConnectionConfig::for_target(&target, self.handler_id, self.send_configs())?;
        let id = shared.allocate_outgoing().ok_or(ConnectError::TooMany)?;
        // The slot is also released if `state` panics.
        let slot = Allocated { shared, id: Some(id) };
        let callbacks = Some(Contained::new(view.with_state(state(id))));
        // Checked after the slot was taken: a shutdown that begins later waits for this connection.
        if shared.lifecycle.shutdown_deadline().is_some() {
            return Err(ConnectError::Shutdown);
        }
        let connect = PeerPost::Connect { target: Box::new(target), config, callbacks };
        shared.post_bounded(id, connect).map_err(|_| ConnectError::Shutdown)?;
        slot.keep();
        Ok(id)
    }

    /// Sends a message to a connection of any handler, from any thread and any callback, without
    /// blocking. Messages from one thread to one connection arrive in the order of the calls.
    ///
    /// # Errors
    ///
    /// The call returns an error at once and sends nothing: [`SendError::NotConnected`] if the
    /// connection is not established or has ended, [`SendError::QueueFull`] if its send queue has
    /// no room, [`SendError::Busy`] if too many posts wait, and others if the message is not valid
    /// on this connection.
    pub fn send(&self, peer: PeerId, kind: u8, payload: &[u8]) -> Result<(), SendError> {
        self.shared.send_frame(
            peer,
            SendBound::Message,
            |config, limits, frame| {
                frame.reserve(payload.len() + 16);
                config.encode(kind, payload, limits, frame)
            },
            PeerPost::Frame,
        )
    }

    /// Runs a task on a connection's strand. The task can reach the connection's state. Use it, for
    /// example, to send a request ([`Peer::request`]), to read the state, or to do two things
    /// without another callback of the connection between them. `?` in the task closes that
    /// connection.
    ///
    /// **If the connection ends before the task runs, the task is dropped**, with everything that
    /// was moved into it. Do not move anything into the task that must not be lost.
    ///
    /// ```
    /// use posthouse::{Endpoint, Handler, PeerId, RunError};
    ///
    /// struct Players;
    ///
    /// impl Handler for Players {
    ///     type State = u32; // the score
    /// }
    ///
    /// // From any thread, for example when a database has answered.
    /// fn add_points(endpoint: &Endpoint<Players>, id: PeerId, by: u32) -> Result<(), RunError> {
    ///     endpoint.run(id, move |peer| {
    ///         *peer.state_mut() += by;
    ///         let (score, output) = peer.split();
    ///         output.send(40, &score.to_le_bytes());
    ///         Ok(())
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RunError::NotConnected`] if the connection is not established, [`RunError::WrongHandler`]
    /// if it belongs to another handler, [`RunError::Busy`] if too many posts wait.
    #[doc(alias = "spawn")]
    pub fn run(
        &self,
        peer: PeerId,
        task: impl FnOnce(&mut Peer<'_, H>) -> HandlerResult + Send + 'static,
    ) -> Result<(), RunError> {
        let gate = self.shared.registry.gate(peer).ok_or(RunError::NotConnected)?;
        let send_terms = gate.send_terms(peer.generation()).map_err(|error| run_error(&error))?;
        if send_terms.handler != self.handler_id {
            return Err(RunError::WrongHandler);
        }
        let task = move |callbacks: &mut dyn Callbacks, output: Output<'_>| {
            with_peer(callbacks, output, task)
        };
        self.shared
            .post(peer, PeerPost::Run(Contained::new(Box::new(task))))
            .map_err(|error| run_error(&error))
    }

    /// Closes a connection of any handler, or cancels an attempt to connect.
    ///
    /// # Errors
    ///
    /// [`RunError::NotConnected`] if the connection has ended, [`RunError::Busy`] if too many posts
    /// wait.
    pub fn close(&self, peer: PeerId, close: Close) -> Result<(), RunError> {
        if !self.shared.registry.is_current(peer) {
            return Err(RunError::NotConnected);
        }
        self.shared.post(peer, PeerPost::Close(close)).map_err(|error| run_error(&error))
    }

    /// Returns the addresses, age and counts of an established connection of any handler; `None`
    /// if there is no such connection.
    pub fn peer(&self, peer: PeerId) -> Option<PeerInfo> {
        self.shared.registry.info(peer, self.shared.port.now())
    }

    /// Returns a snapshot of all established connections of all handlers.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.registry.infos(self.shared.port.now())
    }

    /// Returns the number of connections of all handlers, including those that are connecting or
    /// closing.
    pub fn count(&self) -> usize {
        self.shared.registry.connections()
    }

    /// Returns the group of this name, and creates it if it does not exist. Its members may have
    /// different handlers.
    pub fn group(&self, name: &str) -> Group {
        Group { shared: self.shared.clone(), members: self.shared.groups.named(name) }
    }

    /// Returns the group of all established connections.
    pub fn everyone(&self) -> Group {
        Group { shared: self.shared.clone(), members: self.shared.everyone.clone() }
    }

    /// Runs a task once after this delay, on an I/O worker, outside of every strand. With several
    /// workers, tasks can run at the same time. A panic in the task is logged and counted. A
    /// shutdown drops the task.
    ///
    /// # Errors
    ///
    /// [`RunError::Shutdown`] if the endpoint shuts down, [`RunError::Busy`] if too many timers and
    /// posts wait (see [`max_posts`](Tuning::max_posts)).
    pub fn after(
        &self,
        delay: Duration,
        task: impl FnOnce(&Endpoint<H>) + Send + 'static,
    ) -> Result<(), RunError> {
        let endpoint = self.lent();
        let once: Box<dyn FnOnce() + Send> = Box::new(move || task(&endpoint));
        self.shared.add_timer(delay, TimerTask::Once(Contained::new(once)))
    }

    /// Runs a task repeatedly, the first time after one period, until it returns
    /// [`ControlFlow::Break`] or the endpoint shuts down. The next period begins when the task
    /// returns. A panic in the task is logged and counted, and does not end the repetition.
    ///
    /// ```
    /// use std::{ops::ControlFlow, time::Duration};
    /// use posthouse::{Endpoint, Handler};
    ///
    /// struct Devices;
    ///
    /// impl Handler for Devices {
    ///     type State = ();
    /// }
    ///
    /// let endpoint = Endpoint::builder(Devices).start()?;
    /// endpoint.every(Duration::from_secs(60), |endpoint| {
    ///     println!("{} connections", endpoint.count());
    ///     ControlFlow::Continue(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`after`](Self::after).
    #[doc(alias = "timer")]
    #[doc(alias = "interval")]
    pub fn every(
        &self,
        period: Duration,
        mut task: impl FnMut(&Endpoint<H>) -> ControlFlow<()> + Send + 'static,
    ) -> Result<(), RunError> {
        let endpoint = self.lent();
        let repeated: Repeated = Box::new(move || task(&endpoint));
        self.shared.add_timer(period, TimerTask::Every(period, Contained::new(repeated)))
    }

    /// Returns the time since the endpoint started. In simulation the time is virtual.
    pub fn now(&self) -> Duration {
        self.shared.port.now()
    }

    /// Returns the endpoint's counts, over all handlers.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            connections: shared.registry.connections(),
            unadmitted: shared.admissions.unadmitted(),
            assembly_bytes: shared.assembly_budget.bytes(),
            file_memory_bytes: shared.file_budgets.bytes_used() + shared.walks.used(),
            open_files: shared.file_budgets.files_used(),
            ..Stats::new(&shared.stats, shared.port.counters())
        }
    }

    /// Begins the shutdown and returns without waiting for its end. Any thread and any callback can
    /// call it. The endpoint closes its listeners, closes every connection gracefully, and aborts
    /// the connections that remain after `timeout`. A later call can only make the deadline
    /// earlier.
    ///
    /// A file operation cannot be cancelled. If a connection still waits for such an operation when
    /// ten seconds have passed since the deadline, the endpoint abandons the connection: it calls
    /// `disconnected`, and leaks the operation (see [`wait`](Self::wait)).
    pub fn shutdown(&self, timeout: Duration) {
        self.shared.begin_shutdown(timeout);
    }

    /// Waits until the endpoint has ended: its worker threads have ended, and its sockets and files
    /// are closed.
    ///
    /// There is one exception: after the connections are abandoned (see
    /// [`shutdown`](Self::shutdown)), `wait` does not wait for a file operation on a disk that
    /// hangs (such as a file server that is gone). Such an operation may never end. The endpoint
    /// leaks the memory and the file of such an operation, and the thread that waits for it. The
    /// log reports these operations, and [`operations_completed`](Stats::operations_completed) does
    /// not count them.
    ///
    /// # Errors
    ///
    /// [`WouldDeadlock`] if a callback makes the call: it would wait for itself.
    pub fn wait(&self) -> Result<(), WouldDeadlock> {
        if posthouse_io::on_worker() {
            return Err(WouldDeadlock);
        }
        self.shared.wait_for_end();
        Ok(())
    }

    /// Returns whether the endpoint has ended, so that [`wait`](Self::wait) would return at once.
    pub fn has_ended(&self) -> bool {
        self.shared.lifecycle.has_ended()
    }

    pub(crate) fn notify(&self) -> &posthouse_io::Notify {
        &self.shared.lifecycle.notify
    }
}

/// The slot of a connection that is not posted yet. Dropping it releases the slot.
struct Allocated<'a> {
    shared: &'a Shared,
    id: Option<PeerId>,
}

impl Allocated<'_> {
    fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Allocated<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.registry.release(id);
            self.shared.wake_all(); // a worker may have waited for this slot
        }
    }
}

fn run_error(error: &SendError) -> RunError {
    match error {
        SendError::Busy => RunError::Busy,
        _ => RunError::NotConnected,
    }
}
