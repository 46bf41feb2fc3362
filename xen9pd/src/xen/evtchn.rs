//! Event channels: `/dev/xen/evtchn`.
//!
//! Each channel has a descriptor of its own, so that a thread can wait for one ring by reading, with no list of ports that
//! could overflow. Linux masks a port when it hands its event out, and unmasks it when the port is written back: done only
//! after the ring was found empty, a busy frontend costs no interrupts.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::ioctl::Control;

const BIND_INTERDOMAIN: Control<[u32; 2]> = Control::new(b'E', 1);
const NOTIFY: Control<u32> = Control::new(b'E', 4);
const RESTRICT_DOMID: Control<u16> = Control::new(b'E', 6);

/// The request of ioctl(2) that a process makes once its channels are bound.
pub const NOTIFY_REQUEST: u32 = NOTIFY.opcode();

/// How the thread of a ring hears of the frontend, and tells it.
pub trait Events: Send + Sync {
    /// Sends an event to the other end. One that is gone is told nothing.
    fn notify(&self);

    /// Lets events come again after [`wait`](Self::wait) took one. One that came meanwhile comes at once.
    ///
    /// # Errors
    /// Those of the device.
    fn unmask(&self) -> io::Result<()>;

    /// Waits for an event, up to `timeout` if there is one, and maybe less. Returns whether there was one. No other comes
    /// before [`unmask`](Self::unmask). One thread at a time may wait.
    ///
    /// # Errors
    /// Those of the device.
    fn wait(&self, timeout: Option<Timespec>) -> io::Result<bool>;
}

/// The own end of an event channel. Dropping it closes the port.
#[derive(Debug)]
pub struct EventChannel {
    file: File,
    port: u32,
}

impl EventChannel {
    /// Binds to a port that another domain has offered.
    ///
    /// # Errors
    /// There is no such port, it was not offered to this domain, or it is taken.
    pub fn bind(domain: u16, remote: u32) -> io::Result<EventChannel> {
        let file = super::open("evtchn", OFlags::empty())?;
        let mut argument = [domain.into(), remote];
        // SAFETY: struct ioctl_evtchn_bind_interdomain, two numbers of 32 bits.
        let port = unsafe { BIND_INTERDOMAIN.call(&file, &mut argument) }?;
        Ok(EventChannel { file, port })
    }

    /// From now on the descriptor can be bound to ports of that domain only.
    ///
    /// # Errors
    /// Linux before 4.9 can't.
    pub fn restrict(&self, domain: u16) -> io::Result<()> {
        // SAFETY: struct ioctl_evtchn_restrict_domid, a number of 16 bits.
        unsafe { RESTRICT_DOMID.call(&self.file, &mut { domain }) }?;
        Ok(())
    }

    /// The number of the own port.
    pub fn port(&self) -> u32 {
        self.port
    }
}

impl Events for EventChannel {
    fn notify(&self) {
        // SAFETY: struct ioctl_evtchn_notify, a number of 32 bits.
        let _ = unsafe { NOTIFY.call(&self.file, &mut { self.port }) };
    }

    fn unmask(&self) -> io::Result<()> {
        (&self.file).write_all(&self.port.to_ne_bytes())
    }

    fn wait(&self, timeout: Option<Timespec>) -> io::Result<bool> {
        // Reading blocks; the call before it is made only where there is a bound.
        if timeout.is_some() {
            let mut files = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut files, timeout.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut fired = [0; 4];
        (&self.file).read_exact(&mut fired)?;
        Ok(true)
    }
}
