//! 9P messages from a server that sends anything, in pieces of any size, and writes over the indices of the rings.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use xen9p::p9::wire::HEADER_LEN;
use xen9p::time::Instant;
use xen9p::transport::stream::{ByteStream, Framed};
use xen9p::transport::vchan::ring::{Ring, Violation};
use xen9p::transport::{Lane, Transport, TransportError};

use super::super::input::Input;
use super::MOST_OPERATIONS;
use super::end::{End, Shared};

/// An end of a vchan as the stream that 9P goes by.
struct Plain {
    ring: Ring,
    /// Looks at it in one operation.
    looks: u32,
}

impl Plain {
    fn on<T>(
        &mut self,
        act: impl FnOnce(&mut Ring) -> Result<T, Violation>,
    ) -> Result<T, TransportError> {
        self.looks += 1;
        act(&mut self.ring).map_err(|Violation(rule)| TransportError::Violation(rule))
    }
}

impl ByteStream for Plain {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        self.on(|ring| ring.read(into))
    }

    fn write(&mut self, from: &[u8]) -> Result<usize, TransportError> {
        self.on(|ring| ring.write(from))
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(1)
    }

    fn wait(&mut self, _: bool, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }

    fn close(&mut self) {
        self.ring.leave();
    }
}

/// The most looks at a ring that one operation takes: nothing comes into it meanwhile.
const MOST_LOOKS: u32 = 8;

/// A client's messages, whose server sends anything in pieces of any size.
pub fn run(memory: &Shared, server: Ring, start: u32, mut input: Input<'_>) {
    let client = memory.ends().attach().expect("the server is there");
    let mut client = client.expect("nothing was sent");
    client.join();
    let mut server = End::new(server, memory.orders, [start; 2]);
    let most = HEADER_LEN as u32 + input.number() % 6000;
    let mut transport = Framed::over(
        Plain {
            ring: client,
            looks: 0,
        },
        most,
    );
    // What was sent and is not consumed; what came of it at the end.
    let mut flow: VecDeque<u8> = VecDeque::new();
    let mut honest = true;
    let mut failed = None;
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = input.operation() else {
            return;
        };
        let looks = transport.stream().looks;
        match operation % 8 {
            // Bytes as they are, and a message whose size field says so, or says something else.
            0 => {
                let bytes = input.some();
                let count = server.write(memory, &bytes);
                flow.extend(&bytes[..count]);
            }
            1 | 2 => {
                let (len, cut) = (input.number() % 6000, input.number() as usize);
                let mut message = len.to_le_bytes().to_vec();
                message.resize((len as usize).max(HEADER_LEN), operation);
                message.truncate(if cut > 255 { message.len() } else { cut });
                let count = server.write(memory, &message);
                flow.extend(&message[..count]);
            }
            3 | 4 => {
                let peeked = transport.peek(Lane(0));
                if let Some(failed) = failed {
                    assert_eq!(peeked, Err(failed), "failed is failed");
                }
                match peeked {
                    Err(error) => failed = Some(error),
                    Ok(None) => {}
                    Ok(Some(header)) => {
                        let size = header.size as usize;
                        assert!((HEADER_LEN..=most as usize).contains(&size));
                        assert_eq!(transport.peek(Lane(0)), Ok(Some(header)), "it stays");
                        let mut into = vec![1; size + 20];
                        transport.copy_out(Lane(0), 0, &mut into);
                        assert!(into[size..].iter().all(|byte| *byte == 0));
                        if honest {
                            assert!(flow.iter().take(size).eq(&into[..size]), "in order");
                        }
                        if operation % 8 == 3 {
                            transport.consume(Lane(0));
                            flow.drain(..size.min(flow.len()));
                        }
                    }
                }
            }
            5 => {
                let message = vec![operation; HEADER_LEN + input.number() as usize % 3000];
                let sent = transport.send(Lane(0), &[&message[..]], 20);
                if let Some(failed) = failed {
                    assert_eq!(sent, Err(failed));
                }
                let _ = transport.flush();
                server.read(memory, input.number() as usize);
            }
            6 => {
                let index = 4 * (usize::from(operation >> 3) % 4);
                let value = memory.load(index).wrapping_add(input.number());
                memory.page().word(index).store(value, Ordering::Release);
                honest = false;
            }
            _ => {
                let waited = transport.wait(Instant::from_nanos(2));
                if let Err(error) = waited {
                    assert_eq!(*failed.get_or_insert(error), error);
                }
            }
        }
        assert!(transport.stream().looks - looks <= MOST_LOOKS);
    }
}
