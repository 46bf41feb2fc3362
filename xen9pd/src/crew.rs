//! Threads that take turns at sources of requests, so that one which takes long holds up none behind it.
//!
//! One thread at a time has a source, such as a ring or a socket. Before it does something that may take long, it hands the
//! source over to another thread; when it is done, it is free to take over a source itself. There are as many threads as
//! sources, and up to a limit more: one for each request that is under way apart.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Sources, and the threads that serve them.
pub struct Crew<S> {
    state: Mutex<State<S>>,
    changed: Condvar,
    max_threads: usize,
}

struct State<S> {
    /// Sources that no thread has.
    vacant: VecDeque<S>,
    /// Threads that wait for one.
    idle: usize,
    threads: usize,
    is_over: bool,
}

impl<S> Crew<S> {
    /// For this many threads at most.
    pub fn new(max_threads: usize) -> Crew<S> {
        Crew {
            state: Mutex::new(State {
                vacant: VecDeque::new(),
                idle: 0,
                threads: 0,
                is_over: false,
            }),
            changed: Condvar::new(),
            max_threads,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a source to another thread. `start` starts one that calls [`next`](Self::next) until there is none; it is
    /// called if no thread is free.
    ///
    /// # Errors
    /// The source, which the caller has to keep: all threads are busy, and there may be no more.
    pub fn hand_over(&self, source: S, start: impl FnOnce() -> io::Result<()>) -> Result<(), S> {
        let mut state = self.state();
        if state.idle <= state.vacant.len() {
            if state.threads >= self.max_threads || state.is_over {
                return Err(source);
            }
            if let Err(error) = start() {
                log::warn!("a request may hold up others, there is no thread for it: {error}");
                return Err(source);
            }
            state.threads += 1;
        }
        state.vacant.push_back(source);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The next source for the calling thread. `None`: the thread has nothing more to do.
    ///
    /// # Blocking
    /// Waits for a source, or for the end.
    pub fn next(&self) -> Option<S> {
        let mut state = self.state();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(source) = state.vacant.pop_front() {
                return Some(source);
            }
            state.idle += 1;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Ends: no thread gets a source any more.
    pub fn end(&self) {
        self.state().is_over = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_source_goes_on_while_its_thread_is_busy_up_to_the_limit() {
        let crew = Arc::new(Crew::new(2));
        let (took, taken) = mpsc::channel();
        let start = || {
            let (crew, took) = (Arc::clone(&crew), took.clone());
            thread::Builder::new().spawn(move || {
                while let Some(source) = crew.next() {
                    // Busy until the sender is dropped.
                    let (release, busy) = mpsc::channel::<()>();
                    took.send((source, release)).unwrap();
                    busy.recv().unwrap_err();
                }
                took.send(("end", mpsc::channel().0)).unwrap();
            })?;
            Ok(())
        };
        crew.hand_over("a", start).unwrap();
        let (first, busy_with_a) = taken.recv().unwrap();
        crew.hand_over("b", start).unwrap();
        let (second, busy_with_b) = taken.recv().unwrap();
        assert_eq!((first, second), ("a", "b"));
        assert_eq!(crew.hand_over("c", start), Err("c"));
        drop(busy_with_a);
        // The thread that becomes free takes it: no third one may be started.
        while crew
            .hand_over("c", || Err(io::ErrorKind::Other.into()))
            .is_err()
        {
            thread::yield_now();
        }
        assert_eq!(taken.recv().unwrap().0, "c");
        crew.end();
        drop(busy_with_b);
        for _ in 0..2 {
            assert_eq!(taken.recv().unwrap().0, "end");
        }
        assert_eq!(crew.hand_over("d", start), Err("d"));
    }

    #[test]
    fn a_thread_that_can_t_be_started_leaves_the_source_where_it_was() {
        let crew = Crew::new(5);
        let refused = crew.hand_over("a", || Err(io::ErrorKind::OutOfMemory.into()));
        assert_eq!(refused, Err("a"));
    }
}
