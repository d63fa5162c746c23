//! The threads that carry the calls: few, each with its own runtime, pool and buffers.
//!
//! A connection lives and dies on one worker, so that nothing on the way of a call is shared
//! but atomics and snapshots. Whatever a worker starts it waits for.

use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    io,
    num::NonZeroUsize,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hyper::rt::Executor;
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::sleep,
};

use crate::{
    drain::Draining,
    listen::{self, Accepted, ConnectionFault, Crowd, Member, Observer, Place, Service, Waits},
};

/// Stack of a worker and of its helpers: input nested to the permitted depth must fit.
const STACK: usize = 8 * 1024 * 1024;
/// Helper threads of a worker for long computations and name look-ups.
const HELPERS: usize = 16;

/// The number of workers when the configuration does not say: two, or one on a single CPU.
pub fn default_count() -> NonZeroUsize {
    let cpus = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    cpus.min(NonZeroUsize::MIN.saturating_add(1))
}

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
    dispatcher: Dispatcher,
}

/// What is kept of one worker outside its thread.
#[derive(Debug)]
struct Handle {
    thread: thread::JoinHandle<()>,
    bound: oneshot::Sender<Duration>,
    ended: oneshot::Receiver<()>,
}

/// Hands accepted connections to workers.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    doors: Arc<[Door]>,
}

/// The way to one worker.
#[derive(Debug)]
struct Door {
    sender: mpsc::UnboundedSender<Arrival>,
    busy: Arc<AtomicUsize>,
}

/// A connection and its part of the worker's load.
#[derive(Debug)]
struct Arrival {
    accepted: Accepted,
    busy: Place,
}

/// Where a worker's service starts what runs beside its connections.
#[derive(Clone, Default)]
pub struct Tasks(Rc<TaskSets>);

#[derive(Default)]
struct TaskSets {
    work: RefCell<JoinSet<()>>,
    background: RefCell<JoinSet<()>>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").finish_non_exhaustive()
    }
}

impl Tasks {
    /// Runs a piece of work on this worker, for example the end of a call whose agent is gone.
    /// A drain waits for it like for a call.
    pub fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        let mut set = self.0.work.borrow_mut();
        while set.try_join_next().is_some() {}
        set.spawn_local(work);
    }

    /// Runs something that never ends on this worker, for example a periodic sweep. A drain
    /// cuts it: it must bear that at any await.
    pub fn background(&self, work: impl Future<Output = ()> + 'static) {
        self.0.background.borrow_mut().spawn_local(work);
    }

    /// Waits for all work, that which is spawned meanwhile included.
    async fn done(&self) {
        while poll_fn(|cx| self.0.work.borrow_mut().poll_join_next(cx))
            .await
            .is_some()
        {}
    }

    /// Cuts what still runs.
    fn cut(&self) {
        self.0.work.borrow_mut().abort_all();
        self.0.background.borrow_mut().abort_all();
    }
}

/// What an HTTP engine starts on this thread; gone when this is.
#[derive(Default)]
pub struct Beside(Rc<RefCell<JoinSet<()>>>);

/// The engine's way to start it.
#[derive(Clone)]
pub struct Starts(Weak<RefCell<JoinSet<()>>>);

impl Beside {
    /// For an engine, which does not keep it alive.
    pub fn starts(&self) -> Starts {
        Starts(Rc::downgrade(&self.0))
    }

    /// Runs something until it ends or this is gone.
    pub fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        let mut set = self.0.borrow_mut();
        while set.try_join_next().is_some() {}
        set.spawn_local(work);
    }
}

impl<F: Future + 'static> Executor<F> for Starts {
    fn execute(&self, work: F) {
        if let Some(set) = self.0.upgrade() {
            Beside(set).spawn(async move {
                work.await;
            });
        }
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").finish_non_exhaustive()
    }
}

impl fmt::Debug for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starts").finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts `count` workers. Each calls `build` once, on its own thread, for its service.
    ///
    /// # Errors
    ///
    /// When a thread or its runtime cannot be made.
    pub fn start<S, F>(
        count: NonZeroUsize,
        build: F,
        observer: &Observer,
        drain: &Draining,
    ) -> io::Result<Self>
    where
        S: Service,
        F: Fn(&Tasks) -> S + Send + Sync + 'static,
    {
        let build = Arc::new(build);
        let (mut handles, mut doors) = (vec![], vec![]);
        for index in 0..count.get() {
            let (sender, arrivals) = mpsc::unbounded_channel();
            let (bound, limited) = oneshot::channel();
            let (observer, drain) = (Arc::clone(observer), drain.clone());
            let worker = Worker {
                index,
                arrivals,
                limited,
                observer,
                drain,
            };
            let (thread, ended) = worker.start(Arc::clone(&build))?;
            handles.push(Handle {
                thread,
                bound,
                ended,
            });
            doors.push(Door {
                sender,
                busy: Arc::new(AtomicUsize::new(0)),
            });
        }
        Ok(Self {
            handles,
            dispatcher: Dispatcher {
                doors: doors.into(),
            },
        })
    }

    /// The way to the workers.
    pub fn dispatcher(&self) -> Dispatcher {
        self.dispatcher.clone()
    }

    /// Waits for the workers after the drain has begun: up to `bound` for calls under way, which
    /// are then cut.
    pub async fn finish(self, bound: Duration) {
        let Self {
            handles,
            dispatcher,
        } = self;
        // Workers end when no connection can come any more.
        drop(dispatcher);
        let mut ends = vec![];
        for handle in handles {
            // A worker that is gone needs no bound.
            handle.bound.send(bound).ok();
            ends.push((handle.thread, handle.ended));
        }
        for (thread, ended) in ends {
            // An error says that the worker is gone, which is what is waited for.
            ended.await.ok();
            // A panic of a worker was reported by its thread.
            thread.join().ok();
        }
    }
}

impl Dispatcher {
    /// Hands a connection to the worker with the fewest; dropped when the workers are gone.
    pub(crate) fn dispatch(&self, accepted: Accepted) {
        let load = |door: &&Door| door.busy.load(Ordering::Relaxed);
        if let Some(door) = self.doors.iter().min_by_key(load) {
            let busy = Place::take(&door.busy);
            // A closed door means that the drain is over: the connection is closed.
            door.sender.send(Arrival { accepted, busy }).ok();
        }
    }
}

/// What one worker starts with.
struct Worker {
    index: usize,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    limited: oneshot::Receiver<Duration>,
    observer: Observer,
    drain: Draining,
}

impl Worker {
    /// Starts the thread and waits until its runtime stands.
    fn start<S, F>(
        self,
        build: Arc<F>,
    ) -> io::Result<(thread::JoinHandle<()>, oneshot::Receiver<()>)>
    where
        S: Service,
        F: Fn(&Tasks) -> S + Send + Sync + 'static,
    {
        let (end, ended) = oneshot::channel();
        let (report, reported) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("worker-{}", self.index))
            .stack_size(STACK)
            .spawn(move || {
                let runtime = runtime(self.index);
                let (runtime, outcome) = match runtime {
                    Ok(runtime) => (Some(runtime), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                // The starter waits for this.
                report.send(outcome).ok();
                if let Some(runtime) = runtime {
                    runtime.block_on(self.run(&*build));
                    // Work that nobody waits for any more does not keep the process.
                    runtime.shutdown_timeout(Duration::from_secs(1));
                }
                // Nobody may be waiting any more.
                end.send(()).ok();
            })?;
        reported
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("a worker ended at its start")))?;
        Ok((thread, ended))
    }

    /// Serves connections until none can come any more and all have ended.
    async fn run<S, F>(mut self, build: &F)
    where
        S: Service,
        F: Fn(&Tasks) -> S,
    {
        let tasks = Tasks::default();
        let service = Rc::new(build(&tasks));
        let mut connections = JoinSet::new();
        let crowd = Crowd::default();
        loop {
            tokio::select! {
                arrival = self.arrivals.recv() => match arrival {
                    Some(arrival) => self.begin(arrival, &service, &mut connections, &crowd),
                    None => break,
                },
                Some(ended) = connections.join_next_with_id() => {
                    crowd.leave(ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
            }
        }
        let done = async {
            while connections.join_next().await.is_some() {}
            tasks.done().await;
        };
        tokio::select! {
            () = done => {}
            () = over(self.limited) => {}
        }
        connections.shutdown().await;
        tasks.cut();
        tasks.done().await;
    }

    /// Begins a connection, in another's place where its listener is full.
    fn begin<S: Service>(
        &self,
        arrival: Arrival,
        service: &Rc<S>,
        connections: &mut JoinSet<()>,
        crowd: &Crowd,
    ) {
        let Accepted {
            listener,
            peer,
            place,
            ..
        } = &arrival.accepted;
        let (listener, peer) = (Arc::clone(listener), *peer);
        if place.number() > listener.max_connections && !crowd.make_room(&listener, &self.observer)
        {
            (self.observer)(&listener, Some(&peer), ConnectionFault::TooManyConnections);
            return;
        }
        let waits = Rc::new(Waits::default());
        let serving = self.connection(arrival, service, Rc::clone(&waits));
        crowd.join(Member {
            listener,
            peer,
            waits,
            task: connections.spawn_local(serving),
        });
    }

    /// One connection, counted until it ends.
    fn connection<S: Service>(
        &self,
        arrival: Arrival,
        service: &Rc<S>,
        waits: Rc<Waits>,
    ) -> impl Future<Output = ()> + 'static {
        let Arrival { accepted, busy } = arrival;
        let (service, observer) = (Rc::clone(service), Arc::clone(&self.observer));
        let drain = self.drain.clone();
        async move {
            listen::serve(accepted, service, observer, drain, waits).await;
            drop(busy);
        }
    }
}

/// A runtime for this thread.
fn runtime(index: usize) -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .thread_name(format!("helper-{index}"))
        .max_blocking_threads(HELPERS)
        .build_local(LocalOptions::default())
}

/// Waits until the time for calls under way is over; a lost handle leaves none.
async fn over(limited: oneshot::Receiver<Duration>) {
    if let Ok(bound) = limited.await {
        sleep(bound).await;
    }
}
